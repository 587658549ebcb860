"""Small real parts: a network, a tokenizer, a tokenize job's run folder. Built in milliseconds, never mocked."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trainer.artifacts import Run, RunFolder, new_folder
from trainer.data.encoded import Encoded, Store
from trainer.data.packing import Count, Piece, Slice, rows_of_whole, running_rows, write_rows
from trainer.data.tokenizer import Tokenizer
from trainer.model.config import ModelConfig
from trainer.model.transformer import Transformer
from trainer.spec import JOB_SPEC, Job

VOCABULARY = 290
TEXT = "".join(
    f"{a} plus {b} makes {a + b}, says the tiny corpus of line {a * b}. " for a in range(30) for b in range(30)
)


def config(**changes: Any) -> ModelConfig:
    values: dict[str, Any] = {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 24,
        "max_position_embeddings": 64,
    }
    return ModelConfig(**{**values, **changes})


def network(shape: ModelConfig | None = None, seed: int = 0, std: float = 0.2) -> Transformer:
    """Weights large enough that wrong mathematics shows in the logits."""
    model = Transformer(shape or config())
    model.reset_parameters(torch.Generator().manual_seed(seed))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(std / 0.02)
    return model


def tokenizer() -> Tokenizer:
    return Tokenizer.train([TEXT], VOCABULARY)


def tokens_of(text: str, context: int, tok: Tokenizer) -> np.ndarray:
    ids = tok.encode(text)
    rows = len(ids) // context
    return np.array(ids[: rows * context], dtype=np.int32).reshape(rows, context)


def tokenized_run(path: Path, context: int = 32) -> RunFolder:
    """What a tokenize job leaves: three sources cut from the tiny corpus."""
    tok, folder = tokenizer(), RunFolder(path)
    with new_folder(folder.artifacts / "tokenizer") as target:
        tok.save(target)
    with new_folder(folder.artifacts / "tokens") as target:
        for index, source in enumerate(("text", "completion", "dialogue")):
            rows = tokens_of(TEXT[index * 50 :], context, tok)
            for split, part in (("train", rows[:-4]), ("heldout", rows[-4:])):
                _save_rows(target / source / split, part)
    return folder


def _save_rows(folder: Path, tokens: np.ndarray) -> None:
    folder.mkdir(parents=True)
    half = tokens.shape[1] // 2
    segments = np.ones_like(tokens)
    segments[:, half:] = 2
    np.save(folder / "tokens.npy", tokens)
    np.save(folder / "segments.npy", segments)
    np.save(folder / "loss_mask.npy", np.ones_like(tokens, dtype=bool))
    np.save(folder / "domains.npy", np.zeros_like(tokens, dtype=np.int8))
    np.save(folder / "structure.npy", np.full_like(tokens, -1, dtype=np.int8))


def write_pieces(folder: Path, pieces: Iterable[Piece], context: int, pad_id: int, *, whole: bool) -> Count:
    """Pieces in rows, as the tokenize stage writes them; whole, or end to end."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with Store(folder.parent / ".store") as store:
        for piece in pieces:
            store.append(Encoded(piece.tokens(), piece.domain, piece.parts))
        lengths = store.lengths()
        everything = (Slice(number, 0, int(length)) for number, length in enumerate(lengths))
        rows = rows_of_whole(lengths, context, np.arange) if whole else running_rows(everything, context)
        return write_rows(folder, rows, store.fetch, context, pad_id, lambda item: {"id": str(item), "kind": "text"})


def new_run(path: Path, spec: dict[str, Any], inputs: dict[str, RunFolder]) -> Run:
    """A run folder with a job in it, as the backend makes one."""
    bound = {role: "run:" + folder.path.name for role, folder in inputs.items()}
    job = Job(
        id=path.name,
        spec=JOB_SPEC.validate_python({**spec, "inputs": bound}),
        inputs={role: str(folder.path) for role, folder in inputs.items()},
    )
    folder = RunFolder(path)
    folder.write_job(job)
    return Run(folder)
