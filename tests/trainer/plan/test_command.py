"""python -m trainer plan: from a recipe, a file or a preset to figures; wrong input is one sentence."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.trainer import tiny
from trainer.__main__ import main
from trainer.flops import training_flops
from trainer.model.presets import PRESETS
from trainer.spec import JOB_SPEC, Job, load_recipe


def planned(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    """The one plan that the command prints as JSON."""
    assert main(["plan", *arguments, "--json"]) == 0
    [found] = json.loads(capsys.readouterr().out)
    return dict(found)


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["plan", *arguments]) == 1
    return capsys.readouterr().err


def test_a_recipe_is_planned_by_its_own_rows_and_steps(capsys: pytest.CaptureFixture[str]) -> None:
    job = next(job for job in load_recipe("nano").jobs if job.kind == "sft")
    found = planned(capsys, "nano")
    assert found["tokens"] == job.steps * job.batch_rows * 256
    assert (found["rows_a_device"], found["context"]) == (job.batch_rows, 256)
    assert found["step_flops"] == training_flops(PRESETS["nano"], job.batch_rows, 256)
    assert found["flops"] == pytest.approx(job.steps * found["step_flops"])


def test_files_of_a_job_and_of_a_run_folder_are_read(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    toml = ('kind = "sft"', 'name = "sft"', 'inputs = { dataset = "d" }', "steps = 7", 'model = "micro"')
    (tmp_path / "job.toml").write_text("\n".join((*toml, "optimizer = { lr = 1e-3 }")))
    spec = {"kind": "sft", "name": "sft", "inputs": {"dataset": "d"}, "steps": 7, "model": "micro"}
    job = Job(id="x", spec=JOB_SPEC.validate_python({**spec, "optimizer": {"lr": 1e-3}}), inputs={"dataset": "d"})
    (tmp_path / "job.json").write_text(job.model_dump_json())
    plans = [planned(capsys, str(tmp_path / name)) for name in ("job.toml", "job.json")]
    assert plans[0] == plans[1]
    assert plans[0]["tokens"] == 7 * 16 * PRESETS["micro"].max_position_embeddings


def test_hours_and_money_follow_from_operations_peak_share_and_price(capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--tokens", "1e9", "--mfu", "0.5", "--price-per-hour", "2", "--device", "h200", "--devices", "8")
    found = planned(capsys, "small", *options)
    assert found["device_hours"] == pytest.approx(found["flops"] / (989e12 * 0.5) / 3600)
    assert found["dollars"] == pytest.approx(2 * found["device_hours"])
    assert found["devices"] == 8


def test_every_assumption_says_where_it_comes_from(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "article"]) == 0
    assumed = capsys.readouterr().out.partition("Assumed:")[2]
    for figure in (
        "MFU 0.35: published",
        "price $3.00 a device and hour: middle",
        "989,000 GFLOP/s in bf16: data sheet",
    ):
        assert figure in assumed
    assert main(["plan", "article", "--mfu", "0.5", "--price-per-hour", "1"]) == 0
    assumed = capsys.readouterr().out.partition("Assumed:")[2]
    assert "MFU 0.5: as given" in assumed
    assert "$1.00 a device and hour: as given" in assumed


def test_what_is_given_is_no_longer_assumed(capsys: pytest.CaptureFixture[str]) -> None:
    for option in ("--tokens", "--rows", "--context"):
        assert main(["plan", "small", option, "1000"]) == 0
        assumed = capsys.readouterr().out.partition("Assumed:")[2]
        assert f"({option})" not in assumed
        assert assumed.count("(--") == 4


def test_the_fewest_devices_hold_a_layout_and_half_of_them_hold_none(capsys: pytest.CaptureFixture[str]) -> None:
    found = planned(capsys, "mixtral-8x7b")
    fewest = found["fewest_devices"]
    assert fewest > 1
    assert any(placement["fits_recomputed"] for placement in found["placements"])
    fewer = planned(capsys, "mixtral-8x7b", "--devices", str(fewest // 2))
    assert not any(placement["fits_recomputed"] for placement in fewer["placements"])


def test_this_machines_processor_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    found = planned(capsys, "nano", "--device", "cpu")
    assert found["devices"] == found["fewest_devices"] == 1
    assert found["processor"]["peak"] > 0
    assert "measured by products of 4096 x 128 with 128 x 256" in found["assumptions"][0]
    assert found["dollars"] is None


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["huge"], "neither a .toml or .json file, nor a recipe (nano, smoke, upcycle), nor a preset (nano, micro"),
        (["gone.toml"], "there is no file gone.toml"),
        (["small", "--device", "abacus"], "unknown device 'abacus'; there are: cpu, H100"),
        (["small", "--mfu", "0"], "--mfu is 0; give a number above 0"),
        (["small", "--device", "cpu", "--devices", "4"], "leave --devices out"),
    ],
)
def test_a_wrong_request_is_one_sentence(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sentence in refused(capsys, *arguments)


def test_a_file_that_plans_nothing_says_why(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "job.json"
    path.write_text(json.dumps({"kind": "sft", "name": "sft", "inputs": {"dataset": "d"}, "stepps": 3}))
    assert "stepps: unknown field" in refused(capsys, str(path))
    path.write_text("{")
    assert "does not parse" in refused(capsys, str(path))
    from_checkpoint = {"kind": "sft", "name": "sft", "inputs": {"dataset": "d", "checkpoint": "c"}, "steps": 3}
    path.write_text(json.dumps({**from_checkpoint, "optimizer": {"lr": 1e-3}}))
    assert "no job here makes a new network" in refused(capsys, str(path))


def test_a_network_too_large_for_any_number_of_devices_is_said_so(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    shape = tiny.config(hidden_size=2**17, intermediate_size=2**19, max_position_embeddings=4096).model_dump()
    job = {"kind": "sft", "name": "sft", "inputs": {"dataset": "d"}, "steps": 3, "model": shape}
    (tmp_path / "job.json").write_text(json.dumps({**job, "optimizer": {"lr": 1e-3}}))
    assert main(["plan", str(tmp_path / "job.json")]) == 0
    assert "No layout fits" in capsys.readouterr().out
