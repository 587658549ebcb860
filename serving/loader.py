"""An export folder -> an engine that has proved to compute what the trainer did."""

import json
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor

from serving.engine import Limits, TorchEngine
from serving.engine_protocol import Engine, Served
from serving.export.hugging_face import read_dtype
from serving.gate import BOUNDS, Gate, Parity
from serving.kernel_model import KernelTransformer, fits
from serving.kernels import kernels
from serving.packed_matrix import Bf16Matrix, Int8Matrix, buckets
from serving.packed_model import PackedTransformer
from serving.parity import (
    TOLERANCE_FILE,
    Forward,
    check_close,
    check_parity,
    check_tokenizer,
    measure,
    network_forward,
    read_record,
    rounded,
)
from serving.runner import Network, Runner
from serving.scheduler import Chunk, Sequence
from serving.settings import Settings
from serving.tensorrt import TensorrtEngine, load_tensorrt
from trainer.artifacts import file_sha256, folder_hashes
from trainer.data.tokenizer import Tokenizer
from trainer.model.config import ModelConfig
from trainer.model.mixtral import load_model, read_config
from trainer.model.transformer import Transformer

LocalEngine = TorchEngine | TensorrtEngine  # engines of this process, which somebody must run


def load_export(export: Path, settings: Settings) -> Served:
    """`load_engine`, running in a thread of this process."""
    served = load_engine(export, settings)
    assert isinstance(served.engine, LocalEngine)
    served.engine.start()
    return served


def load_engine(export: Path, settings: Settings, after_step: Callable[[], None] = lambda: None) -> Served:
    """Verify, load, check parity through the very path that answers, warm up; the engine is still to be run.

    Raises:
        ValueError: the export is incomplete, damaged, or does not compute what was trained; or it does not fit.
    """
    verify_files(export)
    config, tokenizer = read_config(export), Tokenizer.load(export)
    if config.aggregate_slots:
        raise ValueError(
            f"{export} holds a global aggregate, which serving cannot compute yet; make it with an export job, which "
            f"leaves the aggregate out and serves contexts up to the window of {config.sliding_window} tokens"
        )
    if tokenizer.vocab_size > config.vocab_size:
        raise ValueError(
            f"{export}: the tokenizer knows {tokenizer.vocab_size} tokens, the network only {config.vocab_size}"
        )
    engine: Engine
    if settings.serving_engine == "tensorrt":
        engine, context, gate = load_tensorrt(export, tokenizer, after_step)
    else:
        engine, gate = _torch_engine(export, config, tokenizer, settings, after_step)
        context = config.max_position_embeddings
    return Served(
        engine=engine,
        gate=gate,
        tokenizer=tokenizer,
        context=context,
        vocab_size=tokenizer.vocab_size,
        created=int(time.time()),
    )


def verify_files(folder: Path) -> None:
    """Every file is what was written.

    Raises:
        ValueError: the folder is not complete, or a file is missing or changed; it is named.
    """
    for name, expected in folder_hashes(folder).items():
        path = folder / name
        if not path.is_file() or file_sha256(path) != expected:
            raise ValueError(f"{path} is missing or not what was exported; run the export job again")


def read_tolerance(export: Path) -> float:
    """The largest difference of logits that the export job accepted, in float32."""
    path = export / TOLERANCE_FILE
    if not path.is_file():
        raise ValueError(f"{export} has no {TOLERANCE_FILE}: it was not made by an export job")
    return float(json.loads(path.read_text())["tolerance"])


def paged_forward(runner: Runner, block_size: int) -> Forward:
    """The network as the engine runs it: the prompt in two chunks and its last token alone, over a paged cache."""

    @torch.inference_mode()
    def forward(tokens: list[int]) -> tuple[Tensor, tuple[Tensor, ...]]:
        blocks = list(range(-(-len(tokens) // block_size)))
        sequence = Sequence("parity", tokens, blocks)
        cuts = sorted({0, len(tokens) // 2, len(tokens) - 1, len(tokens)})
        outputs = [runner.forward([Chunk(sequence, start, end - start)]) for start, end in pairwise(cuts)]
        routers = zip(*(output.router_logits_TE for output in outputs), strict=True)
        hidden_LD = torch.cat([output.hidden_BLD[0] for output in outputs])
        return runner.model.logits(hidden_LD), tuple(torch.cat(parts) for parts in routers)

    return forward


def _torch_engine(
    export: Path, config: ModelConfig, tokenizer: Tokenizer, settings: Settings, after_step: Callable[[], None]
) -> tuple[TorchEngine, Gate]:
    limits, record = limits_for(config, settings), read_record(export)
    check_tokenizer(tokenizer, record)
    model = load_model(export, torch.float32).to(_device(settings)).eval()
    exact = _prove(model, record, limits, read_tolerance(export))
    dtype = coarsest(read_dtype(export), settings.serving_dtype)
    plain = exact if dtype == "float32" else measure(network_forward(rounded(model, dtype)), record)
    runner = Runner(as_served(model, settings.serving_dtype), limits.num_blocks, limits.block_size)
    gate = _prove_served(runner, record, limits, dtype, exact, plain)
    _warm_up(runner, limits)
    return TorchEngine(runner, tokenizer, limits, after_step), gate


@torch.inference_mode()
def as_served(model: Transformer, dtype: str) -> Network:
    """The float32 network in the numbers it is to answer in, laid out for a CPU where it runs on one.

    Raises:
        ValueError: the device has no way to compute in these numbers.
    """
    on_cpu = model.embed_tokens.weight.device.type == "cpu"
    if dtype == "int8" and not on_cpu:
        raise ValueError("OCTAVO_SERVING_DTYPE int8 is for CPUs; set bfloat16, or OCTAVO_SERVING_DEVICE to cpu")
    if not on_cpu or dtype == "float32":
        return model.to(getattr(torch, dtype))
    if fits(model.config) and kernels() is not None:
        return KernelTransformer(model, getattr(torch, dtype))
    return PackedTransformer(model, Int8Matrix if dtype == "int8" else Bf16Matrix)


def _device(settings: Settings) -> torch.device:
    if settings.serving_device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(settings.serving_device)


def limits_for(config: ModelConfig, settings: Settings) -> Limits:
    """Blocks that the KV memory holds, but no more than all sequences at full length need.

    Raises:
        ValueError: the memory does not hold one sequence of the whole context.
    """
    bytes_per_number = 4 if settings.serving_dtype == "float32" else 2
    per_token = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim * bytes_per_number
    block_size = settings.serving_block_size
    one_context = -(-config.max_position_embeddings // block_size)
    affordable = settings.serving_kv_megabytes * 2**20 // (per_token * block_size)
    if affordable < one_context:
        needed = -(-one_context * block_size * per_token // 2**20)
        raise ValueError(
            f"OCTAVO_SERVING_KV_MEGABYTES {settings.serving_kv_megabytes} is too little for one sequence of "
            f"{config.max_position_embeddings} tokens; set it to at least {needed}"
        )
    num_blocks = min(affordable, one_context * settings.serving_max_sequences)
    return Limits(settings.serving_batch_tokens, settings.serving_max_sequences, num_blocks, block_size)


def _prove(model: Transformer, record: dict[str, Tensor], limits: Limits, tolerance: float) -> Parity:
    """In float32, where every logit can be compared."""
    blocks = -(-int(record["lengths"].max()) // limits.block_size)
    forward = paged_forward(Runner(model, blocks, limits.block_size), limits.block_size)
    return check_parity(forward, record, tolerance)


def _prove_served(
    runner: Runner, record: dict[str, Tensor], limits: Limits, dtype: str, exact: Parity, plain: Parity
) -> Gate:
    """In the numbers it answers in. `exact` is what float32 has shown, `plain` what `dtype` costs the plain network."""
    if dtype == "float32":
        return Gate(dtype, exact.max_difference, exact)
    served = measure(paged_forward(runner, limits.block_size), record)
    check_close(served, plain, BOUNDS[dtype], dtype)
    return Gate(dtype, exact.max_difference, served)


def coarsest(*dtypes: str) -> str:
    """The numbers that decide how close to training a network can be."""
    return max(dtypes, key=("float32", *BOUNDS).index)


def _warm_up(runner: Runner, limits: Limits) -> None:
    """The first batches of a process are slow (kernels are chosen, memory is taken): not on a client's time. With
    torch's own kernels for a CPU, a batch of every number of tokens that they are built for."""
    sizes = buckets(limits.max_batch_tokens)
    if not isinstance(runner.model, PackedTransformer):
        sizes = [1, limits.max_batch_tokens]
    blocks = list(range(min(limits.num_blocks, -(-sizes[-1] // limits.block_size))))
    sequence = Sequence("warm-up", [0] * len(blocks) * limits.block_size, blocks)
    for size in sizes:
        runner.run([Chunk(sequence, 0, min(size, len(sequence.tokens)))])
