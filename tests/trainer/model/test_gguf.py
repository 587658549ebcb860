"""GGUF: a file written from a known network gives that network back; the real SmolLM2 answers as transformers does."""

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, LlamaForCausalLM

from tests.trainer import foreign
from trainer.data.foreign_tokenizer import read_tokenizer
from trainer.model.config import ModelConfig
from trainer.model.generate import generate
from trainer.model.gguf import unpack
from trainer.model.pretrained import read_pretrained
from trainer.model.transformer import Transformer
from trainer.model.upcycling import grow_vocabulary, upcycle

NAMES = {
    "model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output",
    "input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}  # fmt: skip


def neighbours(weight: np.ndarray, heads: int) -> np.ndarray:
    """Rows as GGUF wants them: row 2i of a head is its row i, row 2i + 1 its row i + K/2."""
    width = len(weight) // heads
    order = [h * width + i + half * width // 2 for h in range(heads) for i in range(width // 2) for half in (0, 1)]
    return weight[order]


def write(path: Path, model: LlamaForCausalLM, architecture: str = "llama", **extra: Any) -> None:
    """The network as a GGUF file in float32, with the byte-level test tokenizer.

    Args:
        extra: metadata by its short name (`rope_scaling_type="yarn"`, `pre="…"`) or a tensor (`tensor="rope_freqs"`).
    """
    writer, config = gguf.GGUFWriter(path, architecture), model.config
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_string(f"{architecture}.rope.scaling.type", extra.get("scaling", "none"))
    tokenizer = foreign.byte_level()
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    tokens = tokenizer.convert_ids_to_tokens(list(range(300))) + [f"unused {n}" for n in range(300, config.vocab_size)]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(extra.get("pre", "smollm"))
    writer.add_token_list(tokens)
    writer.add_token_types([3] * 3 + [1] * 297 + [5] * (len(tokens) - 300))
    writer.add_token_merges([" ".join(pair) for pair in state["model"]["merges"]])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template(foreign.CHATML)
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        weight = tensor.numpy()
        if "q_proj" in name or "k_proj" in name:
            weight = neighbours(weight, config.num_attention_heads if "q_proj" in name else config.num_key_value_heads)
        stem = name.removesuffix(".weight")
        layer = stem.split(".")[2] if ".layers." in stem else None
        short = NAMES[stem if layer is None else stem.split(".", 3)[3]]
        writer.add_tensor(f"blk.{layer}.{short}.weight" if layer else f"{short}.weight", weight)
    if "tensor" in extra:
        writer.add_tensor(extra["tensor"], np.ones(4, dtype=np.float32))
    for step in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file, writer.close):
        step()


def unpack_and_read(path: Path, folder: Path) -> tuple[ModelConfig, dict[str, torch.Tensor]]:
    unpack(path, folder)
    return read_pretrained(folder)


@pytest.mark.parametrize("tied", [False, True])
def test_a_file_gives_the_network_and_tokenizer_it_was_written_from(tmp_path: Path, tied: bool) -> None:
    model = foreign.network("llama", tmp_path, tie_word_embeddings=tied)
    expected_config, expected = read_pretrained(tmp_path)
    write(tmp_path / "it.gguf", model)
    (tmp_path / "out").mkdir()
    config, state = unpack_and_read(tmp_path / "it.gguf", tmp_path / "out")
    assert config.rms_norm_eps == pytest.approx(expected_config.rms_norm_eps)
    unknown = {"rms_norm_eps": expected_config.rms_norm_eps, "initializer_range": expected_config.initializer_range}
    assert config.model_copy(update=unknown) == expected_config
    for name, tensor in expected.items():
        assert torch.equal(state[name], tensor), name
    theirs = AutoTokenizer.from_pretrained(tmp_path / "out")
    for text in foreign.CORPUS[:2]:
        assert theirs(text)["input_ids"] == foreign.byte_level()(text)["input_ids"]


@pytest.mark.parametrize(
    ("extra", "reason"),
    [
        ({"architecture": "qwen3"}, "is of architecture 'qwen3'; Octavo imports 'llama'"),
        ({"tensor": "rope_freqs.weight"}, r"tensor 'rope_freqs\.weight' of the GGUF file has no place"),
        ({"tensor": "blk.0.attn_q.bias"}, r"tensor 'model\.layers\.0\.self_attn\.q_proj\.bias' has no place"),
        ({"scaling": "yarn"}, "rope of type 'yarn'"),
        ({"pre": "llama-bpe"}, "tokenizer is of kind 'gpt2', 'llama-bpe'; Octavo knows"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, extra: dict[str, Any], reason: str) -> None:
    write(tmp_path / "it.gguf", foreign.network("llama", tmp_path), **extra)
    with pytest.raises(ValueError, match=reason):
        unpack_and_read(tmp_path / "it.gguf", tmp_path)


def test_a_file_that_is_no_gguf_is_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "it.gguf"
    write(path, foreign.network("llama", tmp_path))
    for content in (b"", b"GGUF", b"something else, and long enough to be read", path.read_bytes()[:2000]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="cannot be read as GGUF"):
            unpack(path, tmp_path)


def test_smollm2_upcycled_computes_and_says_what_transformers_does(tmp_path: Path) -> None:
    unpack(foreign.smollm2(), tmp_path)
    config, state = read_pretrained(tmp_path)
    tokenizer = read_tokenizer(tmp_path, config.vocab_size, lambda line: None)
    network = grow_vocabulary(config, state, tokenizer.vocab_size)
    wider, upcycled = upcycle(*network, 4, 2, torch.Generator().manual_seed(0))
    with torch.device("meta"):
        model = Transformer(wider)
    model.load_state_dict(upcycled, assign=True)
    theirs = LlamaForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
    prompt = tokenizer.encode("The capital of France is")
    with torch.no_grad():
        tokens = torch.tensor([prompt])
        ours = model.logits(model(tokens).hidden_BLD)[..., : config.vocab_size]
        torch.testing.assert_close(ours, theirs(tokens).logits, atol=1e-4, rtol=0)
    [completion] = generate(model, [prompt], max_new_tokens=1, end_id=tokenizer.end_id)
    assert tokenizer.decode(completion.tokens) == " Paris"
    assert AutoTokenizer.from_pretrained(tmp_path)("The capital of France is")["input_ids"] == prompt
