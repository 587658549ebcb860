"""What serving appends to files of the home, for the backend: usage, and the chats whose owners consent."""

import fcntl
import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serving.protocol import Usage


def _append(path: Path, row: dict[str, Any], mode: int) -> None:
    """One line in one write, so that lines of several replicas never mix."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, mode)
    try:
        os.write(descriptor, json.dumps(row, ensure_ascii=False).encode() + b"\n")
    finally:
        os.close(descriptor)


@dataclass(frozen=True)
class UsageLog:
    """usage.jsonl: one line a request."""

    path: Path

    def append(self, key: str, model: str, usage: Usage) -> None:
        counts = {"prompt_tokens": usage.prompt_tokens, "completion_tokens": usage.completion_tokens}
        _append(self.path, {"time": time.time(), "key": key, "model": model, **counts}, 0o644)


@dataclass(frozen=True)
class Kept:
    """An answer that may be kept."""

    text: str
    finish_reason: str


@dataclass(frozen=True)
class ChatLog:
    """chats.jsonl: one line an answered request of a key with consent, readable by its owner only.

    Before it would exceed `max_bytes` it becomes chats.1.jsonl, in the place of the one before: at most twice as much
    is ever kept.
    """

    path: Path
    max_bytes: int

    def append(self, key: str, model: str, question: dict[str, Any], answers: Sequence[Kept]) -> None:
        """`question`: {"messages": [{"role", "content"}]} or {"prompts": [text]}."""
        written = [{"text": answer.text, "finish_reason": answer.finish_reason} for answer in answers]
        row = {"time": time.time(), "key": key, "model": model, **question, "answers": written}
        with open(self.path.with_name(".chats.lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # of several replicas only one may turn the file over
            if self.path.is_file() and self.path.stat().st_size >= self.max_bytes:
                os.replace(self.path, self.path.with_name("chats.1.jsonl"))
            _append(self.path, row, 0o600)
