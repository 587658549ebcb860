"""What a file is, by its name."""

from pathlib import PurePosixPath
from typing import Literal

Kind = Literal["text", "html", "pdf", "code", "jsonl", "json", "csv", "parquet", "zip", "tar", "compressed"]

_KINDS: dict[Kind, tuple[str, ...]] = {
    "text": (".txt", ".md", ".markdown", ".rst", ".tex"),
    "html": (".html", ".htm", ".xhtml"),
    "pdf": (".pdf",),
    "jsonl": (".jsonl", ".ndjson"),
    "json": (".json",),
    "csv": (".csv", ".tsv"),
    "parquet": (".parquet",),
    "zip": (".zip", ".whl"),
    "tar": (".tar",),
    "compressed": (".gz", ".tgz", ".zst", ".bz2", ".xz"),
}
_LANGUAGES: dict[str, tuple[str, ...]] = {
    "python": (".py", ".pyi"), "c": (".c", ".h"), "cpp": (".cc", ".cpp", ".cxx", ".hpp", ".hh"), "csharp": (".cs",),
    "cuda": (".cu", ".cuh"), "java": (".java",), "kotlin": (".kt",), "scala": (".scala",), "go": (".go",),
    "rust": (".rs",), "swift": (".swift",), "javascript": (".js", ".mjs", ".jsx"), "typescript": (".ts", ".tsx"),
    "ruby": (".rb",), "php": (".php",), "perl": (".pl", ".pm"), "lua": (".lua",), "r": (".r",), "julia": (".jl",),
    "haskell": (".hs",), "ocaml": (".ml", ".mli"), "erlang": (".erl",), "elixir": (".ex", ".exs"),
    "clojure": (".clj",), "fortran": (".f90", ".f95"), "lean": (".lean",), "shell": (".sh", ".bash"),
    "sql": (".sql",), "css": (".css",), "cmake": (".cmake",),
}  # fmt: skip
_BARE_LANGUAGES = {"makefile": "make", "dockerfile": "dockerfile", "cmakelists.txt": "cmake"}
_BARE_TEXTS = frozenset({"readme", "license", "licence", "copying", "notice", "authors", "changelog"})
_BY_SUFFIX = {suffix: kind for kind, suffixes in _KINDS.items() for suffix in suffixes}
_LANGUAGE_BY_SUFFIX = {suffix: language for language, suffixes in _LANGUAGES.items() for suffix in suffixes}
# Nothing people wrote: what tools keep beside it. Names that begin with a dot count too.
_GENERATED = frozenset({"__pycache__", "node_modules", "__MACOSX"})


def kind_of(name: str) -> Kind | None:
    """None: a kind that is not read."""
    path = PurePosixPath(name)
    if language_of(name):
        return "code"
    if path.name.lower() in _BARE_TEXTS:
        return "text"
    return _BY_SUFFIX.get(path.suffix.lower())


def language_of(name: str) -> str:
    """The programming language of a file, or nothing."""
    path = PurePosixPath(name)
    return _BARE_LANGUAGES.get(path.name.lower()) or _LANGUAGE_BY_SUFFIX.get(path.suffix.lower(), "")


def is_left_out(name: str) -> bool:
    """Whether a file or folder of this name is hidden or made by tools."""
    return name in _GENERATED or name.startswith(".")


def known_suffixes() -> str:
    return ", ".join(suffix.removeprefix(".") for suffixes in _KINDS.values() for suffix in suffixes)
