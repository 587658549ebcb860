"""Tokens -> text that may be shown: whole characters, nothing of a stop string. Holds no tensors."""

from typing import Protocol


class Decoder(Protocol):
    """Text token by token, never half a character (`trainer.data.tokenizer.DecodeStream`)."""

    def push(self, token: int) -> str: ...

    def flush(self) -> str: ...


class TextStream:
    """Holds back the end of the text while it may be the beginning of a stop string."""

    def __init__(self, decoder: Decoder, stop: tuple[str, ...]) -> None:
        self._decoder, self._stop = decoder, stop
        self._held = ""
        self.stopped = False

    def push(self, token: int) -> str:
        """The text that has become certain; sets `stopped` when a stop string is complete (it is not shown)."""
        return self._release(self._held + self._decoder.push(token))

    def flush(self) -> str:
        """What was held back, when the answer ends for another reason."""
        text = self._release(self._held + self._decoder.flush())
        held, self._held = self._held, ""
        return text if self.stopped else text + held

    def _release(self, text: str) -> str:
        found = [at for at in (text.find(stop) for stop in self._stop) if at >= 0]
        if found:
            self.stopped, self._held = True, ""
            return text[: min(found)]
        keep = max((_overlap(text, stop) for stop in self._stop), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that begins `stop`."""
    longest = min(len(text), len(stop) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(stop[:n])), 0)
