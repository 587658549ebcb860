"""Import: a checkpoint from elsewhere becomes an ordinary one of ours; a dense network becomes a Mixture of Experts."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from trainer.artifacts import Run, new_folder, step_folder
from trainer.data.foreign_tokenizer import read_tokenizer
from trainer.model import gguf
from trainer.model.config import ModelConfig
from trainer.model.mixtral import save_weights
from trainer.model.pretrained import read_pretrained
from trainer.model.transformer import Transformer, count_parameters
from trainer.model.upcycling import grow_vocabulary, upcycle
from trainer.spec import ImportSpec

EXPERTS, TOP_K = 8, 2  # Mixtral's
PROBE_LENGTH = 64

Network = tuple[ModelConfig, dict[str, Tensor]]


def run(spec: ImportSpec, run: Run) -> None:
    """Leaves a checkpoint of step 0."""
    run.progress(0, 3, "reading")
    with hugging_face_folder(Path(spec.source), run) as folder:
        original = read_pretrained(folder)
        tokenizer = read_tokenizer(folder, original[0].vocab_size, run.log)
    run.progress(1, 3, "adding experts")
    network = grow_vocabulary(*with_context(spec, *original), tokenizer.vocab_size)
    config, state = with_experts(spec, *network, run)
    difference = largest_difference(original, (config, state))
    run.progress(2, 3, "writing")
    with new_folder(step_folder(run.folder.checkpoints, 0)) as folder:
        save_weights(folder, config, state, tokenizer)
    parameters = count_parameters(config)
    run.folder.write_result(
        {
            "source": spec.source,
            "parameters": parameters.total,
            "active_parameters": parameters.active,
            "experts_before": original[0].num_local_experts,
            "vocab_size": tokenizer.vocab_size,
            "logits_differ_by": difference,
            "model": config.model_dump(),
        }
    )
    run.log(
        f"imported {parameters.total:,} parameters, {parameters.active:,} of them active; "
        f"logits differ by at most {difference:.2g}"
    )
    run.progress(3, 3, "done")


@contextmanager
def hugging_face_folder(source: Path, run: Run) -> Iterator[Path]:
    """The source, or for a .gguf file a temporary folder with what it holds.

    Raises:
        ValueError: it does not exist, or is no such file.
    """
    if source.is_dir():
        yield source
    elif source.suffix == ".gguf" and source.is_file():
        with TemporaryDirectory(dir=run.folder.path) as folder:
            gguf.unpack(source, Path(folder))
            yield Path(folder)
    else:
        raise ValueError(f"source '{source}' is no folder and no .gguf file; give the checkpoint to import")


def with_context(spec: ImportSpec, config: ModelConfig, state: dict[str, Tensor]) -> Network:
    """The network with a shorter context, where one is asked for.

    Raises:
        ValueError: it is longer than the one the network was made for.
    """
    if spec.context is None:
        return config, state
    if spec.context > config.max_position_embeddings:
        raise ValueError(f"context {spec.context} exceeds the checkpoint's, {config.max_position_embeddings} tokens")
    window = config.sliding_window if (config.sliding_window or 0) <= spec.context else None
    changes = {"max_position_embeddings": spec.context, "sliding_window": window}
    return config.model_copy(update=changes), state


def with_experts(spec: ImportSpec, config: ModelConfig, state: dict[str, Tensor], run: Run) -> Network:
    """A dense network upcycled as asked for; a Mixture of Experts as it is.

    Raises:
        ValueError: experts were asked for where there are some already.
    """
    if config.num_local_experts > 1:
        if spec.experts or spec.top_k:
            raise ValueError(
                f"the checkpoint has {config.num_local_experts} experts already, and 'experts' and 'top_k' are for a "
                "dense one; leave them out"
            )
        return config, state
    experts = spec.experts or EXPERTS
    top_k = spec.top_k or min(TOP_K, experts)
    run.log(f"each MLP becomes {experts} equal experts, of which a token goes to {top_k}")
    return upcycle(config, state, experts, top_k, torch.Generator().manual_seed(spec.seed))


@torch.no_grad()
def largest_difference(before: Network, after: Network) -> float:
    """Between the logits of two networks on random tokens that both know."""
    vocabulary, length = before[0].vocab_size, min(PROBE_LENGTH, after[0].max_position_embeddings)
    tokens_BL = torch.randint(vocabulary, (1, length), generator=torch.Generator().manual_seed(0))
    logits = []
    for config, state in (before, after):
        with torch.device("meta"):
            model = Transformer(config)
        model.load_state_dict(state, assign=True)
        logits.append(model.logits(model(tokens_BL).hidden_BLD)[..., :vocabulary])
    return float((logits[0] - logits[1]).abs().max())
