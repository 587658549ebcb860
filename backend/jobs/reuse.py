"""When a job need not run again: a key over its spec, the content of its inputs, the source of its stage, versions."""

import dis
import hashlib
import importlib.metadata
import json
import platform
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import CodeType
from typing import Any

import trainer
from trainer.artifacts import COMPLETE, RunFolder
from trainer.remote import Remote, is_url
from trainer.spec import CleanShardSpec, CleanSpec, ImportSpec, JobSpec, SubsetSpec

LIBRARIES = ("torch", "tokenizers", "sympy", "numpy")
ROOMS = ("trainer", "serving")
SOURCE_ROOT = Path(trainer.__file__).parents[1]


def digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def content_key(folder: Path) -> str:
    """sha256 over the hashes that the COMPLETE markers of a run's artifacts and checkpoints record."""
    markers = [path for part in ("artifacts", "checkpoints") for path in _markers(folder / part)]
    return digest({str(path.relative_to(folder)): json.loads(path.read_text()) for path in markers})


def _markers(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"[!.]*/{COMPLETE}"))


def is_intact(folder: Path, expected: str | None) -> bool:
    """Whether a succeeded run still has every file its markers name, and the content it ended with."""
    run = RunFolder(folder)
    status = run.status()
    if status is None or status.state != "succeeded" or content_key(folder) != expected:
        return False
    markers = _markers(run.artifacts) + _markers(run.checkpoints)
    return all((marker.parent / name).is_file() for marker in markers for name in json.loads(marker.read_text()))


def reuse_key(spec: JobSpec, input_keys: Mapping[str, str]) -> str:
    """The key of a job that is ready; equal keys promise equal results.

    Args:
        input_keys: role -> content key of the run (or frozen dataset) it reads.
    """
    parts: dict[str, Any] = {
        "spec": spec.model_dump(mode="json", exclude={"name", "inputs"}),
        "inputs": dict(input_keys),
        "source": source_hash(stage_module(spec.kind)),
        "python": platform.python_version(),
        "libraries": {name: importlib.metadata.version(name) for name in LIBRARIES},
    }
    parts["files"] = [entry for place in _places(spec) for entry in _listing(place)]
    return digest(parts)


def _places(spec: JobSpec) -> list[str]:
    """Paths and URLs of what a job reads besides the runs of other jobs."""
    if isinstance(spec, CleanShardSpec):
        spec = spec.clean
    if isinstance(spec, CleanSpec):
        copies = [wanted.name for wanted in spec.hugging_face if Path(wanted.name).is_absolute()]
        return [*spec.folders, *spec.uploads, *copies]
    if isinstance(spec, SubsetSpec):
        return [path for path in (spec.examples, spec.folder) if path is not None]
    return [spec.source] if isinstance(spec, ImportSpec) else []


def _listing(place: str) -> Iterator[tuple[str, int, int | str]]:
    """Path, bytes and time of change (ns) of a file, or of every one in a folder: what changed changes the key without
    being read. Of a URL the version stands for the time."""
    if is_url(place):
        yield from ((file.name, file.bytes, file.version) for file in Remote(place).files())
        return
    root = Path(place)
    for path in sorted([root, *root.rglob("*")]):
        if path.is_file():
            stat = path.stat()
            yield str(path), stat.st_size, stat.st_mtime_ns


def stage_module(kind: str) -> str:
    return "serving.export.__main__" if kind == "export" else f"trainer.stages.{kind}"


def source_hash(module: str, root: Path = SOURCE_ROOT) -> str:
    """sha256 over the source of a module and of every module of ours it imports, found without importing any.

    Raises:
        ValueError: the module does not exist.
    """
    if _module_file(module, root) is None:
        raise ValueError(f"there is no module '{module}', so this kind of job cannot run in this installation")
    found: dict[str, str] = {}
    pending = [name for name in _with_packages(module) if _module_file(name, root)]
    while pending:
        name = pending.pop()
        path = _module_file(name, root)
        # `from a import b` may name something within a module, which is no file of its own.
        if path is None or name in found:
            continue
        text = path.read_text(encoding="utf-8")
        found[name] = hashlib.sha256(text.encode()).hexdigest()
        pending.extend(_imports(text, name, path.name == "__init__.py"))
    return digest(found)


def _module_file(name: str, root: Path) -> Path | None:
    base = root.joinpath(*name.split("."))
    for path in (base.with_name(base.name + ".py"), base / "__init__.py"):
        if path.is_file():
            return path
    return None


def _with_packages(name: str) -> list[str]:
    """Importing a.b.c runs a and a.b too."""
    parts = name.split(".")
    return [".".join(parts[:depth]) for depth in range(1, len(parts) + 1)]


def _imports(text: str, module: str, is_package: bool) -> Iterator[str]:
    """Dotted names that a source file may import from our rooms; `from a import b` may mean the module a.b."""
    # Read from the bytecode: `ast.parse` in two threads at once raises SystemError in CPython 3.11 (gh-106905).
    code = compile(text, module, "exec", dont_inherit=True)
    for level, names, target in _import_statements(code):
        base = _absolute(target, level, module, is_package)
        for name in (base, *(f"{base}.{name}" for name in names)):
            if name.split(".")[0] in ROOMS:
                yield from _with_packages(name)


def _import_statements(code: CodeType) -> Iterator[tuple[int, tuple[str, ...], str]]:
    """Level (dots), names after `import` of a from-import, module: of every import, those within functions too."""
    constants: list[Any] = []
    for instruction in dis.get_instructions(code):
        if instruction.opname == "IMPORT_NAME":
            level, names = constants[-2:]
            yield level, names or (), instruction.argval
        elif instruction.opname == "LOAD_CONST":
            constants.append(instruction.argval)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _import_statements(constant)


def _absolute(target: str, level: int, module: str, is_package: bool) -> str:
    if not level:
        return target
    parts = module.split(".")
    package = parts[: len(parts) - level + (1 if is_package else 0)]
    return ".".join([*package, *([target] if target else [])])
