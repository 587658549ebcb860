"""The tokenize stage on real parts: what is packed is what was read, and splits share nothing."""

from pathlib import Path

import numpy as np
import pytest

from tests.trainer import tiny
from trainer.artifacts import Run, RunFolder, folder_hashes, new_folder, write_jsonl
from trainer.data.rows import ARRAYS
from trainer.data.sources import record
from trainer.data.synthesis import Generator
from trainer.data.tokenizer import Tokenizer
from trainer.spec import DOMAINS, Job, TokenizeSpec
from trainer.stages import tokenize

SPEC = TokenizeSpec.model_validate(
    {"name": "t", "inputs": {"documents": "d", "problems": "p"}, "vocab_size": 400, "context": 128}
)
CODE = "\n\n".join(f"def area_{i}(width, height):\n    return width * height + {i}" for i in range(30))
PROSE = " ".join(f"Number {i} of the harbour books says that the ice came early in that year." for i in range(40))


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    clean, synthesized = (RunFolder(tmp_path_factory.mktemp(name)) for name in ("clean", "synthesize"))
    documents = [record(CODE.replace("area", f"area_{n}"), "s", "code", "python") for n in range(12)]
    documents += [record(PROSE.replace("harbour", f"harbour {n}"), "s", "general", "en") for n in range(12)]
    with new_folder(clean.artifacts / "documents") as folder:
        write_jsonl(folder / "part-000.jsonl", documents)
    with new_folder(synthesized.artifacts / "problems") as folder:
        write_jsonl(folder / "train.jsonl", Generator(tiny.EASY, (1, 2), 0).problems("train", 300))
    return {"documents": str(clean.path), "problems": str(synthesized.path)}


def tokenized(path: Path, inputs: dict[str, str], spec: TokenizeSpec = SPEC) -> RunFolder:
    folder = RunFolder(path)
    folder.write_job(Job(id=path.name, spec=spec, inputs=inputs))
    tokenize.run(spec, Run(folder))
    return folder


@pytest.fixture(scope="module")
def done(inputs: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return tokenized(tmp_path_factory.mktemp("tokenize"), inputs)


def arrays(folder: RunFolder, source: str, split: str) -> dict[str, np.ndarray]:
    return {name: np.load(folder.artifact("tokens") / source / split / f"{name}.npy") for name in ARRAYS}


def test_every_source_and_split_is_there_as_the_report_says(done: RunFolder) -> None:
    result = done.result()
    assert Tokenizer.load(done.artifact("tokenizer")).vocab_size == result["vocab_size"] == 400
    for source in ("text", "completion", "dialogue"):
        for split in ("train", "heldout"):
            found, report = arrays(done, source, split), result[source][split]
            assert {array.shape for array in found.values()} == {(report["rows"], 128)}
            assert report["rows"] > 0
            assert report["tokens"] == (found["segments"] > 0).sum()
            assert report["targets"] == found["loss_mask"].sum()
            assert not found["loss_mask"][found["segments"] == 0].any()
    assert result["text"]["train"]["fill"] > 0.98
    assert result["dialogue"]["train"]["fill"] > 0.8


def test_domains_are_those_of_the_documents(done: RunFolder) -> None:
    for source, domains in (("text", {"code", "general"}), ("completion", {"code"}), ("dialogue", {"science"})):
        found = arrays(done, source, "train")["domains"]
        assert {DOMAINS[domain] for domain in np.unique(found[found >= 0])} == domains


def test_dialogue_trains_on_answers_only_and_starts_every_chat_anew(done: RunFolder) -> None:
    tokenizer = Tokenizer.load(done.artifact("tokenizer"))
    found = arrays(done, "dialogue", "train")
    for tokens, segments, mask in zip(found["tokens"], found["segments"], found["loss_mask"], strict=True):
        for segment in range(1, segments.max() + 1):
            chat, counted = tokens[segments == segment], mask[segments == segment]
            assert chat[0] == tokenizer.start_ids[0]
            assert chat[-1] == tokenizer.end_id
            assert counted[-1]
            answers = tokenizer.decode(chat[counted].tolist())
            assert answers.count("The answer is") == (chat[counted] == tokenizer.end_id).sum()


def test_heldout_documents_and_problems_are_in_no_training_row(done: RunFolder) -> None:
    tokenizer = Tokenizer.load(done.artifact("tokenizer"))
    mark = tokenizer.special_ids["<|user|>"]
    asked = {}
    for split in ("train", "heldout"):
        tokens = arrays(done, "dialogue", split)["tokens"]
        text = [
            tokenizer.decode(row.tolist()) for row in np.split(tokens.ravel(), np.flatnonzero(tokens.ravel() == mark))
        ]
        asked[split] = {part.split("<think>")[0].split("The answer is")[0] for part in text[1:]}
    assert len(asked["train"]) > 200
    assert asked["heldout"]
    assert not asked["train"] & asked["heldout"]


def test_same_seed_same_bytes(done: RunFolder, inputs: dict[str, str], tmp_path: Path) -> None:
    again, other = (tokenized(tmp_path / str(seed), inputs, SPEC.model_copy(update={"seed": seed})) for seed in (0, 1))
    assert folder_hashes(again.artifact("tokens")) == folder_hashes(done.artifact("tokens"))
    assert folder_hashes(again.artifact("tokenizer")) == folder_hashes(done.artifact("tokenizer"))
    assert folder_hashes(other.artifact("tokens")) != folder_hashes(done.artifact("tokens"))


def test_max_tokens_bounds_every_source(inputs: dict[str, str], tmp_path: Path) -> None:
    result = tokenized(tmp_path / "run", inputs, SPEC.model_copy(update={"max_tokens": 2_000})).result()
    for source in ("completion", "dialogue"):
        assert 1_000 < result[source]["train"]["tokens"] <= 2_000


def test_mistakes_are_named_and_leave_no_tokens(inputs: dict[str, str], tmp_path: Path) -> None:
    short = SPEC.model_copy(update={"context": 16})
    with pytest.raises(ValueError, match="raise context"):
        tokenized(tmp_path / "short", inputs, short)
    assert not (tmp_path / "short" / "artifacts" / "tokens").exists()
    with pytest.raises(ValueError, match="no complete artifact 'documents'"):
        tokenized(tmp_path / "swapped", {"documents": inputs["problems"], "problems": inputs["problems"]})
