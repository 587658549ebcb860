"""Imports, definitions, calls and base classes of Python code, from its `ast`.

Names are resolved as far as the file itself says what they are: by its imports, its own definitions and `self`. What a
call on any other object calls cannot be known without running it, so that is left out.
"""

import ast
import builtins
import warnings

from trainer.data.knowledge.triples import Found, Relation, Unreadable

_BUILTINS = frozenset(dir(builtins))
_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def python_relations(text: str, module: str, is_package: bool = False) -> list[Relation]:
    """Relations of one file, `module` being its dotted name.

    Raises:
        Unreadable: the text does not parse, or nests too deeply.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an invalid escape in somebody's string is none of ours
            tree = ast.parse(text)
        visitor = _Visitor(Found(text), module, is_package)
        visitor.scan(tree)
    except (RecursionError, MemoryError) as error:
        raise Unreadable("code nests too deeply") from error
    except (SyntaxError, ValueError) as error:
        raise Unreadable("code does not parse") from error
    return visitor.found.relations()


class _Visitor(ast.NodeVisitor):
    def __init__(self, found: Found, module: str, is_package: bool) -> None:
        self.found, self.module = found, module
        self._package = module if is_package else module.rpartition(".")[0]
        self._scopes = [module]
        self._classes: list[str] = []
        self._known: dict[str, str] = {}  # a name of the file -> what it stands for
        self._members: dict[str, set[str]] = {}  # of a class: what it defines

    def scan(self, tree: ast.Module) -> None:
        for node in tree.body:
            if isinstance(node, _Definition):
                self._known[node.name] = f"{self.module}.{node.name}"
        self.visit(tree)

    def visit_Import(self, node: ast.Import) -> None:
        for name in node.names:
            self.found.add(self.module, "imports", name.name, node.lineno)
            head = name.name.partition(".")[0]
            self._known[name.asname or head] = name.name if name.asname else head

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        base = self._absolute(node.module or "", node.level)
        self.found.add(self.module, "imports", base, node.lineno)
        for name in node.names:
            self._known[name.asname or name.name] = f"{base}.{name.name}"

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        name = f"{self._scopes[-1]}.{node.name}"
        self._members[name] = {item.name for item in node.body if isinstance(item, _Definition)}
        for base in node.bases:
            if target := self._resolve(_dotted(base)):
                self.found.add(name, "inherits", target, node.lineno)
        self._classes.append(name)
        self._define(node, name)
        self._classes.pop()

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._define(node, f"{self._scopes[-1]}.{node.name}")

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self._define(node, f"{self._scopes[-1]}.{node.name}")

    def visit_Call(self, node: ast.Call) -> None:
        if target := self._resolve(_dotted(node.func)):
            self.found.add(self._scopes[-1], "calls", target, node.lineno)
        self.generic_visit(node)

    def _define(self, node: _Definition, name: str) -> None:
        self.found.add(self._scopes[-1], "defines", name, node.lineno)
        self._scopes.append(name)
        self.generic_visit(node)
        self._scopes.pop()

    def _resolve(self, name: str) -> str:
        """What a dotted name stands for; empty where the file does not say."""
        head, _, rest = name.partition(".")
        if head in ("self", "cls") and self._classes:
            return f"{self._classes[-1]}.{rest}" if rest in self._members[self._classes[-1]] else ""
        if head in self._known:
            return f"{self._known[head]}.{rest}" if rest else self._known[head]
        return f"builtins.{name}" if head in _BUILTINS and head[:1].isupper() else ""

    def _absolute(self, target: str, level: int) -> str:
        if not level:
            return target
        package = self._package.split(".")
        parts = [*package[: len(package) - level + 1], target]
        return ".".join(part for part in parts if part)


def _dotted(node: ast.expr) -> str:
    """`a.b.c` of an expression that is just that; empty for any other."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join(reversed([*parts, node.id])) if isinstance(node, ast.Name) else ""
