import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.claims import claim_02_long_documents as long
from benchmarks.claims import claim_05_sparse_activation as sparse
from benchmarks.claims import claim_09_precision, registry
from benchmarks.claims.__main__ import main
from benchmarks.claims.claim import Claim, Measurement
from benchmarks.claims.claim_03_dynamic_capacity import State, StaticCapacity
from benchmarks.claims.claim_04_specialists import by_domain
from benchmarks.claims.claim_06_curriculum import even_mix, middle_accuracy
from benchmarks.claims.interval import Interval, t_interval, t_quantile
from benchmarks.claims.runner import describe, judge, keep, run
from tests.trainer import tiny
from trainer.data.code_rows import Gap
from trainer.data.rows import Batch, open_rows
from trainer.engine.dynamic_capacity import DynamicCapacity, capacity_metrics
from trainer.model.generate import generate
from trainer.model.moe import route
from trainer.model.transformer import Output, count_parameters
from trainer.spec import CURRICULUM, PhaseSpec


def test_every_experiment_loads_under_its_number() -> None:
    assert registry.modules()
    for number in registry.modules():
        assert registry.load(number).number == number


def test_an_unknown_claim_lists_those_that_exist(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--claim", "99"]) == 1
    assert "no experiment for claim 99 yet; there are experiments for: 1, 2, 3" in capsys.readouterr().err


def test_fewer_than_three_seeds_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--claim", "3", "--seeds", "2"]) == 1
    assert "at least 3 seeds" in capsys.readouterr().err


@pytest.mark.parametrize(("degrees", "quantile"), [(1, 12.7062), (2, 4.30265), (10, 2.22814), (200, 1.97190)])
def test_t_quantiles_are_those_of_the_tables(degrees: int, quantile: float) -> None:
    assert t_quantile(0.95, degrees) == pytest.approx(quantile, abs=1e-4)


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=6))
def test_the_interval_holds_the_mean_in_its_middle(values: list[float]) -> None:
    mean, low, high = t_interval(values)
    assert low <= mean <= high
    assert high - mean == pytest.approx(mean - low, abs=1e-6)


@pytest.mark.parametrize(
    ("claimed", "measured", "verdict"),
    [
        (27, Interval(30, 25, 35), "met"),
        (27, Interval(10, 5, 15), "not met"),
        (27, Interval(-5, -7, -3), "not met"),
        (27, Interval(12, -20, 44), "not measurable at this size"),
        (-63, Interval(-70, -75, -65), "met"),
        (-63, Interval(-30, -35, -25), "not met"),
    ],
)
def test_a_claim_is_met_only_when_reached_and_told_from_nothing(
    claimed: float, measured: Interval, verdict: str
) -> None:
    assert judge(claimed, measured) == verdict


def test_results_are_merged_by_claim(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def measure(seed: int, quick: bool) -> Measurement:
        return Measurement(before=10.0, after=20.0 + seed)

    claim = Claim(number=2, title="a", unit="%", before=10, after=15, measure=measure)
    path = tmp_path / "claims.json"
    first, second = run(claim, [0, 1, 2], quick=True), run(claim, [1, 2, 3], quick=False)
    assert "claim 2: seed 3, 3 of 3" in capsys.readouterr().err
    keep(path, {11: first})
    keep(path, {2: first})
    keep(path, {2: second})
    kept = json.loads(path.read_text())
    assert list(kept) == ["2", "11"]
    assert kept["2"]["seeds"] == [1, 2, 3]
    assert kept["2"]["gain"] == pytest.approx(12.0)
    assert kept["2"]["verdict"] == "met"
    assert kept["11"]["quick"] is True


def test_a_claim_without_a_figure_is_met_by_any_gain_that_is_told_from_none() -> None:
    claim = Claim(
        number=4, title="a", unit="%", measure=lambda seed, quick: Measurement(before=10.0, after=20.0 + seed)
    )
    outcome = run(claim, [0, 1, 2], quick=True)
    assert outcome.verdict == "met"
    assert "no figure" in describe(4, outcome)
    assert judge(claim.gain, Interval(0.5, -0.1, 1.1)) == "not measurable at this size"
    assert judge(claim.gain, Interval(-0.5, -0.9, -0.1)) == "not met"


def an_output(seed: int, skew: float) -> tuple[Output, Batch]:
    """A router of two layers that prefers the later of its eight experts, and 16 rows of 32 tokens."""
    logits = torch.randn(2, 512, 8, generator=torch.Generator().manual_seed(seed)) + skew * torch.arange(8.0)
    routing = tuple(route(logits_TE, 2) for logits_TE in logits)
    rows = torch.ones(16, 32, dtype=torch.long)
    return Output(torch.zeros(0), tuple(logits), routing), Batch(rows, rows, rows.bool(), rows, rows)


@pytest.mark.parametrize("wanted", [0.05, 0.2])
def test_static_slots_come_to_overflow_as_often_as_wanted(wanted: float) -> None:
    static = StaticCapacity(tiny.config(), wanted)
    found = []
    for step in range(60):
        output, batch = an_output(step, skew=0.3)
        found.append(capacity_metrics(output, static.rooms(batch))["capacity/overflow"])
        before = static.factor
        static.observe(output, batch)
        assert (static.factor > before) == (found[-1] > wanted)
    assert sum(found[20:]) / 40 == pytest.approx(wanted, abs=0.01)


def test_slots_that_follow_a_skewed_load_are_used_better_than_even_ones() -> None:
    """With the history equal to the present the mechanism must pay, for all its random term."""
    dynamic = DynamicCapacity(State(torch.Generator().manual_seed(0)), tiny.config())
    found = []
    for step in range(40):
        output, batch = an_output(step, skew=0.4)
        found.append(capacity_metrics(output, dynamic.rooms(batch)))
        dynamic.observe(output, batch)
    overflow, used = (sum(row[f"capacity/{name}"] for row in found[1:]) / 39 for name in ("overflow", "utilisation"))
    static = StaticCapacity(tiny.config(), overflow)
    for step in range(80):
        output, batch = an_output(step, skew=0.4)
        even = capacity_metrics(output, static.rooms(batch))["capacity/utilisation"]
        static.observe(output, batch)
    assert used > 1.1 * even


def test_accuracy_and_loss_by_domain_are_those_of_each_token(tmp_path: Path) -> None:
    rows = open_rows(tiny.tokenized_run(tmp_path / "d").artifact("tokens"), "heldout")["text"]
    model, batch = tiny.network(), rows.take(torch.arange(len(rows)).numpy())
    found = by_domain(model, rows)
    logits = model.logits(model(batch.tokens_BL, segments_BL=batch.segments_BL).hidden_BLD)
    losses, right = [], []
    for row in range(len(rows)):
        for place in range(batch.tokens_BL.shape[1] - 1):
            if batch.segments_BL[row, place] == batch.segments_BL[row, place + 1]:
                target = batch.tokens_BL[row, place + 1]
                losses.append(-logits[row, place].log_softmax(dim=0)[target].item())
                right.append(float(logits[row, place].argmax() == target))
    assert found["loss/code"] == pytest.approx(sum(losses) / len(losses), rel=1e-5)
    assert found["accuracy/code"] == pytest.approx(100 * sum(right) / len(right), rel=1e-5)
    assert "accuracy/general" not in found, "the tiny rows hold code only"


def test_what_this_machine_cannot_measure_has_no_figure_but_its_details() -> None:
    def measure(seed: int, quick: bool) -> Measurement:
        return Measurement(before=None, after=None, details={"loss": 2.0 + seed})

    claim = Claim(number=9, title="a", unit="%", before=0, after=92, measure=measure)
    outcome = run(claim, [0, 1, 2], quick=True)
    assert outcome.verdict == "not measurable at this size"
    assert outcome.before is outcome.after is outcome.gain is outcome.interval is None
    said = describe(9, outcome)
    assert "not on this machine" in said
    low, high = t_interval([2.0, 3.0, 4.0])[1:]
    assert f"3  ({low:.5g} to {high:.5g})" in said
    assert json.loads(json.dumps(outcome.model_dump(), allow_nan=False))["after"] is None


@pytest.mark.parametrize("name", ["fp32", "fp8", "fp16 after overflows"])
def test_an_arm_of_the_precision_claim_trains_and_measures(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = tiny.tokenized_run(tmp_path / "data").artifact("tokens")
    monkeypatch.setattr(claim_09_precision, "mixed_rows", lambda split: open_rows(tokens, split)["text"])
    arm = claim_09_precision.ARMS[name]
    before, after = (claim_09_precision.train(arm, seed=0, steps=steps) for steps in (1, 15))
    assert after["heldout_loss"] < before["heldout_loss"]
    assert 0 <= after["zero_gradient_share"] < 1
    assert ("loss_scale" in after) == (arm.precision == "fp16")


LONG = long.task(layers=2, window=16, chunks=24, facts=6, slots=12, steps=3)


def far_facts(tokens_BL: torch.Tensor, answer_BF: torch.Tensor) -> torch.Tensor:
    """Where the facts stand that are asked for from far, [B, F/2]."""
    far_BF = answer_BF[:, : LONG.facts // 2]
    key_BF, value_BF = (tokens_BL.gather(1, at_BF) for at_BF in (far_BF - 1, far_BF))
    fact_BF = long.FIRST_FACT + key_BF * long.VALUES + value_BF - long.FIRST_VALUE
    return (tokens_BL.unsqueeze(1) == fact_BF.unsqueeze(2)).int().argmax(dim=2)


def test_a_fact_is_planted_once_before_its_question_and_either_out_of_reach_or_in_the_window() -> None:
    asked = long.documents(LONG, 20, np.random.default_rng(0))
    for tokens_L, answer_F in zip(asked.tokens_BL, asked.answer_BF, strict=True):
        facts_X = ((tokens_L >= long.FIRST_FACT) & (tokens_L < long.FIRST_FILLER)).nonzero().flatten()
        planted_X = tokens_L[facts_X] - long.FIRST_FACT
        keys_X, values_X = planted_X // long.VALUES, planted_X % long.VALUES
        assert len(set(keys_X.tolist())) == LONG.facts == len(keys_X)
        for number, answer in enumerate(answer_F.tolist()):
            (at,) = (keys_X == tokens_L[answer - 1]).nonzero().flatten().tolist()
            assert values_X[at] == tokens_L[answer] - long.FIRST_VALUE
            back = answer - 1 - int(facts_X[at])
            assert back > 2 * 15 if number < LONG.facts // 2 else 0 < back < 16


def test_only_the_aggregate_lets_a_far_fact_through() -> None:
    asked = long.documents(LONG, 4, np.random.default_rng(1))
    at_BF = far_facts(*asked)
    for aggregate in (False, True):
        model = long.new_network(LONG.config, aggregate, seed=0)
        for number in range(LONG.facts // 2):
            other_BL = asked.tokens_BL.scatter(1, at_BF[:, number : number + 1], long.FIRST_FILLER)
            with_it_BV, without_BV = (
                long.answers(model, asked._replace(tokens_BL=tokens_BL))[0][:, number]
                for tokens_BL in (asked.tokens_BL, other_BL)
            )
            changed_B = (with_it_BV - without_BV).abs().amax(dim=1)
            assert (changed_B > 1e-4).all() if aggregate else (changed_B < 1e-5).all()


def test_without_the_aggregate_the_network_is_the_same_within_the_window() -> None:
    tokens_BL = long.documents(LONG, 4, np.random.default_rng(1)).tokens_BL[:, :16]
    bare, whole = (long.new_network(LONG.config, aggregate, seed=0) for aggregate in (False, True))
    torch.testing.assert_close(bare(tokens_BL).hidden_BLD, whole(tokens_BL).hidden_BLD)


def test_the_long_document_claim_measures_both_arms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long, "QUICK", LONG)
    found = long.measure(0, quick=True)
    assert found.before is not None
    assert found.after is not None
    assert len(found.details) == 4
    assert all(0 <= value <= 100 for value in found.details.values())


def test_networks_of_claim_5_have_one_size_and_the_shares_that_it_names() -> None:
    for whole in (sparse.QUICK, sparse.COARSE):
        counts = {name: count_parameters(c) for name, c in sparse.arms(whole).items()}
        assert {name: round(100 * c.active / c.total) for name, c in counts.items()} == {
            "dense": 100,
            "35 %": 35,
            "12 %": 12,
        }
        totals = [count.total for count in counts.values()]
        assert max(totals) < 1.01 * min(totals)


def test_every_network_of_claim_5_trains_and_decodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = tiny.tokenized_run(tmp_path / "data").artifact("tokens")
    monkeypatch.setattr(sparse, "NEW_TOKENS", 2)
    monkeypatch.setattr(sparse, "mixed_rows", lambda split: open_rows(tokens, split)["text"])
    shape = tiny.config(intermediate_size=64)
    before, after = (sparse.experiment(shape, seed=0, steps=steps) for steps in (4, 12))
    speeds = after.details | sparse.decode(sparse.arms(shape), seed=0)
    for name in sparse.arms(shape):
        assert after.details[f"{name}: held-out loss"] < before.details[f"{name}: held-out loss"]
        assert speeds[f"{name}: decoding, tokens/s"] > 0
    assert after.before is not None
    assert after.after is not None
    assert after.after < after.before


def test_a_ratio_of_speeds_is_the_median_over_rounds_without_those_that_warm_up() -> None:
    warm = [{"dense": 9.0, "35 %": 1.0, "12 %": 1.0}] * sparse.WARM_ROUNDS
    rounds = [{"dense": 4.0 * load, "35 %": 2.0 * load, "12 %": 1.0 * load} for load in (1, 10, 2)]
    found = sparse.compare("training", 100, warm + rounds)
    assert found["training: 12 % over dense, times"] == 4
    assert found["training: 35 % over dense, times"] == 2
    assert found["12 %: training, tokens/s"] == 50


def test_the_even_mix_draws_what_the_phases_draw_together() -> None:
    (phase,) = even_mix(CURRICULUM)
    assert phase.mix == pytest.approx({"text": 0.55, "completion": 0.225, "dialogue": 0.225})
    scaled = tuple(
        PhaseSpec(phase=p.phase, share=p.share, mix={k: 7 * v for k, v in p.mix.items()}) for p in CURRICULUM
    )
    assert even_mix(scaled)[0].mix == pytest.approx(phase.mix), "weights of a mix have any scale"


def test_middle_accuracy_is_the_share_of_tokens_that_greedy_decoding_would_say() -> None:
    model = tiny.network()
    (said,) = generate(model, [[1, 2, 3]], max_new_tokens=10, end_id=0)
    wrong = [*said.tokens[:-1], (said.tokens[-1] + 1) % tiny.VOCABULARY]
    assert middle_accuracy(model, [Gap([1, 2, 3], said.tokens)]) == 1
    assert middle_accuracy(model, [Gap([1, 2, 3], wrong), Gap([1, 2, 3], said.tokens)]) == 1 - 1 / (2 * len(wrong))
