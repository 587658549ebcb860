"""Tokenize: learn a tokenizer from documents and problems, or take a checkpoint's, then pack text, completion and
dialogue into rows.

Nothing is held whole: documents stay in their files, encoded pieces in one of their own, and rows are written as they
are made. What is held grows by some hundred bytes a document.
"""

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.artifacts import Run, new_folder
from trainer.data import mixture
from trainer.data.conversations import chat_of, is_conversation
from trainer.data.corpus import Corpus, Kind
from trainer.data.encoded import Encoded, Store
from trainer.data.encoding import Encode, Encoder, Workers, batches
from trainer.data.packing import Count, Row, rows_of_whole, running_rows, write_rows
from trainer.data.stopping import stop_if_asked, stoppable
from trainer.data.text_mix import Taken, TextMix, take_mixture
from trainer.data.tokenizer import Tokenizer
from trainer.spec import DOMAINS, Domain, PhaseSpec, Problem, Record, TokenizeSpec

SPLITS = ("train", "heldout")
_SAMPLE_CHARACTERS = 2_000_000  # of documents the tokenizer is learnt from, at least
_SAMPLE_CHARACTERS_A_TOKEN = 1_000
_SAMPLE_PROBLEMS = 4_000
_CHARACTERS_PER_DOCUMENT = 4_000  # of it in that sample, so that no long one dominates
_WORTH_PROCESSES = 20_000_000  # characters: below, starting processes takes longer than they save


@dataclass(frozen=True)
class Job:
    """What the sources of rows share."""

    spec: TokenizeSpec
    run: Run
    corpus: Corpus
    tokenizer: Tokenizer
    encoder: Encoder
    workers: Workers
    folder: Path

    def watch(self) -> None:
        stop_if_asked(self.run)

    def rng(self, *what: object) -> np.random.Generator:
        """Random numbers for one purpose."""
        return np.random.default_rng([self.spec.seed, *"/".join(map(str, what)).encode()])

    def write(self, source: str, split: str, store: Store, rows: Iterator[Row]) -> Count:
        def name_of(item: int) -> dict[str, str]:
            return {"id": self.corpus.id(item), "kind": source}

        folder = self.folder / source / split
        return write_rows(folder, rows, store.fetch, self.spec.context, self.tokenizer.pad_id, name_of)


def run(spec: TokenizeSpec, run: Run) -> None:
    with stoppable(), ExitStack() as stack:
        run.progress(0, 6, "looking through the documents")
        corpus = _corpus(spec, run)
        stack.callback(corpus.close)
        run.progress(1, 6, "learning the tokenizer")
        tokenizer = _tokenizer(spec, run, corpus)
        with new_folder(run.folder.artifacts / "tokenizer") as folder:
            tokenizer.save(folder)
        encoder = Encoder(run.folder.artifacts / "tokenizer", spec)
        workers = stack.enter_context(Workers(_processes(spec, corpus)))
        result: dict[str, Any] = {"vocab_size": tokenizer.vocab_size, "context": spec.context}
        with new_folder(run.folder.artifacts / "tokens") as folder:
            result |= _pack(Job(spec, run, corpus, tokenizer, encoder, workers, folder))
        stop_if_asked(run)
        run.progress(6, 6, "done")
        run.folder.write_result(result)


def _corpus(spec: TokenizeSpec, run: Run) -> Corpus:
    documents = sorted(run.input("documents").artifact("documents").glob("part-*.jsonl"))
    corpus = Corpus(documents, [run.input("problems").artifact("problems") / "train.jsonl"])
    if not (corpus.kinds_N != Kind.PROBLEM).any():
        raise ValueError("the documents hold no record; loosen the rules of the clean job or give it more text")
    mixture.check_weights(corpus, spec.source_weights)
    return corpus


def _tokenizer(spec: TokenizeSpec, run: Run, corpus: Corpus) -> Tokenizer:
    if spec.vocab_size is None:
        return Tokenizer.load(run.input("checkpoint").checkpoint())
    return Tokenizer.train(_sample(spec, corpus), spec.vocab_size)


def _sample(spec: TokenizeSpec, corpus: Corpus) -> Iterator[str]:
    """What the tokenizer learns from: the start of documents in the shares of the mixture, and problems with their
    solutions."""
    most = max(_SAMPLE_CHARACTERS, _SAMPLE_CHARACTERS_A_TOKEN * (spec.vocab_size or 0))
    for number, domain in enumerate(DOMAINS):
        left = spec.mixture[domain] * most
        items_n = corpus.items(Kind.DOCUMENT, Kind.CONVERSATION, heldout=False, domain=number)
        for item in np.random.default_rng([spec.seed, number]).permutation(items_n).tolist():
            if left <= 0:
                break
            for text in _texts(Record.model_validate_json(corpus.line(item))):
                left -= len(text)
                yield text
    for item in islice(corpus.items(Kind.PROBLEM, heldout=False).tolist(), _SAMPLE_PROBLEMS):
        problem = Problem.model_validate_json(corpus.line(item))
        yield problem.prompt
        yield problem.solution


def _texts(record: Record) -> list[str]:
    """The start of a document, or what is said in a dialogue."""
    texts = [message.content for message in chat_of(record)] if is_conversation(record) else [record.text]
    return [text[:_CHARACTERS_PER_DOCUMENT] for text in texts]


def _processes(spec: TokenizeSpec, corpus: Corpus) -> int:
    if spec.processes:
        return spec.processes
    return len(os.sched_getaffinity(0)) if corpus.characters_N.sum() >= _WORTH_PROCESSES else 1


def _pack(job: Job) -> dict[str, Any]:
    """Rows of every source and split; returns what was packed."""
    items = job.corpus.items
    code = {split: items(Kind.DOCUMENT, heldout=split == "heldout", domain=DOMAINS.index("code")) for split in SPLITS}
    said = {split: items(Kind.CONVERSATION, Kind.PROBLEM, heldout=split == "heldout") for split in SPLITS}
    packed = {}
    for step, (source, encode, chosen) in enumerate(
        (("completion", job.encoder.completions, code), ("dialogue", job.encoder.dialogues, said)), start=2
    ):
        job.run.progress(step, 6, f"packing {source}")
        packed[source] = {split: _pack_whole(job, source, split, encode, chosen[split]) for split in SPLITS}
        job.run.log(f"{source}: {packed[source]}")
    job.run.progress(4, 6, "packing text")
    return {**_pack_text(job, packed), **packed}


def _pack_whole(job: Job, source: str, split: str, encode: Encode, items_n: NDArray[np.int64]) -> dict[str, Any]:
    """Rows of pieces that are never cut, of as many items as `max_tokens` lets in."""
    corpus, rng = job.corpus, job.rng(source, split)
    order_n = mixture.sequence(corpus, items_n, job.spec.source_weights, 1, rng)
    domains, used, taken = dict.fromkeys(DOMAINS, 0), np.zeros(len(corpus), dtype=np.bool_), 0
    with Store(job.folder / ".encoded") as store:
        for batch, pieces in job.workers.map(encode, batches(corpus, order_n.tolist())):
            job.watch()
            fitting = _first_within(pieces, job.spec.max_tokens - sum(domains.values()))
            taken += len(batch.items)
            for piece in fitting:
                store.append(piece)
                domains[DOMAINS[piece.domain]] += len(piece.tokens)
                used[[part.item for part in piece.parts]] = True
            if len(fitting) < len(pieces):
                break
        rows = rows_of_whole(store.lengths(), job.spec.context, rng.permutation)
        count = job.write(source, split, store, rows)
        report = _report(len(store), count, domains)
    return {**report, "documents": len(order_n), "documents_used": int(used.sum())}


def _first_within(pieces: list[Encoded], most: int) -> list[Encoded]:
    """Pieces in order while they stay within `most` tokens."""
    ends = np.cumsum([len(piece.tokens) for piece in pieces])
    return pieces[: int(np.searchsorted(ends, most, side="right"))]


def _pack_text(job: Job, packed: Mapping[str, Any]) -> dict[str, Any]:
    """Rows of documents end to end, in the shares of the mixture."""
    report: dict[str, Any] = {}
    of_text, excesses = _shares_of_text(job.spec, packed)
    wanted = {"train": of_text, "heldout": job.spec.mixture}
    for split in SPLITS:
        epochs = job.spec.max_epochs if split == "train" else 1
        report[split], mixed = _pack_mixed(job, split, wanted[split], epochs)
        job.run.log(f"text, {split}: {report[split]}")
        if split == "train":
            found = {**mixed, "short": [*excesses, *mixed["short"]]}
    for sentence in found["short"]:
        job.run.log(f"the mixture is not reached: {sentence}")
    if job.spec.phases is not None:
        found["run"] = _seen_in_run(job.spec.phases, {"text": report, **packed})
    return {"text": report, "mixture": found}


def _pack_mixed(
    job: Job, split: str, wanted: Mapping[Domain, float], max_epochs: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns what was packed, and how far the mixture was reached."""
    spec, corpus, rng = job.spec, job.corpus, job.rng("text", split)
    orders = {}
    for number, domain in enumerate(DOMAINS):
        items_n = corpus.items(Kind.DOCUMENT, heldout=split == "heldout", domain=number)
        orders[domain] = mixture.sequence(corpus, items_n, spec.source_weights, max_epochs, rng)
    with Store(job.folder / ".encoded") as store:
        mix = TextMix(corpus, store)
        for domain, order_n in orders.items():
            most = math.ceil(wanted[domain] * spec.max_tokens)
            mix.encode(order_n, most, job.workers, job.encoder.documents, job.watch)
        taken, short = take_mixture(mix, wanted, orders, spec.max_tokens, max_epochs)
        everything = Taken.together(taken.values()).shuffled(rng)
        count = job.write("text", split, store, running_rows(mix.slices(everything), spec.context))
        tokens = {domain: part.tokens for domain, part in taken.items()}
        report = _report(len(everything.items_n), count, tokens)
        return report, {"domains": mix.report(wanted, orders, taken), "short": short}


def _shares_of_text(spec: TokenizeSpec, packed: Mapping[str, Any]) -> tuple[Mapping[Domain, float], list[str]]:
    """The mixture, or what text has to hold so that a run with the phases sees the mixture; and in words where it
    cannot."""
    if spec.phases is None:
        return spec.mixture, []
    drawn = _tokens_drawn(spec.phases, packed)
    shares = {source: packed[source]["train"]["shares"] for source in drawn}
    text = mixture.rows_drawn(spec.phases)["text"]
    left = mixture.shares_left(spec.mixture, text, drawn, shares)
    return left, mixture.excesses(spec.mixture, text, drawn, shares)


def _tokens_drawn(phases: Sequence[PhaseSpec], packed: Mapping[str, Any]) -> dict[str, float]:
    """What a run draws from the sources that were packed, as a share of the places in its rows."""
    rows = mixture.rows_drawn(phases)
    return {source: rows[source] * report["train"]["fill"] for source, report in packed.items() if source in rows}


def _seen_in_run(phases: Sequence[PhaseSpec], packed: Mapping[str, Any]) -> dict[str, Any]:
    drawn = _tokens_drawn(phases, packed)
    shares = {source: packed[source]["train"]["shares"] for source in drawn}
    return {"rows": mixture.rows_drawn(phases), "reached": mixture.together(drawn, shares)}


def _report(pieces: int, count: Count, tokens: Mapping[Domain, int]) -> dict[str, Any]:
    return {
        "pieces": pieces,
        "rows": count.rows,
        "tokens": count.tokens,
        "targets": count.targets,
        "fill": round(count.fill, 4),
        "shares": mixture.shares(tokens),
    }
