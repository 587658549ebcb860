"""Presets: their sizes are those they are named for, and a spec takes them by name."""

import json

import pytest
from pydantic import ValidationError

from trainer.model.presets import PRESETS, regrained
from trainer.model.transformer import count_parameters
from trainer.spec import JOB_SPEC, SftSpec

SFT = {"kind": "sft", "name": "sft", "inputs": {"dataset": "d"}, "steps": 1, "optimizer": {"lr": 1e-3}}


def sft(model: object) -> SftSpec:
    spec = JOB_SPEC.validate_python({**SFT, "model": model})
    assert isinstance(spec, SftSpec)
    return spec


@pytest.mark.parametrize(
    ("name", "least", "most"),
    [("nano", 1.5e6, 2.5e6), ("micro", 1.1e8, 1.2e8), ("small", 1.0e9, 1.2e9), ("mixtral-8x7b", 4.6e10, 4.7e10),
     ("article", 1.7e11, 1.8e11)],
)  # fmt: skip
def test_a_preset_has_the_size_it_is_named_for(name: str, least: float, most: float) -> None:
    assert least <= count_parameters(PRESETS[name]).total <= most


@pytest.mark.parametrize(("coarse", "fine"), [("coarse-35", "fine-12"), ("article-35", "article-12")])
def test_the_pair_of_claim_5_is_one_size_and_differs_in_what_a_token_activates(coarse: str, fine: str) -> None:
    counts = [count_parameters(PRESETS[name]) for name in (coarse, fine)]
    assert counts[0].experts == counts[1].experts
    assert counts[0].total == pytest.approx(counts[1].total, rel=3e-3)  # the routers differ
    shares = [round(100 * count.active / count.total) for count in counts]
    assert shares == [35, 12]


@pytest.mark.parametrize("name", PRESETS)
def test_experts_come_in_eighths_so_that_groups_of_2_3_and_3_stay_whole(name: str) -> None:
    assert PRESETS[name].num_local_experts % 8 == 0


def test_experts_cut_anew_hold_the_same_parameters_down_to_a_dense_network() -> None:
    whole = count_parameters(PRESETS["micro"])
    for experts in (1, 4, 64):
        counts = count_parameters(regrained(PRESETS["micro"], experts, 1))
        assert counts.experts == whole.experts
    dense = count_parameters(regrained(PRESETS["micro"], 1, 1))
    assert dense.active == dense.total
    with pytest.raises(ValueError, match="8192 does not divide into 3"):
        regrained(PRESETS["micro"], 3, 1)


def test_a_spec_takes_a_preset_by_name_and_keeps_the_whole_config() -> None:
    assert sft("small").model == PRESETS["small"]
    assert json.loads(sft("small").model_dump_json())["model"]["hidden_size"] == PRESETS["small"].hidden_size
    changed = sft({"preset": "small", "vocab_size": 512}).model
    assert changed == PRESETS["small"].model_copy(update={"vocab_size": 512})


def test_a_wrong_name_lists_the_presets_and_a_wrong_field_is_named() -> None:
    with pytest.raises(ValidationError, match="unknown preset 'huge'; there are: nano, micro"):
        sft("huge")
    with pytest.raises(ValidationError, match="give its name alone"):
        sft({"preset": "small", **PRESETS["nano"].model_dump()})
    with pytest.raises(ValidationError, match="hiden_size"):
        sft({"preset": "small", "hiden_size": 512})
