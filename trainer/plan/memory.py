"""Bytes that a training run holds on each device and on disk, by part and by layout.

Symbols: T tokens of a device's rows, L tokens a row, D hidden size, H query and G key/value heads of width K, E experts
of width F of which a token takes k, V vocabulary, b bytes a number.
"""

from dataclasses import dataclass
from math import gcd
from typing import NamedTuple

import torch

from trainer.devices import Format
from trainer.engine.checkpoint import KEPT
from trainer.engine.muon import is_inner_matrix
from trainer.model.attention import EXPLICIT_UP_TO, query_blocks
from trainer.model.config import ModelConfig
from trainer.model.moe import padding
from trainer.model.transformer import Block, Parameters, Transformer
from trainer.spec import OptimizerName

FLOAT32 = 4


@dataclass(frozen=True)
class Layout:
    """How a run lies on its devices: ZeRO's stage, and over how many devices each layer's experts are spread."""

    devices: int = 1
    zero: int = 0
    expert_parallel: int = 1

    def __str__(self) -> str:
        if self.devices == 1:
            return "one device"
        if self.expert_parallel == 1:
            return f"ZeRO-{self.zero}"
        return f"experts {self.expert_parallel} x data {self.devices // self.expert_parallel}, ZeRO-{self.zero}"


def layouts(config: ModelConfig, devices: int) -> list[Layout]:
    """One device; ZeRO over all; experts spread as far as their number allows, with ZeRO for the rest."""
    if devices == 1:
        return [Layout()]
    spread = gcd(config.num_local_experts, devices)
    over_experts = [Layout(devices, zero, spread) for zero in (1, 2)] if spread > 1 else []
    return [Layout(), *(Layout(devices, zero) for zero in (1, 2, 3)), *over_experts]


def width(format: Format) -> int:
    """Bytes of a weight, a gradient and an activation; fp8 serves within products only."""
    return FLOAT32 if format == "fp32" else 2


class States(NamedTuple):
    """`optimizer` holds the moments and, where the network is narrower, float32 copies of weights and gradients."""

    weights: float
    gradients: float
    optimizer: float


def state_bytes(
    config: ModelConfig, parameters: Parameters, layout: Layout, format: Format, optimizer: OptimizerName = "adamw"
) -> States:
    """What training holds on each device whatever the batch.

    ZeRO (Rajbhandari et al. 2020, section 5) splits the optimizer from stage 1 on, the gradients from stage 2 on, the
    weights with stage 3, which gathers a whole block while it computes. What expert parallelism leaves on a device,
    ZeRO splits over the devices that hold the same experts.
    """
    whole = parameters.total - parameters.experts + parameters.experts / layout.expert_parallel
    part = parameters.total / layout.devices
    gathered = block_parameters(config) if layout.zero == 3 else 0
    b = width(format)
    copies = 2 if b < FLOAT32 else 0
    single = single_moments(config, optimizer)
    experts = parameters.experts if optimizer == "muon" else 0
    single_here = single / layout.devices if layout.zero else single - experts + experts / layout.expert_parallel
    return States(
        weights=b * ((part if layout.zero >= 3 else whole) + gathered),
        gradients=b * ((part if layout.zero >= 2 else whole) + gathered),
        optimizer=FLOAT32 * ((2 + copies) * (part if layout.zero >= 1 else whole) - single_here),
    )


def single_moments(config: ModelConfig, optimizer: OptimizerName) -> int:
    """How many parameters have one moment, as Muon's matrices do; AdamW keeps two of each."""
    if optimizer == "adamw":
        return 0
    with torch.device("meta"):
        named = Transformer(config).named_parameters()
        return sum(parameter.numel() for name, parameter in named if is_inner_matrix(name, parameter))


def block_parameters(config: ModelConfig) -> int:
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in Block(config, 0).parameters())


class Activations(NamedTuple):
    """What backward needs of each layer, of all that stands once around the layers, and of a layer's input alone."""

    layer: float
    around: float
    inputs: float


def activation_bytes(config: ModelConfig, rows: int, length: int, format: Format) -> Activations:
    """What autograd keeps of a forward pass over `rows` rows on one device, without a compiler.

    norm      T·(8·D + 4 + b·D)            input and quotient in float32, the scale, the output
    attention T·b·(2·H·K + 2·G·K)          queries, keys, values, output, and
              T·b·H·S or T·4·H             the probabilities of S keys on average, or the fused kernel's logarithms
    experts   T·(4·E + 28·k) + R·b·(2·D + 3·F)   routing; R padded rows in and out, gate, up, their product
    around    norm + b·T·D + 4·V·D         the gradients that the chunked cross-entropy makes at once
              T·(8 + 2·b·K), T·b·L         token ids, rotary tables, and the fused kernel's mask
    """
    T, D, b = rows * length, config.hidden_size, width(format)
    H, G, K = config.num_attention_heads, config.num_key_value_heads, config.head_dim
    E, k, F = config.num_local_experts, config.num_experts_per_tok, config.intermediate_size
    norm = T * (8 * D + 4 + b * D)
    explicit = length <= EXPLICIT_UP_TO
    scores = rows * H * sum((stop - start) * stop for start, stop in query_blocks(length))
    attention = T * b * (2 * H * K + 2 * G * K) + (b * scores if explicit else T * 4 * H)
    experts = T * (4 * E + 28 * k) + padding(T * k, E)[1] * b * (2 * D + 3 * F)
    tables = T * (8 + 2 * b * K) + (0 if explicit else T * b * length)
    around = norm + b * T * D + FLOAT32 * config.vocab_size * D + tables
    return Activations(layer=2 * norm + attention + experts, around=around, inputs=b * T * D)


def kept_bytes(config: ModelConfig, activations: Activations, recompute: bool) -> float:
    """All layers' activations; or, with each block recomputed in backward, all their inputs and one layer's."""
    if recompute:
        return config.num_hidden_layers * activations.inputs + activations.layer + activations.around
    return config.num_hidden_layers * activations.layer + activations.around


def kv_bytes(config: ModelConfig, length: int, format: Format) -> int:
    """Keys and values of one sequence while it is being continued: 2·layers·G·K·b for each token in the window."""
    seen = min(length, config.sliding_window or length)
    return config.kv_numbers * width(format) * seen


def checkpoint_bytes(parameters: Parameters) -> int:
    """A persistent checkpoint's weights, in float32."""
    return FLOAT32 * parameters.total


def snapshot_bytes(config: ModelConfig, parameters: Parameters, optimizer: OptimizerName = "adamw") -> int:
    """The volatile snapshots with weights and moments in float32: those kept, and the one being written."""
    return (KEPT + 1) * FLOAT32 * (3 * parameters.total - single_moments(config, optimizer))
