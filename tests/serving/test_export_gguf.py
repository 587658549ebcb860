"""GGUF: what is exported comes back as the same network and tokenizer, in llama.cpp's names, kinds and order."""

import json
import os
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
from gguf import GGMLQuantizationType as Kind
from safetensors.torch import load_file

from serving.export.gguf import pre_tokenizer, read_gguf
from tests.serving.llama_cpp import VARIABLE, greedy, server, token_ids
from tests.serving.world import checkpoint_run, error_of, export_run
from tests.trainer import tiny
from trainer.artifacts import RunFolder
from trainer.data.foreign_tokenizer import read_tokenizer
from trainer.model.config import ModelConfig
from trainer.model.generate import generate
from trainer.model.gguf import unpack
from trainer.model.mixtral import from_mixtral, load_model
from trainer.spec import Message

PROMPTS = ("12 plus 5 makes", "says the tiny corpus of line 29", "Größe 数学 <|end|>", "  7 plus\n\n3")


def shape(**changes: Any) -> ModelConfig:
    return tiny.config(**{"intermediate_size": 32, **changes})


def gguf_run(tmp_path: Path, numbers: str, config: ModelConfig | None = None, **spec: Any) -> tuple[Path, RunFolder]:
    """The GGUF file of a random network's export, and the export's run."""
    source = checkpoint_run(tmp_path / "training", config=config or shape())
    status, run = export_run(tmp_path / "export", source, gguf=numbers, **spec)
    assert status == 0, run.status()
    return run.artifact("gguf") / f"model-{numbers}.gguf", run


@pytest.mark.parametrize("changes", [{}, {"tie_word_embeddings": True}, {"num_experts_per_tok": 3, "vocab_size": 300}])
def test_float32_comes_back_as_the_same_weights(tmp_path: Path, changes: dict[str, Any]) -> None:
    path, run = gguf_run(tmp_path, "f32", shape(**changes))
    _, state = read_gguf(path)
    written = from_mixtral(shape(**changes), load_file(run.artifact("export") / "model.safetensors"))
    assert state.keys() == written.keys()
    assert all(torch.equal(state[name], tensor) for name, tensor in written.items())
    assert run.result()["gguf_kl"] <= 1e-9
    assert run.result()["gguf_top1"] == 1


@pytest.mark.parametrize("numbers", ["f16", "bf16", "q8_0"])
def test_rounded_weights_differ_by_half_a_step(tmp_path: Path, numbers: str) -> None:
    """And by 7 hundredths of one for Q8_0, whose scales are float16. What is computed differs little on average only:
    single tokens may go to another expert."""
    path, run = gguf_run(tmp_path, numbers)
    _, state = read_gguf(path)
    exact = from_mixtral(shape(), load_file(run.artifact("export") / "model.safetensors"))
    for name, tensor in exact.items():
        blocks = tensor.reshape(-1, min(32, tensor.shape[-1]))
        step = {"f16": blocks.abs() * 2**-10, "bf16": blocks.abs() * 2**-7, "q8_0": blocks.abs().amax(-1, True) / 127}
        allowed = 0.0 * blocks if tensor.dim() == 1 or "router" in name else 0.57 * step[numbers] + 1e-7
        assert bool(((state[name].reshape(blocks.shape) - blocks).abs() <= allowed).all()), name
    assert 0 < run.result()["gguf_kl"] <= 0.02
    assert run.result()["gguf_top1"] >= 0.9


def test_names_kinds_and_metadata_are_llama_cpps(tmp_path: Path) -> None:
    path, _ = gguf_run(tmp_path, "q8_0")
    reader = gguf.GGUFReader(path)
    kinds = {tensor.name: (tensor.tensor_type, tuple(map(int, tensor.shape))) for tensor in reader.tensors}
    assert kinds["blk.1.ffn_gate_exps.weight"] == (Kind.Q8_0, (32, 32, 8))
    assert kinds["blk.0.ffn_gate_inp.weight"] == (Kind.F32, (32, 8))
    assert kinds["blk.0.attn_k.weight"] == (Kind.Q8_0, (32, 16))
    assert kinds["blk.0.ffn_norm.weight"] == (Kind.F32, (32,))
    assert {kind for kind, _ in kinds.values()} == {Kind.Q8_0, Kind.F32}
    assert len(kinds) == 3 + 2 * 10
    values = {name: field.contents() for name, field in reader.fields.items()}
    expected = {"expert_count": 8, "expert_used_count": 2, "context_length": 64, "rope.dimension_count": 8}
    assert {name: values[f"llama.{name}"] for name in expected} == expected
    assert values["tokenizer.ggml.pre"] == "smollm"
    assert values["general.file_type"] == gguf.LlamaFileType.MOSTLY_Q8_0


def test_a_window_is_the_longest_context(tmp_path: Path) -> None:
    path, run = gguf_run(tmp_path, "f32", shape(sliding_window=16))
    assert read_gguf(path)[0].max_position_embeddings == 16
    assert run.result()["gguf_kl"] <= 1e-9


def test_the_tokenizer_comes_back(tmp_path: Path) -> None:
    path, run = gguf_run(tmp_path, "f32", shape(vocab_size=300))
    (tmp_path / "out").mkdir()
    unpack(path, tmp_path / "out")
    found, ours = read_tokenizer(tmp_path / "out", 300, lambda line: None), tiny.tokenizer()
    for text in PROMPTS:
        assert found.encode(text) == ours.encode(text)
    assert (found.start_ids, found.end_id) == (ours.start_ids, ours.end_id)
    assert run.result()["gguf_top1"] == 1


def test_rows_that_make_no_blocks_are_refused(tmp_path: Path) -> None:
    source = checkpoint_run(tmp_path / "training", config=tiny.config(intermediate_size=24))
    status, run = export_run(tmp_path / "export", source, gguf="q8_0")
    assert status == 1
    assert "ffn_down_exps.weight' has 24; choose 'bf16' or 'f16'" in error_of(run)
    assert not (run.artifacts / "gguf").exists()
    assert not (run.artifacts / "export").exists()


def test_a_tokenizer_that_llama_cpp_cuts_otherwise_is_refused(tmp_path: Path) -> None:
    state = json.loads(tiny.tokenizer().file)
    byte_level = state["pre_tokenizer"]["pretokenizers"][1]
    assert pre_tokenizer({"pre_tokenizer": byte_level}) == "gpt-2"
    for other in ({"type": "Metaspace"}, {**byte_level, "add_prefix_space": True}, None):
        with pytest.raises(ValueError, match=r"llama\.cpp has no name"):
            pre_tokenizer({"pre_tokenizer": other})


@pytest.mark.skipif(VARIABLE not in os.environ, reason=f"{VARIABLE} names no llama-server binary")
@pytest.mark.parametrize("window", [None, 24])
def test_llama_cpp_reads_and_answers_as_we_do(tmp_path: Path, window: int | None) -> None:
    """The same ids of texts and of a chat, the same greedy answer, the same log-probabilities."""
    path, run = gguf_run(tmp_path, "f32", shape(vocab_size=300, sliding_window=window))
    tokenizer, model = tiny.tokenizer(), load_model(run.artifact("export")).requires_grad_(False)
    with server(path) as client:
        for text in PROMPTS:
            assert token_ids(client, text, parse_special=False) == tokenizer.encode(text)
            prompt = [*tokenizer.start_ids, *tokenizer.encode(text)][:8]
            [expected] = generate(model, [prompt], max_new_tokens=16, end_id=tokenizer.end_id)
            answer, first = greedy(client, prompt, 16)
            assert answer == list(expected.tokens)
            logprobs_V = model.logits(model(torch.tensor([prompt])).hidden_BLD)[0, -1].log_softmax(dim=-1)
            assert first == pytest.approx({token: float(logprobs_V[token]) for token in first}, abs=1e-3)
        message = Message(role="user", content="12 plus 5")
        shown = client.post("/apply-template", json={"messages": [message.model_dump()]}).json()["prompt"]
        ids = token_ids(client, shown, parse_special=True, add_special=True)
        assert ids == tokenizer.encode_chat([message], add_generation_prompt=True)[0]
