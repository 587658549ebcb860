"""Checkpoints from elsewhere: transformers' logits are ours, what does not fit is refused by name."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.trainer import foreign, tiny
from trainer.model import mixtral
from trainer.model.config import ModelConfig
from trainer.model.pretrained import read_foreign_config, read_pretrained
from trainer.model.transformer import Transformer
from trainer.model.upcycling import grow_vocabulary, upcycle

TOKENS = torch.randint(foreign.SHAPE["vocab_size"], (2, 40), generator=torch.Generator().manual_seed(0))
Change = Callable[[dict[str, Tensor]], Any]


@torch.no_grad()
def logits(config: ModelConfig, state: dict[str, Tensor]) -> Tensor:
    model = Transformer(config)
    model.load_state_dict(state)
    return model.logits(model(TOKENS).hidden_BLD)


@torch.no_grad()
def theirs(kind: str, folder: Path, **changes: Any) -> Tensor:
    found: Tensor = foreign.network(kind, folder, **changes)(TOKENS).logits
    assert found.std() > 0.1, "logits so flat that wrong weights would pass"
    return found


def edit(folder: Path, change: Change) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("kind", foreign.KINDS)
def test_transformers_gives_the_same_logits(tmp_path: Path, kind: str, tied: bool) -> None:
    expected = theirs(kind, tmp_path, tie_word_embeddings=tied)
    config, state = read_pretrained(tmp_path)
    torch.testing.assert_close(logits(config, state), expected, atol=1e-4, rtol=0)
    assert config.num_local_experts == (3 if kind == "mixtral" else 1)
    assert config.sliding_window == (16 if kind == "mistral" else None)


@pytest.mark.parametrize(("experts", "top_k"), [(1, 1), (4, 2), (8, 8)])
def test_an_upcycled_network_gives_the_logits_of_the_dense_one(tmp_path: Path, experts: int, top_k: int) -> None:
    expected = theirs("llama", tmp_path)
    generator = torch.Generator().manual_seed(1)
    config, state = upcycle(*read_pretrained(tmp_path), experts, top_k, generator)
    torch.testing.assert_close(logits(config, state), expected, atol=1e-4, rtol=0)
    assert config.num_local_experts == experts


def test_one_step_makes_equal_experts_different(tmp_path: Path) -> None:
    foreign.network("llama", tmp_path)
    config, state = upcycle(*read_pretrained(tmp_path), 4, 2, torch.Generator().manual_seed(1))
    model = Transformer(config)
    model.load_state_dict(state)
    model.logits(model(TOKENS).hidden_BLD).logsumexp(dim=-1).sum().backward()
    gradient_EGD = model.layers[0].moe.gate_up_EGD.grad
    assert gradient_EGD is not None
    differences = [(gradient_EGD[0] - gradient_EGD[expert]).abs().max() for expert in (1, 2, 3)]
    assert min(differences) > 0.1 * gradient_EGD.abs().max()


def test_more_experts_a_token_than_experts_is_refused(tmp_path: Path) -> None:
    foreign.network("llama", tmp_path)
    with pytest.raises(ValueError, match="top_k 3 exceeds experts 2"):
        upcycle(*read_pretrained(tmp_path), 2, 3, torch.Generator())


@pytest.mark.parametrize("tied", [False, True])
def test_new_tokens_leave_the_logits_of_the_old_ones(tmp_path: Path, tied: bool) -> None:
    foreign.network("llama", tmp_path, tie_word_embeddings=tied)
    config, state = read_pretrained(tmp_path)
    grown_config, grown = grow_vocabulary(config, state, 321)
    assert grown_config.vocab_size == 384
    before, after = logits(config, state), logits(grown_config, grown)
    torch.testing.assert_close(after[..., :320], before, atol=1e-5, rtol=1e-5)
    mean = before.mean(dim=-1, keepdim=True).expand(-1, -1, 64)
    torch.testing.assert_close(after[..., 320:], mean, atol=1e-4, rtol=0)
    assert grow_vocabulary(config, state, 320)[0] == config


@pytest.mark.parametrize("kind", foreign.KINDS)
def test_import_then_export_then_import_is_the_identity(tmp_path: Path, kind: str) -> None:
    foreign.network(kind, tmp_path / "theirs")
    config, state = read_pretrained(tmp_path / "theirs")
    (tmp_path / "ours").mkdir()
    mixtral.save_weights(tmp_path / "ours", config, state, tiny.tokenizer())
    again_config, again = read_pretrained(tmp_path / "ours")
    assert again_config == config
    assert again.keys() == state.keys()
    for name, tensor in state.items():
        assert torch.equal(again[name], tensor), name


@pytest.mark.parametrize("kind", ["llama", "mixtral"])
def test_shards_are_the_single_file(tmp_path: Path, kind: str) -> None:
    model = foreign.network(kind, tmp_path / "one")
    model.save_pretrained(tmp_path / "many", max_shard_size="20KB")
    assert len(list((tmp_path / "many").glob("model-*.safetensors"))) > 2
    (_, one), (_, many) = read_pretrained(tmp_path / "one"), read_pretrained(tmp_path / "many")
    assert all(torch.equal(one[name], many[name]) for name in one)
    last = max((tmp_path / "many").glob("model-*.safetensors"))
    last.unlink()
    with pytest.raises(ValueError, match=f"{last.name} is missing"):
        read_pretrained(tmp_path / "many")


def test_half_precision_is_read_exactly(tmp_path: Path) -> None:
    model = foreign.network("llama", tmp_path).to(torch.bfloat16)
    model.save_pretrained(tmp_path)
    _, state = read_pretrained(tmp_path)
    assert torch.equal(state["norm.weight"], model.get_parameter("model.norm.weight").float())


# -- config ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "theta"),
    [
        ({"rope_theta": 3e4, "rope_parameters": None}, 3e4),
        ({"rope_theta": None, "rope_parameters": {"rope_type": "default", "rope_theta": 2e4}}, 2e4),
        ({"rope_theta": None, "rope_parameters": None}, 1e4),
        ({"rope_theta": 3e4, "rope_parameters": None, "rope_scaling": {"type": "default"}}, 3e4),
        ({"rope_theta": 3e4, "rope_parameters": None, "torch_dtype": "float16", "dtype": None}, 3e4),
    ],
)
def test_both_spellings_of_a_config_are_read(tmp_path: Path, changes: dict[str, Any], theta: float) -> None:
    foreign.network("llama", tmp_path)
    foreign.edit_config(tmp_path, head_dim=None, **changes)
    assert read_foreign_config(tmp_path)[0].rope_theta == theta


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model_type": "qwen3"}, "is of type 'qwen3'; Octavo imports llama, mistral, mixtral"),
        ({"rope_parameters": {"rope_type": "llama3", "rope_theta": 1e4}}, "rope of type 'llama3'"),
        ({"rope_parameters": None, "rope_scaling": {"type": "linear", "factor": 2.0}}, "rope of type 'linear'"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
        ({"hidden_act": "gelu"}, "hidden_act 'gelu'"),
        ({"head_dim": 16}, "head_dim 16 times 4 heads is not hidden_size 32"),
        ({"quantization_config": {"quant_method": "awq"}}, r"quantised \(awq\)"),
        ({"rms_norm_eps": -1.0}, "rms_norm_eps"),
        ({"hidden_size": None}, "hidden_size: Field required"),
        ({"num_key_value_heads": 3}, "multiple of num_key_value_heads"),
    ],
)
def test_a_config_that_computes_something_else_is_refused(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    foreign.network("llama", tmp_path)
    foreign.edit_config(tmp_path, **changes)
    with pytest.raises(ValueError, match=reason) as refusal:
        read_pretrained(tmp_path)
    assert "\n" not in str(refusal.value)


# -- tensors ---------------------------------------------------------------------------------------------------------

Q, MLP = "model.layers.1.self_attn.q_proj.weight", "model.layers.0.mlp.up_proj.weight"
EXPERT, ROUTER = "model.layers.0.block_sparse_moe.experts.2.w3.weight", "model.layers.1.block_sparse_moe.gate.weight"


@pytest.mark.parametrize(
    ("kind", "change", "reason"),
    [
        ("llama", lambda t: t.pop(Q), rf"'{Q}' of shape \(32, 32\) is missing"),
        ("llama", lambda t: t.pop(MLP), rf"'{MLP}' of shape \(48, 32\) is missing"),
        ("llama", lambda t: t.update({MLP: torch.zeros(48, 16)}), rf"'{MLP}' has shape \(48, 16\).* have \(48, 32\)"),
        ("llama", lambda t: t.update({f"{Q[:-6]}bias": torch.zeros(32)}), r"q_proj\.bias' has no place"),
        ("mistral", lambda t: t.update({"model.layers.0.self_attn.q_norm.weight": torch.zeros(8)}), r"q_norm\.weight'"),
        ("llama", lambda t: t.update({"lm_head.weight": torch.zeros(320, 32).int()}), "holds I32 numbers"),
        ("mixtral", lambda t: t.pop(EXPERT), rf"'{EXPERT}' of shape \(48, 32\) is missing"),
        ("mixtral", lambda t: t.update({ROUTER: torch.zeros(4, 32)}), rf"'{ROUTER}' has shape \(4, 32\)"),
        ("mixtral", lambda t: t.update({MLP: torch.zeros(1)}), f"'{MLP}' has no place in Mixtral"),
    ],
)
def test_a_tensor_that_does_not_fit_is_named(tmp_path: Path, kind: str, change: Change, reason: str) -> None:
    foreign.network(kind, tmp_path)
    edit(tmp_path, change)
    with pytest.raises(ValueError, match=reason):
        read_pretrained(tmp_path)


def test_what_follows_from_the_rest_may_be_there(tmp_path: Path) -> None:
    """Old files hold the rotary frequencies; some hold the tied output projection a second time."""
    foreign.network("llama", tmp_path, tie_word_embeddings=True)
    before = read_pretrained(tmp_path)
    edit(
        tmp_path,
        lambda t: t.update(
            {
                "model.layers.0.self_attn.rotary_emb.inv_freq": torch.zeros(4),
                "lm_head.weight": t["model.embed_tokens.weight"].clone(),
            }
        ),
    )
    assert torch.equal(logits(*read_pretrained(tmp_path)), logits(*before))
    edit(tmp_path, lambda t: t["lm_head.weight"].add_(1))
    with pytest.raises(ValueError, match=r"ties tensor 'lm_head\.weight'"):
        read_pretrained(tmp_path)


def test_only_safetensors_are_opened(tmp_path: Path) -> None:
    foreign.network("llama", tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"model\.safetensors cannot be read"):
        read_pretrained(tmp_path)
    weights.rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"only pytorch_model\.bin, and pickled weights are never opened"):
        read_pretrained(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config\.json is no JSON"):
        read_pretrained(tmp_path)
    shutil.rmtree(tmp_path)
    with pytest.raises(ValueError, match=r"has no config\.json"):
        read_pretrained(tmp_path)


def test_an_index_that_lists_nothing_is_refused(tmp_path: Path) -> None:
    foreign.network("llama", tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(ValueError, match="lists no tensors in a weight_map"):
        read_pretrained(tmp_path)


def test_an_index_that_lists_a_tensor_no_shard_holds_is_found_out(tmp_path: Path) -> None:
    foreign.network("llama", tmp_path).save_pretrained(tmp_path, max_shard_size="20KB")
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    shard = tmp_path / index["weight_map"][Q]
    tensors = load_file(shard)
    del tensors[Q]
    save_file(tensors, shard, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=rf"'{Q}' of shape"):
        read_pretrained(tmp_path)
