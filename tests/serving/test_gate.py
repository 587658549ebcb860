"""The parity gate: what is not the trained network does not answer, in float32 or in the numbers it is served in."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from serving.gate import BOUNDS
from serving.loader import load_export
from serving.parity import check_close, check_tokenizer, measure, network_forward, read_record, rounded
from serving.settings import Settings
from tests.serving.world import checkpoint_run, export_run, exported
from tests.trainer import tiny
from trainer.artifacts import new_folder
from trainer.data.tokenizer import Tokenizer
from trainer.model.mixtral import load_model
from trainer.model.transformer import Transformer

WINDOW = 16
Damage = Callable[[Path], None]


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported(tmp_path_factory.mktemp("gate"), config=tiny.config(sliding_window=WINDOW))


def settings(dtype: str = "float32") -> Settings:
    return Settings.model_validate({"serving_kv_megabytes": 1, "serving_dtype": dtype})


def damaged(export: Path, folder: Path, damage: Damage) -> Path:
    """A whole export with every hash in order, made by a writer who got something wrong."""
    with new_folder(folder) as target:
        for file in export.iterdir():
            if file.name != "COMPLETE":
                (target / file.name).write_bytes(file.read_bytes())
        damage(target)
    return folder


def on_weights(change: Callable[[dict[str, torch.Tensor]], Any]) -> Damage:
    def damage(folder: Path) -> None:
        weights = load_file(folder / "model.safetensors")
        change(weights)
        save_file(weights, folder / "model.safetensors")

    return damage


def swap_experts(weights: dict[str, torch.Tensor], layer: int = 1, pair: tuple[int, int] = (2, 5)) -> None:
    for name in ("w1", "w2", "w3"):
        one, other = (f"model.layers.{layer}.block_sparse_moe.experts.{expert}.{name}.weight" for expert in pair)
        weights[one], weights[other] = weights[other].clone(), weights[one].clone()


def transpose(weights: dict[str, torch.Tensor], name: str) -> None:
    weights[name] = weights[name].T.contiguous()


def turn_rope(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(
        json.dumps(config | {"rope_theta": 5e5, "rope_parameters": {"rope_theta": 5e5}})
    )


def shift_tokenizer(folder: Path) -> None:
    """Every learnt token one id further on, the last one first."""
    file = json.loads((folder / "tokenizer.json").read_text())
    vocab = file["model"]["vocab"]
    learnt = sorted((id, token) for token, id in vocab.items() if id >= 20)
    ids = [id for id, _ in learnt]
    vocab |= {token: ids[(place + 1) % len(ids)] for place, (_, token) in enumerate(learnt)}
    (folder / "tokenizer.json").write_text(json.dumps(file))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (on_weights(swap_experts), "logits differ from training|to experts .*training sent it to"),
        (on_weights(lambda w: transpose(w, "model.layers.0.self_attn.q_proj.weight")), "logits differ|to experts"),
        (on_weights(lambda w: transpose(w, "model.layers.0.self_attn.k_proj.weight")), "k_proj.weight' has shape"),
        (turn_rope, "right in its first token and wrong from its second: look at rope_theta"),
        (shift_tokenizer, "the tokenizer makes token 0 of the recorded text"),
    ],
)
def test_what_was_not_trained_is_blocked_by_name(
    export: Path, tmp_path: Path, damage: Damage, said: str, dtype: str
) -> None:
    with pytest.raises(ValueError, match=said):
        load_export(damaged(export, tmp_path / "bad", damage), settings(dtype))


def test_the_record_reaches_beyond_the_window(export: Path) -> None:
    assert int(read_record(export)["lengths"].max()) > WINDOW


def test_a_passed_gate_says_how_close_it_was(export: Path) -> None:
    exact, half = (load_export(export, settings(dtype)) for dtype in ("float32", "bfloat16"))
    for served in (exact, half):
        served.engine.abort()
        assert served.gate.float32_difference <= 1e-4
    assert (exact.gate.dtype, half.gate.dtype) == ("float32", "bfloat16")
    assert (exact.gate.served.choice_agreement, exact.gate.served.top1_agreement) == (1.0, 1.0)
    assert abs(exact.gate.served.mean_kl) < 1e-6 < half.gate.served.mean_kl < BOUNDS["bfloat16"].max_mean_kl


def swapped(model: Transformer, layer: int, pair: tuple[int, int]) -> Transformer:
    one, other = pair
    for stack in (model.layers[layer].moe.gate_up_EGD, model.layers[layer].moe.down_EDF):
        with torch.no_grad():
            stack[[one, other]] = stack[[other, one]].clone()
    return model


@pytest.mark.parametrize("dtype", list(BOUNDS))
def test_experts_swapped_on_the_way_to_coarser_numbers_are_blocked(export: Path, dtype: str) -> None:
    """The float32 network is right; what was made of it is not."""
    model, record = load_model(export), read_record(export)
    plain = measure(network_forward(rounded(model, dtype)), record)
    check_close(plain, plain, BOUNDS[dtype], dtype)
    for layer in (0, 1):
        for expert in range(8):
            wrong = swapped(rounded(model, dtype), layer, (expert, (expert + 1) % 8))
            with pytest.raises(ValueError, match=f"parity check failed in {dtype}: .*how serving computes"):
                check_close(measure(network_forward(wrong), record), plain, BOUNDS[dtype], dtype)


def test_a_network_that_gives_no_numbers_is_blocked(export: Path) -> None:
    model, record = rounded(load_model(export), "bfloat16"), read_record(export)
    plain = measure(network_forward(model), record)
    with torch.no_grad():
        model.norm.weight.fill_(float("nan"))
    with pytest.raises(ValueError, match="a KL divergence of nan"):
        check_close(measure(network_forward(model), record), plain, BOUNDS["bfloat16"], "bfloat16")


def test_a_rounded_export_is_held_by_the_bounds_however_wide_its_tolerance(tmp_path: Path) -> None:
    status, run = export_run(tmp_path / "run", checkpoint_run(tmp_path / "sft"), dtype="bfloat16", tolerance=100.0)
    assert status == 0
    export = run.artifact("export")
    served = load_export(export, settings())
    served.engine.abort()
    assert served.gate.dtype == "bfloat16"
    with pytest.raises(ValueError, match="parity check failed in bfloat16"):
        load_export(damaged(export, tmp_path / "bad", on_weights(lambda w: w["lm_head.weight"].mul_(1.5))), settings())


def chosen(model: Transformer, record: dict[str, torch.Tensor]) -> torch.Tensor:
    """Experts [layers, P, L, k], sorted."""
    routers = zip(*(network_forward(model)(row.tolist())[1] for row in record["tokens"]), strict=True)
    return torch.stack([torch.stack(layer).topk(2, dim=-1).indices for layer in routers]).sort(-1).values


def test_divergence_and_agreement_are_what_torch_says(export: Path) -> None:
    record = read_record(export)
    other = load_model(export)
    with torch.no_grad():
        other.layers[1].attention.o_proj.weight.mul_(1.3)
    logits_PLV = torch.stack([network_forward(other)(row.tolist())[0] for row in record["tokens"]])
    found_RV, trained_RV = (logits.flatten(0, 1).log_softmax(-1) for logits in (logits_PLV, record["logits"]))
    parity = measure(network_forward(other), record)
    same_R = (chosen(other, record) == record["choices"].sort(-1).values).all(-1).all(0).flatten()
    kl = float(F.kl_div(found_RV[same_R], trained_RV[same_R], reduction="batchmean", log_target=True))
    assert parity.mean_kl == pytest.approx(kl, rel=1e-4)
    same = (found_RV.argmax(-1) == trained_RV.argmax(-1)).float().mean()
    assert parity.top1_agreement == pytest.approx(float(same))
    assert parity.max_difference == pytest.approx(float((logits_PLV - record["logits"]).abs().max()))


def test_a_chat_laid_out_differently_is_another_tokenizer(export: Path) -> None:
    known = Tokenizer.load(export)
    check_tokenizer(known, read_record(export))
    chat = known.chat.model_copy(update={"before": known.chat.before | {"user": known.chat.before["system"]}})
    with pytest.raises(ValueError, match="token 1 of the recorded chat"):
        check_tokenizer(Tokenizer(known.file, chat), read_record(export))


def test_a_record_of_an_older_version_says_how_to_renew_it(export: Path, tmp_path: Path) -> None:
    def forget(folder: Path) -> None:
        record = load_file(folder / "parity.safetensors")
        save_file(
            {name: record[name] for name in record if name[0] != "t" or name == "tokens"}, folder / "parity.safetensors"
        )

    with pytest.raises(ValueError, match="lacks text, text_tokens: an older version wrote it; an import job"):
        load_export(damaged(export, tmp_path / "old", forget), settings())
