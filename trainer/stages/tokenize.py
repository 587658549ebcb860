"""Tokenize: learn a tokenizer from documents and problems, or take a checkpoint's, then pack text, completion and
dialogue into rows."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any, TypeVar

from trainer.artifacts import Run, new_folder, read_jsonl
from trainer.data import mixture
from trainer.data.packing import Packed, Piece, pack_running, pack_whole
from trainer.data.pieces import chat_pieces, chats, completion_pieces, document_pieces
from trainer.data.stopping import stop_if_asked, stoppable
from trainer.data.tokenizer import Tokenizer
from trainer.spec import Problem, Record, TokenizeSpec

HELDOUT_SHARE = 0.02
_SAMPLE_CHARACTERS = 2_000_000  # of documents the tokenizer is learnt from
_SAMPLE_PROBLEMS = 4_000
_CHARACTERS_PER_DOCUMENT = 4_000  # of it in that sample, so that no long one dominates

_MOST_CHARACTERS_PER_TOKEN = 6

Item = TypeVar("Item", Record, Problem)


@dataclass(frozen=True)
class Source:
    """One kind of rows: how items of it become pieces, and pieces rows."""

    name: str
    make: Callable[[bool], Iterable[Piece]]  # heldout? -> pieces
    pack: Callable[[Iterable[Piece], int, int], Packed]


def run(spec: TokenizeSpec, run: Run) -> None:
    with stoppable():
        documents, problems = _read(spec, run)
        tokenizer = _tokenizer(spec, run, documents, problems)
        with new_folder(run.folder.artifacts / "tokenizer") as folder:
            tokenizer.save(folder)
        result: dict[str, Any] = {"vocab_size": tokenizer.vocab_size, "context": spec.context}
        with new_folder(run.folder.artifacts / "tokens") as folder:
            for step, source in enumerate(_sources(spec, tokenizer, documents, problems), start=2):
                stop_if_asked(run)
                run.progress(step, 6, f"packing {source.name}")
                result[source.name] = _write(source, spec, tokenizer, folder)
                run.log(f"{source.name}: {result[source.name]}")
        stop_if_asked(run)
        run.progress(6, 6, "done")
        run.folder.write_result(result)


def _read(spec: TokenizeSpec, run: Run) -> tuple[list[Record], list[Problem]]:
    """Documents at random order, problems as they come."""
    paths = sorted(run.input("documents").artifact("documents").glob("part-*.jsonl"))
    documents = [record for path in paths for record in read_jsonl(path, Record)]
    if not documents:
        raise ValueError("the documents hold no record; loosen the rules of the clean job or give it more text")
    Random(spec.seed).shuffle(documents)
    return documents, list(read_jsonl(run.input("problems").artifact("problems") / "train.jsonl", Problem))


def _tokenizer(spec: TokenizeSpec, run: Run, documents: Sequence[Record], problems: Sequence[Problem]) -> Tokenizer:
    if spec.vocab_size is None:
        return Tokenizer.load(run.input("checkpoint").checkpoint())
    run.progress(1, 6, "learning the tokenizer")
    return Tokenizer.train(_sample(documents, problems), spec.vocab_size)


def _sample(documents: Sequence[Record], problems: Sequence[Problem]) -> Iterator[str]:
    """What the tokenizer learns from: the start of documents, and problems with their solutions."""
    left = _SAMPLE_CHARACTERS
    for record in documents:
        if left <= 0:
            break
        text = record.text[:_CHARACTERS_PER_DOCUMENT]
        left -= len(text)
        yield text
    for problem in islice(problems, _SAMPLE_PROBLEMS):
        yield problem.prompt
        yield problem.solution


def _sources(
    spec: TokenizeSpec, tokenizer: Tokenizer, documents: Sequence[Record], problems: Sequence[Problem]
) -> tuple[Source, ...]:
    code = [record for record in documents if record.domain == "code"]

    def text(heldout: bool) -> list[Piece]:
        # The mixture is by tokens, which are known only once encoded: encode enough for every share, not everything.
        enough = _within_characters(_split(documents, heldout), spec.max_tokens * _MOST_CHARACTERS_PER_TOKEN)
        pieces = list(document_pieces(tokenizer, enough))
        return list(mixture.take(pieces, mixture.budgets(mixture.tokens_by_domain(pieces), spec.max_tokens)))

    def completion(heldout: bool) -> Iterable[Piece]:
        return completion_pieces(tokenizer, _split(code, heldout), spec.context, Random(f"{spec.seed}/fim/{heldout}"))

    def dialogue(heldout: bool) -> list[Piece]:
        rng = Random(f"{spec.seed}/chats/{heldout}")
        by_level = spec.worked_share_by_level
        conversations = list(chats(_split(problems, heldout), spec.worked_share, rng, by_level))
        return chat_pieces(tokenizer, conversations, spec.context)

    return (
        Source("text", text, pack_running),
        Source("completion", completion, pack_whole),
        Source("dialogue", dialogue, pack_whole),
    )


def _write(source: Source, spec: TokenizeSpec, tokenizer: Tokenizer, folder: Path) -> dict[str, Any]:
    """Pack and save both splits of a source; returns what was packed."""
    report: dict[str, Any] = {}
    for split in ("train", "heldout"):
        pieces = _limited(source.make(split == "heldout"), spec.max_tokens)
        packed = source.pack(pieces, spec.context, tokenizer.pad_id)
        packed.save(folder / source.name / split)
        report[split] = {
            "pieces": len(pieces),
            "rows": len(packed.tokens),
            "tokens": packed.used,
            "targets": int(packed.loss_mask.sum()),
            "fill": round(packed.fill, 4),
            "shares": mixture.shares(mixture.tokens_by_domain(pieces)),
        }
    return report


def _within_characters(records: Iterable[Record], most: int) -> Iterator[Record]:
    """Records in order, of each domain at most its share of `most` characters and the one that exceeds it."""
    left = {domain: share * most for domain, share in mixture.TARGET.items()}
    for record in records:
        if left[record.domain] > 0:
            left[record.domain] -= len(record.text)
            yield record


def _limited(pieces: Iterable[Piece], max_tokens: int) -> list[Piece]:
    """Pieces in order while they stay within `max_tokens`."""
    kept, left = [], max_tokens
    for piece in pieces:
        left -= len(piece.ids)
        if left < 0:
            break
        kept.append(piece)
    return kept


def _split(items: Sequence[Item], heldout: bool) -> list[Item]:
    """The held-out share, or the rest, in order: items with the smallest hashes of their ids, at least one of two."""
    ranked = sorted(items, key=lambda item: hashlib.sha256(item.id.encode()).digest())
    count = max(1, round(HELDOUT_SHARE * len(items))) if len(items) > 1 else 0
    chosen = {item.id for item in ranked[:count]}
    return [item for item in items if (item.id in chosen) == heldout]
