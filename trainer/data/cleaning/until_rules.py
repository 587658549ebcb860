"""TEMPORARY"""
import hashlib
from functools import cached_property
import numpy as np
from trainer.data import rules
class _Words:
    def __init__(self, text): self._w = rules.words(text.lower())
    @cached_property
    def hashes(self): return np.array([int.from_bytes(hashlib.blake2b(w.encode(), digest_size=8).digest(), "little") for w in self._w], np.uint64)
    @property
    def count(self): return len(self._w)
class Document:
    def __init__(self, record): self.record = record; self.text = record.text; self.words = _Words(record.text)
def default_rules(s): return [r for r in rules.default_rules(s) if "duplicate" not in r.name or "lines" in r.name]
class RuleEngine(rules.RuleEngine):
    scrubbed = property(lambda self: {k: n for r in self.rules if isinstance(r, rules.PersonalData) for k, n in r.scrubbed.items()})
    def apply(self, record):
        r = super().apply(record)
        return None if r is None else Document(r)
