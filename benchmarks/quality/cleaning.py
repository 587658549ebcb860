"""python -m benchmarks.quality.cleaning --data FOLDER: what the cleaning rules find and what they get wrong.

Languages of articles and of cuts of 60 characters from them; toxicity on a held-back fifth of labelled posts and on
sentences that merely mention a group of people; planted near-duplicates of which the Jaccard similarity is known.
"""

import argparse
import json
import os
import re
import sysconfig
import tempfile
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.machine import commit, hardware, today
from benchmarks.quality.data import add_data_option, rows
from trainer.artifacts import write_atomic
from trainer.data.dedup.buckets import cluster
from trainer.data.dedup.clusters import apart, find
from trainer.data.dedup.columns import Column
from trainer.data.dedup.minhash import BANDS, SHINGLE, accepted_from, band_keys, signature
from trainer.data.rules import toxicity
from trainer.data.rules.language import detect, prose_of
from trainer.data.words import find_words

RESULTS = Path(__file__).parent.parent / "results" / "cleaning_quality.json"
CUT = 60  # characters
HARMLESS = "neither"
THRESHOLDS = (0.5, 0.9)
JACCARD = 0.8
# Neither sentences nor all groups are those that training adds (trainer.data.rules.mentions).
GROUPS = (
    "gay men", "lesbians", "Muslims", "Jews", "Christians", "black people", "white people", "Asians", "immigrants",
    "refugees", "Mexicans", "women", "transgender people", "disabled people", "deaf people", "old people", "Hindus",
    "Arabs", "Roma", "Africans", "queer people", "bisexual people", "blind people", "Chinese people", "Turks", "Poles",
    "Irish people", "atheists", "Buddhists", "Sikhs",
)  # fmt: skip
SENTENCES = (
    "The city has a long history of welcoming {}.",
    "{} have voted in this country for a long time.",
    "My doctor wrote a book about {} in the nineteenth century.",
    "A new film follows three {} on their way to the coast.",
    "I grew up in a street where many {} lived.",
    "The museum opens an exhibition about {} next month.",
    "Statistics show that {} are more likely to rent a flat.",
    "We invited {} to speak at the school on Friday.",
    "Some of my best teachers were {}.",
    "The law protects {} from being dismissed without reason.",
)


# -- languages -------------------------------------------------------------------------------------------------------


def languages(data: Path) -> dict[str, Any]:
    """Accuracy over all articles and over one cut at a random place of each; no language is ruled out beforehand."""
    rng = Random(0)
    whole, cuts = [], []
    for row in rows(data, "text_multilingual"):
        start = rng.randrange(max(1, len(row["text"]) - CUT))
        whole.append((row["lang"], row["text"]))
        cuts.append((row["lang"], row["text"][start : start + CUT]))
    return {"articles": _accuracy(whole), f"cuts of {CUT} characters": _accuracy(cuts)}


def _accuracy(texts: list[tuple[str, str]]) -> dict[str, Any]:
    wrong: Counter[str] = Counter()
    per_language = Counter(language for language, _ in texts)
    right: Counter[str] = Counter()
    for language, text in texts:
        found = detect(prose_of(text))[0]
        right[language] += found == language
        wrong[f"{language} as {found}"] += found != language
    worst = min(per_language, key=lambda language: right[language] / per_language[language])
    return {
        "texts": len(texts),
        "languages": len(per_language),
        "accuracy": round(right.total() / len(texts), 4),
        "worst": {worst: round(right[worst] / per_language[worst], 4)},
        "most frequent mistakes": dict((+wrong).most_common(5)),
    }


# -- toxicity --------------------------------------------------------------------------------------------------------


def toxic_posts(data: Path) -> dict[str, Any]:
    """Trained on four fifths of the posts, measured on the last; the list of words beside it on the same ones."""
    posts = [(row["text"], row["label"]) for row in rows(data, "toxicity_tweets")]
    Random(0).shuffle(posts)
    held_back, known = posts[: len(posts) // 5], posts[len(posts) // 5 :]
    model = toxicity.train(known, HARMLESS)
    toxic = np.array([label != HARMLESS for _, label in held_back])
    mentions = [sentence.format(group) for sentence in SENTENCES for group in GROUPS]
    found: dict[str, Any] = {"trained on": len(known), "held back": len(held_back), "mentions": len(mentions)}
    for name, judge in (("trained", model), ("list of words", toxicity.WordList())):
        scores = np.array([judge.toxicity(text) for text, _ in held_back])
        mentioned = np.array([judge.toxicity(text) for text in mentions])
        found[name] = {
            "AUC": round(area_under_curve(scores, toxic), 4),
            **{
                f"above {threshold}": {
                    "toxic posts": round(float((scores[toxic] > threshold).mean()), 4),
                    "harmless posts": round(float((scores[~toxic] > threshold).mean()), 4),
                    "mentions of groups": round(float((mentioned > threshold).mean()), 4),
                }
                for threshold in THRESHOLDS
            },
        }
    guesses = [model.classifier.labels[model.classifier.probabilities(text)[0].argmax()] for text, _ in held_back]
    scores_by_label = {
        label: f1(guesses, [label for _, label in held_back], label) for label in model.classifier.labels
    }
    found["trained"]["F1"] = {label: round(score, 4) for label, score in scores_by_label.items()}
    found["trained"]["macro-F1"] = round(float(np.mean(list(scores_by_label.values()))), 4)
    return found


def area_under_curve(scores: NDArray[np.float64], positive: NDArray[np.bool_]) -> float:
    """The chance that a positive has a higher score than a negative; ties count half (Mann-Whitney)."""
    _, place, count = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(count) - (count - 1) / 2)[place]
    positives = int(positive.sum())
    below = ranks[positive].sum() - positives * (positives + 1) / 2
    return float(below / (positives * (len(scores) - positives)))


def f1(guesses: list[str], truth: list[str], label: str) -> float:
    hits = sum(guess == true == label for guess, true in zip(guesses, truth, strict=True))
    return 2 * hits / (guesses.count(label) + truth.count(label))


# -- near-duplicates -------------------------------------------------------------------------------------------------


def planted_duplicates(data: Path) -> dict[str, Any]:
    """Each document with one copy of which some words are changed, so many that similarities from 0.3 to 1 come up.

    A merge is false where the exact Jaccard similarity of the 5-word shingles is below the threshold; right below it
    the sketch cannot tell, so what lies further below is counted by itself.
    """
    rng = Random(0)
    originals = [text.split() for text in _documents(data)]
    copies = [_edited(words, rng) for words in originals]
    root_N = _clusters([" ".join(words) for words in (*originals, *copies)])
    first_N = find(root_N, np.arange(len(root_N)))
    count = len(originals)
    true = np.array([_jaccard(" ".join(a), " ".join(b)) for a, b in zip(originals, copies, strict=True)])
    merged = first_N[:count] == first_N[count:]
    bands = {"0.8 to 1": (0.8, 1.01), "0.7 to 0.8": (0.7, 0.8), "0.3 to 0.7": (0.0, 0.7)}
    shares = {
        name: {"pairs": int(inside.sum()), "merged": round(float(merged[inside].mean()), 4)}
        for name, (low, high) in bands.items()
        if (inside := (true >= low) & (true < high)).any()
    }
    return {"planted pairs": shares, "different documents": _false_merges(first_N[:count], originals)}


def _documents(data: Path) -> list[str]:
    """Prose, LaTeX and code of 100 words to 5,000, one a text."""
    texts = [row["text"] for name in ("text_en", "latex_science") for row in rows(data, name)]
    library = Path(sysconfig.get_path("stdlib"))
    for folder, folders, files in sorted(os.walk(library)):
        folders[:] = [name for name in folders if name != "site-packages"]
        texts += [Path(folder, name).read_text("utf-8", "replace") for name in sorted(files) if name.endswith(".py")]
    return [text for text in dict.fromkeys(texts) if 100 <= len(text.split()) <= 5_000]


def _edited(words: list[str], rng: Random) -> list[str]:
    """With a share of its words replaced: of n shingles each word is in 5, so J = (1 - s)^5 / (2 - (1 - s)^5)."""
    jaccard = rng.uniform(0.3, 1)
    share = 1 - (2 * jaccard / (1 + jaccard)) ** (1 / SHINGLE)
    return [f"w{rng.randrange(10**9)}" if rng.random() < share else word for word in words]


def _clusters(texts: list[str]) -> NDArray[np.int64]:
    """As a clean job makes them: candidates share a band, their sketches decide."""
    sketches = np.stack([signature(find_words(text).hashes) for text in texts])
    root_N = apart(len(texts))
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder, "signatures.npy"), sketches)
        np.save(Path(folder, "keys.npy"), np.ascontiguousarray(band_keys(sketches).T))
        signatures = Column([Path(folder, "signatures.npy")])
        for band in range(BANDS):
            cluster(Column([Path(folder, "keys.npy")], band), signatures, accepted_from(JACCARD), root_N)
    return root_N


def _false_merges(first_N: NDArray[np.int64], documents: list[list[str]]) -> dict[str, Any]:
    """Documents of a real corpus that were put to an earlier one they do not resemble: to none of its cluster."""
    texts = [" ".join(words) for words in documents]
    later = np.flatnonzero(first_N != np.arange(len(first_N)))
    best = [
        max(_jaccard(texts[place], texts[other]) for other in np.flatnonzero(first_N[:place] == first_N[place]))
        for place in later
        if (first_N[:place] == first_N[place]).any()
    ]
    return {
        "documents": len(texts),
        "merged": len(best),
        "below 0.8": sum(jaccard < JACCARD for jaccard in best),
        "below 0.7": sum(jaccard < 0.7 for jaccard in best),
    }


def _jaccard(first: str, second: str) -> float:
    shingles = []
    for text in (first, second):
        words = re.findall(r"[^\W_]+", text.lower())
        shingles.append({tuple(words[start : start + SHINGLE]) for start in range(len(words) - SHINGLE + 1)})
    return len(shingles[0] & shingles[1]) / max(1, len(shingles[0] | shingles[1]))


MEASURES = {"languages": languages, "toxicity": toxic_posts, "near-duplicates": planted_duplicates}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality.cleaning")
    add_data_option(parser)
    parser.add_argument("--only", choices=MEASURES, action="append", help="by default all; others' figures stay")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parsed = parser.parse_args()
    kept = json.loads(parsed.results.read_text()) if parsed.results.is_file() else {}
    for name in parsed.only or MEASURES:
        found = MEASURES[name](parsed.data)
        where = {"date": today(), "hardware": hardware(), "commit": commit(Path(__file__).parent)}
        kept[name] = {**where, **found}
        print(json.dumps({name: found}, indent=1), flush=True)
    write_atomic(parsed.results, json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
