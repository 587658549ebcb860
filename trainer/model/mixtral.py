"""Our parameters under Mixtral's names and back, as files that transformers, vLLM and TensorRT-LLM open unchanged."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from trainer.data.tokenizer import Tokenizer
from trainer.model.config import ModelConfig
from trainer.model.moe import route
from trainer.model.transformer import Transformer

PARITY_SEED, PARITY_PROMPTS, PARITY_LENGTH = 20_260_101, 4, 48
_RENAMED = {
    "embed_tokens.weight": "model.embed_tokens.weight",
    "norm.weight": "model.norm.weight",
    "lm_head.weight": "lm_head.weight",
}


def to_mixtral(config: ModelConfig, ours: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """State dict of `Transformer` -> state dict of `MixtralForCausalLM`; expert stacks are taken apart."""
    theirs: dict[str, Tensor] = {}
    for name, tensor in ours.items():
        if name in _RENAMED:
            theirs[_RENAMED[name]] = tensor
            continue
        prefix, short = _split(name)
        if short == "moe.gate_up_EGD":
            for expert, stacked_GD in enumerate(tensor):
                gate_FD, up_FD = stacked_GD.chunk(2)
                theirs[f"{prefix}block_sparse_moe.experts.{expert}.w1.weight"] = gate_FD
                theirs[f"{prefix}block_sparse_moe.experts.{expert}.w3.weight"] = up_FD
        elif short == "moe.down_EDF":
            for expert, down_DF in enumerate(tensor):
                theirs[f"{prefix}block_sparse_moe.experts.{expert}.w2.weight"] = down_DF
        else:
            theirs[prefix + _short_name(short)] = tensor
    if config.tie_word_embeddings:
        theirs.pop("lm_head.weight", None)
    return {name: tensor.contiguous() for name, tensor in theirs.items()}


def from_mixtral(config: ModelConfig, theirs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `to_mixtral`.

    Raises:
        ValueError: a tensor is missing, has another shape, or has no place in the network; it is named.
    """
    left = dict(theirs)
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in Transformer(config).state_dict().items()}

    def take(name: str) -> Tensor:
        if name not in left:
            raise ValueError(f"the checkpoint has no tensor '{name}'")
        return left.pop(name)

    ours = {name: _gather(config, name, take) for name in shapes if not _is_tied(config, name)}
    for name, tensor in ours.items():
        if tensor.shape != shapes[name]:
            raise ValueError(
                f"'{name}' has shape {tuple(tensor.shape)} in the checkpoint; the config wants {tuple(shapes[name])}"
            )
    if left:
        raise ValueError(f"the network has no place for tensor '{sorted(left)[0]}' ({len(left)} such)")
    if config.tie_word_embeddings:
        ours["lm_head.weight"] = ours["embed_tokens.weight"]
    return ours


def _is_tied(config: ModelConfig, name: str) -> bool:
    return config.tie_word_embeddings and name == "lm_head.weight"


def _split(name: str) -> tuple[str, str]:
    """'layers.3.moe.down_EDF' -> ('model.layers.3.', 'moe.down_EDF')."""
    _, layer, short = name.split(".", 2)
    return f"model.layers.{layer}.", short


def _short_name(short: str) -> str:
    """'attention.q_proj.weight' -> 'self_attn.q_proj.weight'; the norms are called the same."""
    for ours, theirs in (("attention.", "self_attn."), ("moe.router.", "block_sparse_moe.gate.")):
        if short.startswith(ours):
            return theirs + short.removeprefix(ours)
    return short


def _gather(config: ModelConfig, name: str, take: Any) -> Tensor:
    """One of our tensors from theirs; `take` pops a named tensor."""
    if name in _RENAMED:
        tensor: Tensor = take(_RENAMED[name])
        return tensor
    prefix, short = _split(name)
    experts = [f"{prefix}block_sparse_moe.experts.{expert}." for expert in range(config.num_local_experts)]
    if short == "moe.gate_up_EGD":
        return torch.stack([torch.cat((take(e + "w1.weight"), take(e + "w3.weight"))) for e in experts])
    if short == "moe.down_EDF":
        return torch.stack([take(e + "w2.weight") for e in experts])
    tensor = take(prefix + _short_name(short))
    return tensor


def hf_config(config: ModelConfig, dtype: str, end_id: int | None = None, pad_id: int | None = None) -> dict[str, Any]:
    """config.json. Both spellings of rope and dtype are written: older readers know only the first of each."""
    return {
        **config.model_dump(),
        "architectures": ["MixtralForCausalLM"],
        "model_type": "mixtral",
        "head_dim": config.head_dim,
        "hidden_act": "silu",
        "attention_dropout": 0.0,
        "router_aux_loss_coef": 0.0,
        "output_router_logits": False,
        "use_cache": True,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_theta},
        "torch_dtype": dtype,
        "dtype": dtype,
        "bos_token_id": None,
        "eos_token_id": end_id,
        "pad_token_id": pad_id,
    }


def read_config(folder: Path) -> ModelConfig:
    """The network's shape from a config.json.

    Raises:
        ValueError: the file is missing, or is not Mixtral's.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise ValueError(f"{folder} has no config.json: this is no checkpoint")
    raw = json.loads(path.read_text())
    if raw.get("model_type") != "mixtral":
        raise ValueError(f"{path} is of type '{raw.get('model_type')}'; Octavo opens 'mixtral'")
    return ModelConfig(**{name: raw[name] for name in ModelConfig.model_fields if name in raw})


def load_model(folder: Path, dtype: torch.dtype = torch.float32) -> Transformer:
    """A network with the weights of a checkpoint or export folder.

    Raises:
        ValueError: a file is missing or damaged, or a tensor is missing, misshapen or unknown.
    """
    config = read_config(folder)
    try:
        theirs = load_file(folder / "model.safetensors")
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{folder / 'model.safetensors'} cannot be read: {error}") from error
    with torch.device("meta"):
        model = Transformer(config)
    ours = {name: tensor.to(dtype) for name, tensor in from_mixtral(config, theirs).items()}
    model.load_state_dict(ours, assign=True)
    if config.tie_word_embeddings:
        model.lm_head.weight = model.embed_tokens.weight
    return model.eval()


def save_weights(folder: Path, config: ModelConfig, state: Mapping[str, Tensor], tokenizer: Tokenizer) -> None:
    """Write a checkpoint's files into `folder`: config, float32 weights, tokenizer and the parity record."""
    state = {name: tensor.detach().float().cpu() for name, tensor in state.items()}
    save_file(to_mixtral(config, state), folder / "model.safetensors", metadata={"format": "pt"})
    end_id, pad_id = tokenizer.end_id, tokenizer.pad_id
    (folder / "config.json").write_text(json.dumps(hf_config(config, "float32", end_id, pad_id), indent=1))
    generation = {"eos_token_id": end_id, "pad_token_id": pad_id}
    (folder / "generation_config.json").write_text(json.dumps(generation, indent=1))
    tokenizer.save(folder)
    save_file(parity_record(config, state), folder / "parity.safetensors")


@torch.no_grad()
def parity_record(config: ModelConfig, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What serving must reproduce: logits, expert choices and their margins on a few prompts, in float32.

    Keys: tokens [P, L] int32, lengths [P] int32, logits [P, L, V], choices [layers, P, L, k] int32, margins
    [layers, P, L]: how far the last chosen expert's probability lies above the first not chosen.
    """
    model = Transformer(config)
    model.load_state_dict(dict(state))
    generator = torch.Generator().manual_seed(PARITY_SEED)
    length = min(config.max_position_embeddings, max(PARITY_LENGTH, 2 * (config.sliding_window or 0)))
    tokens_PL = torch.randint(config.vocab_size, (PARITY_PROMPTS, length), generator=generator)
    output = model(tokens_PL)
    k = config.num_experts_per_tok
    routers = output.router_logits_TE
    choices = [route(logits_TE, k).choices_Tk.view(PARITY_PROMPTS, length, k) for logits_TE in routers]
    margins = [_margins(logits_TE, k).view(PARITY_PROMPTS, length) for logits_TE in routers]
    return {
        "tokens": tokens_PL.int(),
        "lengths": torch.full((PARITY_PROMPTS,), length, dtype=torch.int32),
        "logits": model.logits(output.hidden_BLD),
        "choices": torch.stack(choices).int(),
        "margins": torch.stack(margins),
    }


def _margins(logits_TE: Tensor, k: int) -> Tensor:
    """Probability of the k-th expert minus that of the next; 1 where there is no next."""
    if k == logits_TE.shape[1]:
        return torch.ones(len(logits_TE))
    best_Tk = logits_TE.float().softmax(dim=-1).topk(k + 1, dim=-1).values
    return best_Tk[:, k - 1] - best_Tk[:, k]
