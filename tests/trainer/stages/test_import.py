"""The import stage on real parts: what it leaves goes through tokenize, sft, evaluate and export."""

import importlib
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import MixtralForCausalLM

from serving.export.__main__ import run as export
from tests.trainer import foreign, tiny
from tests.trainer.model.test_gguf import write
from trainer.artifacts import Run, RunFolder, new_folder, write_jsonl
from trainer.data.sources import record
from trainer.data.synthesis import Generator
from trainer.data.tokenizer import Tokenizer
from trainer.model.mixtral import load_model, read_config
from trainer.stages import evaluate, sft, tokenize

stage = importlib.import_module("trainer.stages.import")
ROWS = 448  # of the tiny networks: more than any test tokenizer has tokens


def done(run: Run, stage_run: Any) -> RunFolder:
    stage_run(run.folder.job().spec, run)
    return run.folder


def imported(path: Path, source: Path, **fields: Any) -> RunFolder:
    spec = {"kind": "import", "name": "import", "source": str(source), **fields}
    return done(tiny.new_run(path, spec, {}), stage.run)


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    foreign.network("llama", tmp_path / "llama", vocab_size=ROWS, max_position_embeddings=256)
    foreign.byte_level().save_pretrained(tmp_path / "llama")
    return tmp_path / "llama"


def test_what_it_leaves_is_a_checkpoint_that_transformers_opens(tmp_path: Path, llama: Path) -> None:
    folder = imported(tmp_path / "run", llama, experts=4)
    result, checkpoint = folder.result(), folder.checkpoint()
    model = load_model(checkpoint)
    assert (model.config.num_local_experts, model.config.num_experts_per_tok) == (4, 2)
    assert result["parameters"] == sum(parameter.numel() for parameter in model.parameters())
    assert result["logits_differ_by"] < 1e-4
    assert result["vocab_size"] == Tokenizer.load(checkpoint).vocab_size == 306
    theirs = MixtralForCausalLM.from_pretrained(checkpoint, attn_implementation="eager").eval()
    tokens = torch.randint(300, (2, 30), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(model.logits(model(tokens).hidden_BLD), theirs(tokens).logits, atol=1e-4, rtol=0)


def test_it_goes_through_the_pipeline_with_its_tokenizer_and_learns(tmp_path: Path, llama: Path) -> None:
    start = imported(tmp_path / "import", llama, experts=3)
    clean, problems = RunFolder(tmp_path / "clean"), RunFolder(tmp_path / "synthesize")
    with new_folder(clean.artifacts / "documents") as target:
        texts = [f"def area_{n}(width):\n    return width * {n}\n" * 8 for n in range(40)]
        write_jsonl(target / "part-000.jsonl", [record(text, "s", "code", "python") for text in texts])
    with new_folder(problems.artifacts / "problems") as target:
        for split, count in (("train", 120), ("heldout", 8)):
            write_jsonl(target / f"{split}.jsonl", Generator(tiny.EASY, (1,), 0).problems(split, count))
    spec: dict[str, Any] = {"kind": "tokenize", "name": "tokenize", "context": 256}
    inputs = {"documents": clean, "problems": problems, "checkpoint": start}
    dataset = done(tiny.new_run(tmp_path / "tokenize", spec, inputs), tokenize.run)
    tokenizer = Tokenizer.load(start.checkpoint())
    assert Tokenizer.load(dataset.artifact("tokenizer")).encodes_like(tokenizer)

    phases = [{"phase": "dialogue", "share": 1.0, "mix": {"text": 1, "completion": 1, "dialogue": 2}}]
    spec = {"kind": "sft", "name": "sft", "steps": 12, "batch_rows": 4, "compile": False, "precision": "fp32"}
    spec |= {"optimizer": {"lr": 1e-2}, "phases": phases}
    tuned = done(tiny.new_run(tmp_path / "sft", spec, {"dataset": dataset, "checkpoint": start}), sft.run)
    spec = {"kind": "evaluate", "name": "evaluate", "problems": 4, "max_new_tokens": 8, "perplexity_rows": 8}
    found = []
    for number, checkpoint in enumerate((start, tuned)):
        inputs = {"checkpoint": checkpoint, "problems": problems, "dataset": dataset}
        found.append(done(tiny.new_run(tmp_path / f"evaluate-{number}", spec, inputs), evaluate.run).result())
    for source, before in found[0]["perplexity"].items():
        assert found[1]["perplexity"][source] < 0.5 * before
    spec = {"kind": "export", "name": "export"}
    exported = done(tiny.new_run(tmp_path / "export", spec, {"checkpoint": tuned}), export).artifact("export")
    assert Tokenizer.load(exported).encodes_like(tokenizer)

    other = tiny.tokenized_run(tmp_path / "other")
    run = tiny.new_run(
        tmp_path / "wrong",
        {**spec, **{"kind": "sft", "steps": 1, "optimizer": {"lr": 1}}},
        {"dataset": other, "checkpoint": start},
    )
    with pytest.raises(ValueError, match="not made with the checkpoint's tokenizer"):
        done(run, sft.run)


@pytest.mark.parametrize("rows", [304, 306])
def test_tokens_that_are_added_get_rows_where_the_network_has_too_few(tmp_path: Path, rows: int) -> None:
    foreign.network("llama", tmp_path / "llama", vocab_size=rows)
    foreign.byte_level().save_pretrained(tmp_path / "llama")
    folder = imported(tmp_path / "run", tmp_path / "llama")
    assert read_config(folder.checkpoint()).vocab_size == (320 if rows < 306 else 306)
    assert folder.result()["logits_differ_by"] < 1e-4


def test_a_gguf_file_is_a_source(tmp_path: Path) -> None:
    model = foreign.network("llama", tmp_path / "llama")
    foreign.byte_level().save_pretrained(tmp_path / "llama")
    write(tmp_path / "it.gguf", model)
    one, other = (imported(tmp_path / name, tmp_path / source) for name, source in (("a", "llama"), ("b", "it.gguf")))
    ours, theirs = (load_model(folder.checkpoint()).state_dict() for folder in (one, other))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours if "router" not in name)
    assert not list(other.path.glob("tmp*")), "the unpacked file was left behind"


def test_mixtral_keeps_its_experts(tmp_path: Path) -> None:
    foreign.network("mixtral", tmp_path / "mixtral", vocab_size=ROWS)
    foreign.spaced().save_pretrained(tmp_path / "mixtral")
    folder = imported(tmp_path / "run", tmp_path / "mixtral")
    assert read_config(folder.checkpoint()).num_local_experts == 3
    assert folder.result()["logits_differ_by"] == 0
    with pytest.raises(ValueError, match="has 3 experts already"):
        imported(tmp_path / "more", tmp_path / "mixtral", experts=8)


def test_a_shorter_context_takes_a_window_that_is_longer_with_it(tmp_path: Path) -> None:
    foreign.network("mistral", tmp_path / "mistral", vocab_size=ROWS)
    foreign.byte_level().save_pretrained(tmp_path / "mistral")
    for context, window in ((32, 16), (16, 16), (8, None)):
        config = read_config(imported(tmp_path / str(context), tmp_path / "mistral", context=context).checkpoint())
        assert (config.max_position_embeddings, config.sliding_window) == (context, window)
    with pytest.raises(ValueError, match="context 65 exceeds the checkpoint's, 64 tokens"):
        imported(tmp_path / "long", tmp_path / "mistral", context=65)


def test_a_source_that_is_nothing_is_a_sentence_and_leaves_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_text("")
    for name in ("nothing", "weights.bin"):
        with pytest.raises(ValueError, match=rf"{name}' is no folder and no \.gguf file; give the checkpoint"):
            imported(tmp_path / f"run-{name}", tmp_path / name)
    with pytest.raises(ValueError, match="no complete checkpoint"):
        RunFolder(tmp_path / "run-nothing").checkpoint()
