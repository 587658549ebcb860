"""Grammars that answers must follow, compiled once: JSON Schema and regular expressions, by llguidance."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from llguidance import LLMatcher, LLParserLimits, LLTokenizer, TokenizerWrapper

from serving.request import Grammar
from trainer.data.tokenizer import Tokenizer

if TYPE_CHECKING:
    from llguidance._lib import JsonCompileOptions

KEPT = 128  # compiled grammars
# Between the parts of a JSON text stands nothing, a space, or a new line with its indentation: without a bound a model
# may write blanks for ever. Keywords that are not understood are errors, whatever the schema asks for.
OPTIONS: "JsonCompileOptions" = {"whitespace_pattern": r"( |\n {0,16})?", "lenient": False}
# What one grammar may cost: tens of milliseconds, and a kilobyte or two a state of its lexer.
LIMITS = LLParserLimits(
    initial_lexer_fuel=100_000, step_lexer_fuel=20_000, max_lexer_states=20_000, verbose_errors=False
)


class Grammars:
    """Grammars over one vocabulary.

    Args:
        token_bytes: what each token stands for; none where no grammar may use it, as for special tokens.
        end_id: the token that ends an answer.
        encode: text to tokens.
    """

    def __init__(self, token_bytes: Sequence[bytes], end_id: int, encode: Callable[[str], list[int]]) -> None:
        vocabulary = TokenizerWrapper(_Vocabulary(token_bytes, end_id, encode))
        self._tokenizer = LLTokenizer(vocabulary, n_vocab=len(token_bytes), eos_token=end_id)
        self._compiled = lru_cache(maxsize=KEPT)(self._compile)

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> "Grammars":
        """Markers, `<think>` among them, are part of no grammar."""
        markers = set(tokenizer.special_ids.values())
        tokens = range(tokenizer.vocab_size)
        token_bytes = [b"" if token in markers else tokenizer.token_bytes(token) for token in tokens]
        return cls(token_bytes, tokenizer.end_id, tokenizer.encode)

    @classmethod
    def of_bytes(cls) -> "Grammars":
        """Each byte a token: enough to say whether a grammar is one."""
        return cls([bytes([byte]) for byte in range(256)] + [b""], 256, lambda text: list(text.encode()))

    def check(self, grammar: Grammar) -> None:
        """Raises:
        ValueError: it is no grammar, uses what is not supported, is too large, or no text follows it.
        """
        matcher = self.matcher(grammar)
        if matcher.is_error():
            raise ValueError(_reason(matcher.get_error()))

    def matcher(self, grammar: Grammar) -> LLMatcher:
        """A matcher at the beginning; in its error state where `check` would raise."""
        return self._compiled(grammar).deep_copy()

    def _compile(self, grammar: Grammar) -> LLMatcher:
        if grammar.kind == "regex":
            source = LLMatcher.grammar_from_regex(grammar.source)
        else:
            source = LLMatcher.grammar_from_json_schema(grammar.source, overrides=OPTIONS)
        matcher = LLMatcher(self._tokenizer, source, log_level=0, limits=LIMITS)
        # The first mask does most of the work and meets the limits; what it has built is shared by the copies.
        matcher.compute_bitmask()
        return matcher


class _Vocabulary:
    """A vocabulary as llguidance's wrapper wants it."""

    bos_token_id = None

    def __init__(self, tokens: Sequence[bytes], end_id: int, encode: Callable[[str], list[int]]) -> None:
        self.tokens, self.eos_token_id, self._encode = tokens, end_id, encode
        self.special_token_ids = [token for token, content in enumerate(tokens) if not content]

    def __call__(self, text: str) -> list[int]:
        return self._encode(text)


def _reason(message: str) -> str:
    """What the library says, without the picture of the place: that shows a grammar the client never wrote."""
    if message.startswith("NoExtension"):
        return "no text follows it"
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    said = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return (said or lines or [""])[0][:300]
