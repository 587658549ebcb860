"""Does this network compute what the trainer's did? Compared with the record that was taken from the live weights.

Shapes: P prompts, L tokens, V vocabulary, N layers, E experts, k experts a token.
"""

import math
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from serving.gate import CLEAR_MARGIN, KL_FACTOR, NEGLIGIBLE_KL, Bounds, Parity
from serving.int8 import round_rows
from trainer.data.tokenizer import Tokenizer
from trainer.model.moe import route
from trainer.model.transformer import Transformer
from trainer.objectives import categorical_kl
from trainer.spec import Message

PARITY_FILE, TOLERANCE_FILE = "parity.safetensors", "parity.json"
KEYS = ("tokens", "lengths", "logits", "choices", "margins", "text", "text_tokens", "chat_tokens")

# One prompt's tokens -> (scores [L, V], router scores [L, E] of each layer), all float32.
Forward = Callable[[list[int]], tuple[Tensor, tuple[Tensor, ...]]]


def read_record(folder: Path) -> dict[str, Tensor]:
    """The parity record of a checkpoint or export.

    Raises:
        ValueError: it is missing or damaged.
    """
    path = folder / PARITY_FILE
    try:
        record: dict[str, Tensor] = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{path} cannot be read, so parity with training cannot be checked: {error}") from error
    missing = [key for key in KEYS if key not in record]
    if missing:
        raise ValueError(
            f"{path} lacks {', '.join(missing)}: an older version wrote it; an import job of its folder saves it anew"
        )
    return record


def check_tokenizer(tokenizer: Tokenizer, record: dict[str, Tensor]) -> None:
    """The tokenizer turns the recorded text, alone and as a chat, into the tokens training would.

    Raises:
        ValueError: it does not; names the first token that differs.
    """
    text = bytes(record["text"].tolist()).decode()
    chat, _ = tokenizer.encode_chat([Message(role="user", content=text)], add_generation_prompt=True)
    for what, found, expected in (
        ("text", tokenizer.encode(text), record["text_tokens"].tolist()),
        ("chat", chat, record["chat_tokens"].tolist()),
    ):
        if found == expected:
            continue
        pairs = enumerate(zip(found, expected, strict=False))
        at = next((place for place, (one, other) in pairs if one != other), min(len(found), len(expected)))
        mine, trained = (str(ids[at]) if at < len(ids) else "nothing" for ids in (found, expected))
        raise ValueError(
            f"parity check failed: the tokenizer makes token {at} of the recorded {what} {mine}, training made it "
            f"{trained}; not the tokenizer the network was trained with"
        )


# -- comparing -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Prompt:
    """One prompt of the record as this network reads it. Expert numbers are sorted."""

    number: int
    num_experts: int
    difference_L: Tensor  # largest absolute difference of a position's logits
    kl_L: Tensor
    same_best_L: Tensor
    chosen_NLk: Tensor
    recorded_NLk: Tensor
    margins_NL: Tensor

    @property
    def other_NL(self) -> Tensor:
        """Where other experts were chosen than recorded."""
        return (self.chosen_NLk != self.recorded_NLk).any(dim=-1)


@dataclass(frozen=True)
class _Wrong:
    """The first position of a prompt that is not what was recorded, and how."""

    position: int
    what: str


@dataclass
class _Tally:
    """Sums over all prompts."""

    margin: float
    max_difference: float = 0.0
    positions: int = 0
    excused: int = 0
    clear_choices: int = 0
    same_choices: int = 0
    same_experts: int = 0
    kl: float = 0.0
    same_best: int = 0
    num_experts: int = 0

    def add(self, prompt: _Prompt, compared: int) -> None:
        """Count a prompt, of which the first `compared` positions have comparable logits."""
        length, clear_NL = len(prompt.difference_L), prompt.margins_NL > self.margin
        clear_NL[:, compared:] = False
        self.num_experts = prompt.num_experts
        self.max_difference = max([self.max_difference, *prompt.difference_L[:compared].tolist()])
        self.positions, self.excused = self.positions + length, self.excused + length - compared
        self.clear_choices += int(clear_NL.sum())
        self.same_choices += int((clear_NL & ~prompt.other_NL).sum())
        same_L = ~prompt.other_NL.any(dim=0)
        self.same_experts += int(same_L.sum())
        self.kl += float(prompt.kl_L[same_L].sum())
        self.same_best += int(prompt.same_best_L.sum())

    def parity(self, record: dict[str, Tensor]) -> Parity:
        used = sum(len(set(layer.flatten().tolist())) for layer in record["choices"])
        return Parity(
            max_difference=self.max_difference,
            positions=self.positions,
            excused=self.excused,
            unused_experts=self.num_experts * len(record["choices"]) - used,
            choice_agreement=self.same_choices / self.clear_choices if self.clear_choices else 1.0,
            mean_kl=self.kl / self.same_experts if self.same_experts else math.nan,
            top1_agreement=self.same_best / self.positions,
        )


def check_parity(forward: Forward, record: dict[str, Tensor], tolerance: float) -> Parity:
    """Run every prompt of the record and compare logits and expert choices.

    Where the trainer's choice of the last expert was closer than `tolerance` (of probability), another choice is
    allowed, and the logits from that token on are excused, since they may differ by any amount.

    Raises:
        ValueError: a logit differs by more than `tolerance`, or another expert was chosen; says where.
    """
    tally, wrong = _Tally(tolerance), []
    for prompt in _prompts(forward, record):
        compared, wrong_choice = _first_flip(prompt, tolerance)
        found = [item for item in (wrong_choice, _wrong_logits(prompt, compared, tolerance)) if item is not None]
        wrong.append(found)
        tally.add(prompt, compared)
    if (first := next((found[0] for found in wrong if found), None)) is not None:
        raise ValueError(f"parity check failed: {first.what}{_hint(wrong)}")
    if tally.excused == tally.positions:
        raise ValueError("parity check failed: every position hangs on an expert choice too close to compare")
    return tally.parity(record)


def measure(forward: Forward, record: dict[str, Tensor]) -> Parity:
    """Run every prompt of the record in numbers coarser than float32, where single logits and close choices differ."""
    tally = _Tally(CLEAR_MARGIN)
    for prompt in _prompts(forward, record):
        tally.add(prompt, len(prompt.difference_L))
    return tally.parity(record)


def check_close(served: Parity, rounded: Parity, bounds: Bounds, dtype: str) -> None:
    """Compare what `dtype` costs as it is served with what it costs the plain network.

    Raises:
        ValueError: serving differs from training by more than rounding can explain; says in what.
    """
    allowed = min(bounds.max_mean_kl, max(NEGLIGIBLE_KL, KL_FACTOR * rounded.mean_kl))
    failed = []
    if not served.mean_kl <= allowed:  # nor is it when it is NaN
        failed.append(f"a KL divergence of {served.mean_kl:.3g} nats a token (allowed: {allowed:.3g})")
    for what, found, least in (
        ("likeliest token", served.top1_agreement, bounds.min_top1_agreement),
        ("experts, where the choice is clear,", served.choice_agreement, bounds.min_choice_agreement),
    ):
        if found is not None and found < least:
            failed.append(f"the same {what} in {found:.1%} of the cases only (needed: {least:.0%})")
    if failed:
        raise ValueError(
            f"parity check failed in {dtype}: {'; '.join(failed)}. In float32 it is the network that was trained: "
            "what differs is how serving computes in these numbers"
        )


def _prompts(forward: Forward, record: dict[str, Tensor]) -> Iterator[_Prompt]:
    for number, length in enumerate(record["lengths"].tolist()):
        logits_LV, routers = forward(record["tokens"][number, :length].tolist())
        logits_LV, recorded_LV = logits_LV.cpu(), record["logits"][number, :length]
        recorded_NLk = record["choices"][:, number, :length].long()
        chosen = [route(router_LE, recorded_NLk.shape[-1]).choices_Tk.cpu() for router_LE in routers]
        yield _Prompt(
            number=number,
            num_experts=routers[0].shape[1],
            difference_L=(logits_LV - recorded_LV).abs().amax(dim=-1),
            kl_L=categorical_kl(recorded_LV, logits_LV),
            same_best_L=logits_LV.argmax(dim=-1) == recorded_LV.argmax(dim=-1),
            chosen_NLk=torch.stack(chosen).sort(dim=-1).values,
            recorded_NLk=recorded_NLk.sort(dim=-1).values,
            margins_NL=record["margins"][:, number, :length],
        )


def _first_flip(prompt: _Prompt, tolerance: float) -> tuple[int, _Wrong | None]:
    """How many positions come before the first other, excusable, choice of experts; and the first that is not."""
    first, wrong = len(prompt.difference_L), None
    for layer, other_L in enumerate(prompt.other_NL):
        # After an excused flip, in this layer or below, everything may differ.
        position = next(iter(other_L[:first].nonzero().flatten().tolist()), None)
        if position is None:
            continue
        margin = float(prompt.margins_NL[layer, position])
        if margin > tolerance and wrong is None:
            what = (
                f"layer {layer} sends token {position} of prompt {prompt.number} to experts "
                f"{prompt.chosen_NLk[layer, position].tolist()}, training sent it to "
                f"{prompt.recorded_NLk[layer, position].tolist()} (margin {margin:.3g}); experts or router are not "
                "those that were trained"
            )
            wrong = _Wrong(position, what)
        first = position
    return first, wrong


def _wrong_logits(prompt: _Prompt, compared: int, tolerance: float) -> _Wrong | None:
    difference_L = prompt.difference_L[:compared]
    # A comparison with NaN is false, so "not within" also refuses a network that gives no numbers.
    wrong_L = ~(difference_L <= tolerance)
    if not wrong_L.any():
        return None
    worst = int(difference_L.argmax())
    return _Wrong(
        int(wrong_L.nonzero()[0]),
        f"logits differ from training by {float(difference_L[worst]):.3g} (allowed: {tolerance:g}), worst at prompt "
        f"{prompt.number}, position {worst}; not the network that was trained",
    )


def _hint(wrong: list[list[_Wrong]]) -> str:
    """A token alone is right and the next one wrong, in every prompt: a wrong weight would show in first tokens too."""
    if all(found and min(item.position for item in found) == 1 for found in wrong):
        return ". Every prompt is right in its first token and wrong from its second: look at rope_theta and attention"
    return ""


def rounded(model: Transformer, dtype: str) -> Transformer:
    """A copy of the network in coarser numbers, computed in the plain way: bfloat16, before which int8 rounds each row
    of a layer's matrices to 8 bits, the router's excepted."""
    copied = deepcopy(model)
    if dtype == "int8":
        with torch.no_grad():
            for name, weight in copied.layers.named_parameters():
                if weight.dim() > 1 and "router" not in name:
                    steps, step = round_rows(weight)
                    weight.copy_(steps * step.unsqueeze(-1))
    return copied.to(torch.bfloat16)


def network_forward(model: Transformer) -> Forward:
    """The plain network, without a cache."""

    @torch.inference_mode()
    def forward(tokens: list[int]) -> tuple[Tensor, tuple[Tensor, ...]]:
        output = model(torch.tensor([tokens], device=model.embed_tokens.weight.device))
        return model.logits(output.hidden_BLD[0]), output.router_logits_TE

    return forward
