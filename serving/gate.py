"""What the parity gate found and what it allows. Holds no tensors, so that whoever reports it loads no torch."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Parity:
    """How far a network is from the trainer's record; differences are of logits, absolute."""

    max_difference: float
    positions: int
    excused: int  # positions after an expert choice that was too close to call; not in max_difference
    # Of an engine that does not show its experts' choices, the next two are unknown.
    unused_experts: int | None  # (layer, expert) pairs that no token of the record chose: not covered
    choice_agreement: float | None  # share of (layer, token) pairs with the recorded experts, of clear choices
    mean_kl: float  # KL(training || this network), nats a token, over positions whose experts are the recorded ones
    top1_agreement: float  # share of positions with the recorded likeliest token


# A choice of experts counts in coarser numbers where the trainer's was clearer than this, of probability.
CLEAR_MARGIN = 0.05
# The KL divergence of what is served may be so many times that of the plain network rounded alike, or negligible. Two
# exchanged experts of a random network multiply it by 25 and more; those that hardly any token of the record uses can
# be told from rounding in float32 only.
KL_FACTOR, NEGLIGIBLE_KL = 8.0, 1e-5


@dataclass(frozen=True)
class Bounds:
    """What numbers coarser than float32 may cost at most, over the whole record."""

    max_mean_kl: float
    min_top1_agreement: float
    min_choice_agreement: float


BOUNDS = {
    "bfloat16": Bounds(max_mean_kl=0.01, min_top1_agreement=0.94, min_choice_agreement=0.99),
    "int8": Bounds(max_mean_kl=0.03, min_top1_agreement=0.9, min_choice_agreement=0.97),
}


@dataclass(frozen=True)
class Gate:
    """A passed gate: the network in float32, and in the numbers it answers in."""

    dtype: str  # of those numbers, or of the export's where they are coarser
    float32_difference: float | None  # of an engine that can compute in it
    served: Parity
