"""The mixture as the tokenize stage leaves it: what arrays hold, what is reported, and what a training sees."""

from collections import Counter
from pathlib import Path
from random import Random

import numpy as np
import pytest

from tests.trainer import tiny
from trainer.artifacts import RunFolder, folder_hashes, new_folder, write_jsonl
from trainer.data.conversations import ROLES, text_and_roles
from trainer.data.packing import ARRAYS
from trainer.data.rows import open_rows
from trainer.data.sources import record
from trainer.data.synthesis import Generator
from trainer.data.tokenizer import Tokenizer
from trainer.spec import DOMAINS, MIXTURE, Domain, PhaseSpec, Record, SftSpec, TokenizeSpec
from trainer.stages import sft, tokenize

ENGLISH = "ice came early in that year and the harbour was closed until spring"
FORMULAS = r"let $\alpha + \beta = \frac{1}{2}$ be the sum of both terms of it"
GERMAN = "das Eis kam früh im Jahr und der Hafen blieb bis zum Frühling zu"
WORDS = {"general": ENGLISH.split(" "), "science": FORMULAS.split(" "), "multilingual": GERMAN.split(" ")}
PHASES = [
    PhaseSpec(phase="text", share=0.4, mix={"text": 1.0}),
    PhaseSpec(phase="completion", share=0.3, mix={"text": 0.8, "completion": 0.2}),
    PhaseSpec(phase="dialogue", share=0.3, mix={"text": 0.7, "completion": 0.1, "dialogue": 0.2}),
]
MOST = 40_000


def prose(domain: Domain, source: str, count: int, rng: Random) -> list[Record]:
    texts = (" ".join(rng.choices(WORDS[domain], k=rng.randint(20, 300))) for _ in range(count))
    return [record(f"{source} {n}: {text}", source, domain, "x") for n, text in enumerate(texts)]


def programs(count: int) -> list[Record]:
    functions = "\n\n".join(f"def area_{i}(width, height):\n    return width * height + {i}" for i in range(30))
    return [record(functions.replace("area", f"area_{n}"), "programs", "code", "python") for n in range(count)]


def dialogues(count: int, rng: Random) -> list[Record]:
    found = []
    for number in range(count):
        messages = [
            {"role": role, "content": " ".join(rng.choices(WORDS["general"], k=rng.randint(1, 12)))}
            for _ in range(rng.randint(1, 5))
            for role in ("user", "assistant")
        ]
        text, roles = text_and_roles([{"role": "system", "content": f"talk {number}"}, *messages])
        found.append(record(text, "talks", "general", "en", **{ROLES: roles}))
    return found


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunFolder]:
    """Too little multilingual text for its share, unless it is repeated; of the rest enough."""
    clean, synthesized = (RunFolder(tmp_path_factory.mktemp(name)) for name in ("clean", "synthesize"))
    rng = Random(0)
    records = [
        *programs(40), *prose("science", "papers", 60, rng), *prose("multilingual", "zeitung", 24, rng),
        *prose("general", "books", 50, rng), *prose("general", "web", 50, rng), *dialogues(40, rng),
    ]  # fmt: skip
    with new_folder(clean.artifacts / "documents") as folder:
        write_jsonl(folder / "part-000.jsonl", records)
    with new_folder(synthesized.artifacts / "problems") as folder:
        write_jsonl(folder / "train.jsonl", Generator(tiny.EASY, (1,), 0).problems("train", 200))
    return {"documents": clean, "problems": synthesized}


def tokenized(path: Path, inputs: dict[str, RunFolder], **changes: object) -> RunFolder:
    spec = {"kind": "tokenize", "name": "t", "vocab_size": 420, "context": 192, "max_tokens": MOST, **changes}
    run = tiny.new_run(path, spec, inputs)
    parsed = run.folder.job().spec
    assert isinstance(parsed, TokenizeSpec)
    tokenize.run(parsed, run)
    return run.folder


@pytest.fixture(scope="module")
def done(inputs: dict[str, RunFolder], tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return tokenized(tmp_path_factory.mktemp("tokenize"), inputs)


def held(folder: RunFolder, source: str) -> dict[Domain, int]:
    domains = np.load(folder.artifact("tokens") / source / "train" / "domains.npy")
    return {domain: int((domains == number).sum()) for number, domain in enumerate(DOMAINS)}


def test_the_shares_wanted_are_reached_by_repeating_what_there_is_too_little_of(done: RunFolder) -> None:
    tokens, found = held(done, "text"), done.result()["mixture"]
    assert sum(tokens.values()) == MOST
    assert found["short"] == []
    for domain, report in found["domains"].items():
        assert report["wanted"] == MIXTURE[domain]
        assert report["tokens"] == tokens[domain]
        assert abs(tokens[domain] / MOST - MIXTURE[domain]) < 0.001
        assert report["reached"] == pytest.approx(tokens[domain] / MOST, abs=1e-4)
        assert sum(source["tokens"] for source in report["sources"].values()) == tokens[domain]
    scarce, plenty = found["domains"]["multilingual"], found["domains"]["code"]
    assert 1 < scarce["repeated"] <= 4
    assert scarce["repeated"] == pytest.approx(scarce["tokens"] / scarce["available"], abs=0.01)
    assert plenty["repeated"] == 1
    assert plenty["available"] > plenty["tokens"]


def test_no_document_is_repeated_more_often_than_may_be_and_what_is_missing_is_said(
    inputs: dict[str, RunFolder], tmp_path: Path
) -> None:
    folder = tokenized(tmp_path / "t", inputs, max_epochs=1)
    tokens, found = held(folder, "text"), folder.result()["mixture"]
    report = found["domains"]["multilingual"]
    assert (report["counted"], report["repeated"]) == (True, 1)
    assert tokens["multilingual"] == report["tokens"] == report["available"] < 0.33 * MOST
    assert tokens["code"] == round(0.28 * MOST)  # nothing takes the place of what is missing
    assert "multilingual" in found["short"][0]
    most = int(found["short"][0].rpartition(" ")[2].replace(",", ""))
    for limit, short in ((most, 0), (most + 100, 1)):
        again = tokenized(tmp_path / str(limit), inputs, max_epochs=1, max_tokens=limit)
        assert len(again.result()["mixture"]["short"]) == short
    lines = (folder.artifact("tokens") / "text" / "train" / "origins.jsonl").read_text()
    assert set(Counter(part for part in lines.split('"id": ') if '"start": 0,' in part).values()) == {1}


def test_weights_shift_what_comes_from_which_source(inputs: dict[str, RunFolder], tmp_path: Path) -> None:
    folder = tokenized(tmp_path / "t", inputs, source_weights={"web": 3.0, "papers": 0.0})
    domains = folder.result()["mixture"]["domains"]
    sources = domains["general"]["sources"]
    assert sources["web"]["tokens"] / sources["web"]["available"] == pytest.approx(
        3 * sources["books"]["tokens"] / sources["books"]["available"], rel=0.15
    )
    assert domains["science"]["sources"] == {}
    with pytest.raises(ValueError, match="names press, of which there is nothing"):
        tokenized(tmp_path / "u", inputs, source_weights={"press": 3.0})


def test_with_its_phases_a_training_sees_the_mixture(inputs: dict[str, RunFolder], tmp_path: Path) -> None:
    """By the stage's own draws, over the whole run; science and code come from dialogue and completion too."""
    folder = tokenized(tmp_path / "t", inputs, phases=[phase.model_dump() for phase in PHASES])
    sources = open_rows(folder.artifact("tokens"), "train")
    spec = SftSpec.model_validate(
        {
            "name": "s", "inputs": {"dataset": "d"}, "model": tiny.config().model_dump(), "steps": 400, "batch_rows": 8,
            "optimizer": {"lr": 1e-3}, "phases": PHASES,
        }
    )  # fmt: skip
    memory = {"drawn": dict.fromkeys(sources, 0.0), "owed": dict.fromkeys(sft.SOURCES, 0.0)}
    seen = dict.fromkeys(DOMAINS, 0)
    for step in range(spec.steps):
        sft.count_tokens(seen, sft.draw(spec, sources, sft.phase_at(PHASES, step / spec.steps), memory))  # type: ignore[arg-type]
    reached = folder.result()["mixture"]["run"]["reached"]
    for domain, wanted in MIXTURE.items():
        assert abs(reached[domain] - wanted) < 0.001
        assert abs(seen[domain] / sum(seen.values()) - wanted) < 0.01
    assert abs(held(folder, "text")["code"] / MOST - MIXTURE["code"]) > 0.05


def test_dialogues_are_learned_beside_problems_and_are_no_text(done: RunFolder) -> None:
    assert 0 < held(done, "dialogue")["general"] < held(done, "dialogue")["science"]
    tokenizer = Tokenizer.load(done.artifact("tokenizer"))
    for source, found in (("dialogue", True), ("text", False)):
        tokens = np.load(done.artifact("tokens") / source / "train" / "tokens.npy")
        assert ("talk 1" in tokenizer.decode(tokens.ravel().tolist())) is found
    sources = done.result()["mixture"]["domains"]["general"]["sources"]
    assert sources.keys() == {"books", "web"}


def test_no_document_is_in_both_splits_of_any_source(done: RunFolder) -> None:
    ids: dict[str, set[str]] = {"train": set(), "heldout": set()}
    for path in done.artifact("tokens").glob("*/*/origins.jsonl"):
        ids[path.parent.name] |= {part.split('"')[1] for part in path.read_text().split('"id": ')[1:]}
    assert len(ids["train"]) > 300
    assert len(ids["heldout"]) >= 6
    assert not ids["train"] & ids["heldout"]


def test_processes_change_nothing(done: RunFolder, inputs: dict[str, RunFolder], tmp_path: Path) -> None:
    again = tokenized(tmp_path / "t", inputs, processes=2)
    assert folder_hashes(again.artifact("tokens")) == folder_hashes(done.artifact("tokens"))
    assert sorted(again.result()) == sorted(done.result())
    assert again.result() == done.result()
    assert not [path for path in again.path.rglob("*") if path.name.startswith(".encoded")]
    assert {path.name for path in (again.artifact("tokens") / "text" / "train").iterdir()} == {
        "origins.jsonl", *(f"{name}.npy" for name in ARRAYS),
    }  # fmt: skip
