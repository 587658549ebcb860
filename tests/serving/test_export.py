"""export = training logits, for transformers as for us; an export that computes something else never appears."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
import yaml
from safetensors.torch import load_file, save_file

from serving.export.__main__ import main
from serving.export.hugging_face import write_export
from serving.loader import load_export, verify_files
from serving.parity import check_parity, network_forward, read_record
from serving.settings import Settings
from tests.serving.world import checkpoint_run, export_run, exported
from tests.trainer import tiny
from trainer.artifacts import RunFolder, new_folder
from trainer.model.mixtral import load_model

Tensors = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def training(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return checkpoint_run(tmp_path_factory.mktemp("training") / "sft")


def test_unmodified_transformers_gives_the_recorded_logits(training: RunFolder, tmp_path: Path) -> None:
    status, run = export_run(tmp_path / "run", training)
    assert status == 0
    export, record = run.artifact("export"), read_record(training.checkpoint())
    theirs: Any = transformers.MixtralForCausalLM.from_pretrained(export, dtype=torch.float32)
    with torch.no_grad():
        logits_PLV = theirs(record["tokens"].long()).logits
    assert float((logits_PLV - record["logits"]).abs().max()) <= 1e-4
    result = run.result()
    assert result["parity_max_difference"] <= 1e-4
    assert result["parameters"] == sum(parameter.numel() for parameter in theirs.parameters())
    assert result["bytes"] == sum((export / name).stat().st_size for name in result["files"])


def test_transformers_opens_the_tokenizer_of_an_export(training: RunFolder, tmp_path: Path) -> None:
    _, run = export_run(tmp_path / "run", training)
    theirs = transformers.AutoTokenizer.from_pretrained(run.artifact("export"))
    assert theirs("12 plus 5")["input_ids"] == tiny.tokenizer().encode("12 plus 5")


def test_the_config_speaks_to_old_and_new_readers(training: RunFolder, tmp_path: Path) -> None:
    _, run = export_run(tmp_path / "run", training, dtype="bfloat16", tolerance=5.0)
    export = run.artifact("export")
    config = json.loads((export / "config.json").read_text())
    assert config["torch_dtype"] == config["dtype"] == "bfloat16"
    assert config["rope_parameters"]["rope_theta"] == config["rope_theta"]
    assert {tensor.dtype for tensor in load_file(export / "model.safetensors").values()} == {torch.bfloat16}


def test_an_export_of_an_aggregate_is_the_network_up_to_its_window(tmp_path: Path) -> None:
    source = checkpoint_run(tmp_path / "training", config=tiny.config(sliding_window=16, aggregate_slots=4))
    status, run = export_run(tmp_path / "run", source)
    assert status == 0
    export = run.artifact("export")
    assert not (export / "octavo.safetensors").exists()
    assert transformers.AutoConfig.from_pretrained(export).max_position_embeddings == 16
    assert yaml.safe_load((export / "trtllm.yaml").read_text())["max_seq_len"] == 16
    served = load_export(export, Settings(serving_kv_megabytes=1))
    assert served.context == 16
    served.engine.abort()


def test_serving_says_that_it_cannot_compute_an_aggregate(tmp_path: Path) -> None:
    source = checkpoint_run(tmp_path, config=tiny.config(sliding_window=16, aggregate_slots=4))
    with pytest.raises(ValueError, match="cannot compute yet; make it with an export job"):
        load_export(source.checkpoint(), Settings(serving_kv_megabytes=1))


def swap_experts(weights: Tensors, layer: int, pair: tuple[int, int], router: bool) -> None:
    prefix = f"model.layers.{layer}.block_sparse_moe."
    for name in ("w1", "w2", "w3"):
        one, other = (f"{prefix}experts.{expert}.{name}.weight" for expert in pair)
        weights[one], weights[other] = weights[other].clone(), weights[one].clone()
    if router:
        gate = weights[prefix + "gate.weight"]
        gate[list(pair)] = gate[list(reversed(pair))]


def damaged(source: Path, folder: Path, change: Any) -> Path:
    """A copy of a checkpoint whose weights were changed after the record was taken, as a wrong writer would."""
    with new_folder(folder) as target:
        for file in source.iterdir():
            if file.name not in ("COMPLETE", "model.safetensors"):
                (target / file.name).write_bytes(file.read_bytes())
        weights = load_file(source / "model.safetensors")
        change(weights)
        save_file(weights, target / "model.safetensors")
    return folder


@pytest.mark.parametrize("router", [False, True])
@pytest.mark.parametrize("layer", [0, 1])
def test_swapped_experts_are_caught(training: RunFolder, tmp_path: Path, layer: int, router: bool) -> None:
    """With the router swapped too the logits are the same; the expert choices give it away."""
    record = read_record(training.checkpoint())
    for a in range(8):
        pair = (a, (a + 1) % 8)
        folder = damaged(
            training.checkpoint(),
            tmp_path / f"step_{a:06d}",
            lambda w, pair=pair: swap_experts(w, layer, pair, router),
        )
        with pytest.raises(ValueError, match="experts" if router else "logits differ|experts"):
            check_parity(network_forward(load_model(folder)), record, 1e-4)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda w: swap_experts(w, 1, (2, 5), router=False), "parity check failed"),
        (lambda w: w["lm_head.weight"].mul_(1.01), "logits differ"),
        (lambda w: w["model.layers.0.block_sparse_moe.gate.weight"].neg_(), "sends token"),
        (lambda w: w["model.norm.weight"].fill_(float("nan")), "logits differ"),
        (lambda w: w.pop("model.norm.weight"), "no tensor 'model.norm.weight'"),
    ],
)
def test_a_bad_export_fails_the_job_and_leaves_nothing(
    training: RunFolder, tmp_path: Path, change: Any, reason: str
) -> None:
    bad = RunFolder(tmp_path / "bad")
    damaged(training.checkpoint(), bad.checkpoints / "step_000010", change)
    status, run = export_run(tmp_path / "run", bad)
    assert status == 1
    state = run.status()
    assert state is not None
    assert state.state == "failed"
    assert reason in (state.error or "")
    assert not (run.artifacts / "export").exists()
    assert run.result() == {}


def test_a_close_choice_of_experts_is_excused_and_so_is_what_follows() -> None:
    """A router that cannot tell experts 0 and 1 apart may choose either; beyond that token nothing is compared."""
    record = {
        "tokens": torch.zeros(1, 3, dtype=torch.int32),
        "lengths": torch.tensor([3]),
        "logits": torch.zeros(1, 3, 4),
        "choices": torch.zeros(1, 1, 3, 1, dtype=torch.int32),
        "margins": torch.tensor([[[0.5, 1e-6, 0.5]]]),
    }
    router_LE = torch.tensor([[1.0, 0.0], [0.0, 1e-7], [0.0, 1.0]])
    logits_LV = torch.tensor([[0.0] * 4, [9.0] * 4, [9.0] * 4])
    parity = check_parity(lambda tokens: (logits_LV, (router_LE,)), record, 1e-4)
    assert (parity.excused, parity.positions, parity.max_difference) == (2, 3, 0.0)
    record["margins"][0, 0, 1] = 0.5
    with pytest.raises(ValueError, match="sends token 1"):
        check_parity(lambda tokens: (logits_LV, (router_LE,)), record, 1e-4)


def test_rounding_that_breaks_the_tolerance_says_so(training: RunFolder, tmp_path: Path) -> None:
    status, run = export_run(tmp_path / "run", training, dtype="bfloat16")
    state = run.status()
    assert status == 1
    assert state is not None
    assert "raise 'tolerance'" in (state.error or "")


def test_a_damaged_file_is_named_before_it_is_served(tmp_path: Path) -> None:
    export = exported(tmp_path)
    verify_files(export)
    with open(export / "tokenizer.json", "a") as file:
        file.write(" ")
    with pytest.raises(ValueError, match=r"tokenizer\.json is missing or not what was exported"):
        load_export(export, Settings(serving_kv_megabytes=1))


def test_too_little_kv_memory_names_the_variable(tmp_path: Path) -> None:
    export = exported(tmp_path, config=tiny.config(max_position_embeddings=8192))
    with pytest.raises(ValueError, match=r"OCTAVO_SERVING_KV_MEGABYTES 1 is too little.*at least 2"):
        load_export(export, Settings(serving_kv_megabytes=1))


def test_a_job_of_another_kind_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny.new_run(tmp_path / "run", {"kind": "synthesize", "name": "other"}, {})
    assert main([str(tmp_path / "run")]) == 1
    assert "kind 'synthesize'" in capsys.readouterr().err
    assert main([str(tmp_path / "nothing")]) == 1
    assert "job.json does not exist" in capsys.readouterr().err


def test_a_checkpoint_without_a_file_is_refused_by_name(training: RunFolder, tmp_path: Path) -> None:
    folder = damaged(training.checkpoint(), tmp_path / "step_000001", lambda weights: None)
    (folder / "generation_config.json").unlink()
    with pytest.raises(ValueError, match=r"has no generation_config\.json"), new_folder(tmp_path / "out") as out:
        write_export(folder, out, torch.float32, 1e-4)
