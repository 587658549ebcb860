"""The benchmark of the cleaning rules on data of its own, and the measures that it reports."""

import gzip
import json
import random
from pathlib import Path

import numpy as np
import pytest

from benchmarks.quality.cleaning import __main__ as command
from benchmarks.quality.cleaning import bars, duplicates, languages, toxicity
from trainer.data.rules.mentions import harmless_mentions

WORDS = [first + second for first in ("ba", "ko", "li", "mu", "ne", "ro") for second in ("da", "fe", "gi", "hu", "sa")]


def made(seed: int, count: int) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=count))


def write(folder: Path, name: str, rows: list[dict[str, str]]) -> None:
    with gzip.open(folder / f"{name}.jsonl.gz", "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def posts() -> list[dict[str, str]]:
    phrases = {"hate": "vile pests get out", "offensive": "you silly fool", "neither": "lovely sunny day"}
    return [
        {"id": f"{label}-{number}", "text": f"{phrase} {made(number, 6)}", "label": label}
        for label, phrase in phrases.items()
        for number in range(30)
    ]


@pytest.mark.parametrize("edit", duplicates.EDITS)
@pytest.mark.parametrize("aim", [0.4, 0.9])
def test_an_edit_comes_near_the_similarity_it_aims_at(edit: duplicates.Edit, aim: float) -> None:
    words, other = made(0, 2000).split(), made(1, 9000).split()
    edited = edit(words, aim, other, random.Random(2))
    true = duplicates.jaccard(duplicates.shingles(" ".join(words)), duplicates.shingles(" ".join(edited)))
    assert true == pytest.approx(aim, abs=0.08)


def test_similarity_is_that_of_sets_of_five_words_whatever_case_and_marks() -> None:
    first, second = duplicates.shingles("a b c d e f g"), duplicates.shingles("A, b c_d e. F x!")
    assert len(first) == 3
    assert duplicates.jaccard(first, second) == 2 / 4


def test_near_copies_are_found_and_far_ones_left_and_a_false_merge_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    originals = [made(seed, 300) for seed in range(16)]
    planted = duplicates.copies(originals, random.Random(0))
    found = duplicates.compared(originals, planted)
    assert found["found"]["share"] > 0.8
    assert found["falsely merged"]["hits"] == 0
    assert sum(count["copies"] for count in found["merged by true Jaccard"].values()) == 16

    monkeypatch.setattr(duplicates, "clusters", lambda documents, folder: np.zeros(len(documents), np.int64))
    merged = duplicates.compared(originals, planted)
    assert merged["found"]["share"] == 1
    assert merged["originals falsely merged"] == 15


def test_cuts_are_of_whole_words_where_spaces_part_them() -> None:
    text = made(3, 100)
    cut = languages.middle(text, spaced=True)
    assert 50 <= len(cut) <= languages.CUT
    assert set(cut.split()) <= set(WORDS)
    assert cut in text
    assert len(languages.middle("字" * 100 + " " + "字" * 100, spaced=False)) == languages.CUT
    assert languages.middle("short text", spaced=True) == "short text"


def test_languages_are_counted_right_and_wrong(tmp_path: Path) -> None:
    german = "Die Katze sitzt auf dem Dach und schaut den Vögeln zu, die im Garten nach Futter suchen."
    french = "Le chat est assis sur le toit et regarde les oiseaux qui cherchent à manger dans le jardin."
    rows = [{"lang": "de", "text": german}, {"lang": "fr", "text": french}, {"lang": "fr", "text": german}]
    write(tmp_path, "text_multilingual", rows)
    found, judged = languages.measure(tmp_path)
    assert found["whole texts"]["by language"] == {"de": 1, "fr": 0.5}
    assert found["whole texts"]["mistakes"] == {"fr as de": 1}
    assert [bar["verdict"] for bar in judged] == ["not met", "not met"]


def test_auc_is_the_share_of_pairs_in_the_right_order() -> None:
    rng = np.random.default_rng(0)
    high, low = rng.integers(2, 9, 40).tolist(), rng.integers(0, 7, 50).tolist()
    pairs = [(a > b) + 0.5 * (a == b) for a in high for b in low]
    assert toxicity.auc(high, low) == pytest.approx(sum(pairs) / len(pairs))
    assert toxicity.f1(["a", "a", "b"], ["a", "b", "b"], "a") == pytest.approx(2 / 3)


def test_toxicity_is_measured_on_rows_and_sentences_that_were_not_learnt(tmp_path: Path) -> None:
    rows = posts()
    write(tmp_path, "toxicity_tweets", rows)
    found, (judged,) = toxicity.measure(tmp_path)
    assert found["learnt"] + found["measured"] == len(rows)
    assert 5 < found["measured"] < 40
    assert judged["verdict"] == "met"
    measured = {text for texts in toxicity.mentions().values() for text in texts}
    assert not measured & set(harmless_mentions())
    assert found["mentions dropped"]["all"]["n"] == len(measured)


def test_what_was_learnt_is_not_measured_in_another_case() -> None:
    ids = [str(number) for number in range(60)]
    learnt, unseen = toxicity.split([toxicity.Row(id, "Same text!" if int(id) % 2 else "same TEXT", "a") for id in ids])
    assert len(learnt) < 60
    assert unseen == []


def test_a_bar_is_met_at_its_very_value() -> None:
    verdicts = [bars.judged("", measured, ">=", 0.9)["verdict"] for measured in (0.9, 0.89999)]
    assert verdicts == ["met", "not met"]
    assert bars.judged("", 0.02, "<=", 0.01)["verdict"] == "not met"


def test_the_command_prints_and_keeps_each_bar(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, "text_multilingual", [{"lang": "en", "text": "The cat sits on the roof and looks at the birds."}])
    write(tmp_path, "toxicity_tweets", posts())
    write(tmp_path, "text_en", [{"text": made(seed, 200)} for seed in range(8)])
    write(tmp_path, "latex_science", [{"text": made(seed, 400)} for seed in range(8, 16)])
    monkeypatch.setattr(duplicates.sysconfig, "get_path", lambda name: str(tmp_path))
    (tmp_path / "module.py").write_text(made(16, 100))
    command.main(["--data", str(tmp_path), "--results", str(tmp_path / "results.json")])
    kept = json.loads((tmp_path / "results.json").read_text())
    printed = capsys.readouterr().out.splitlines()
    assert kept["duplicates"]["originals"] == 17
    assert len(kept["bars"]) == 5
    assert all(bars.line(bar) in printed for bar in kept["bars"])
