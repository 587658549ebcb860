"""Cuts a test in two: what is asked of the solution, and the condition on its answers.

`assert f(2) == [4]` asks `f(2)`, and judges `answers[0] == [4]`. A question is a largest expression that begins with a
name of the solution's: one that is neither a builtin nor defined by the setup by itself.
"""

import ast
import builtins
import re
import sys
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from trainer.rewards.sandbox.judge import ANSWERS

_BUILTINS = frozenset(dir(builtins))
_OWN_SCOPE = (ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


class Questions(NamedTuple):
    """Of one test: expressions for the solution, and the condition on their values."""

    asked: list[str]
    judged: str


class Quiz(NamedTuple):
    """Of one task: what the judge runs before the conditions, and the questions of each test."""

    setup: str
    tests: list[Questions]


def quiz(solution: str, setup: str, tests: Sequence[str]) -> Quiz:
    """Raises ValueError for a test that cannot be judged; `solution` is looked at as text only, never parsed."""
    if not tests:
        raise ValueError("a task without tests cannot be judged: give at least one assert")
    own_setup, known = _setup_by_itself(setup)
    mentioned = {name for test in tests for statement in _statements(test) for name in _names(statement)[0]}
    imported = mentioned & set(_imports(solution)) & sys.stdlib_module_names
    source = "\n".join([*(f"import {name}" for name in sorted(imported)), own_setup])
    return Quiz(source, [_split(test, known | imported | _BUILTINS, solution) for test in tests])


def _imports(solution: str) -> list[str]:
    """Modules by their own names: a test may take them from the solution, which cannot say what they are."""
    lines: list[str] = re.findall(r"^import ([\w, ]+)$", solution, re.MULTILINE)
    return [name.strip() for line in lines for name in line.split(",") if name.strip().isidentifier()]


def _setup_by_itself(setup: str) -> tuple[str, frozenset[str]]:
    """The statements of the setup that need nothing of the solution, and the names they define."""
    kept: list[str] = []
    known = _BUILTINS
    for statement in _statements(setup):
        loaded, defined = _names(statement)
        if loaded - defined <= known:
            kept.append(ast.unparse(statement))
            known |= defined
    return "\n".join(kept), known


def _statements(source: str) -> list[ast.stmt]:
    try:
        return ast.parse(source).body
    except SyntaxError as error:
        raise ValueError(f"a test or setup is no Python ({error}): {source!r}") from error


def _names(statement: ast.stmt) -> tuple[frozenset[str], frozenset[str]]:
    loaded: set[str] = set()
    defined: set[str] = set()
    for node in ast.walk(statement):
        if isinstance(node, ast.Name):
            (loaded if isinstance(node.ctx, ast.Load) else defined).add(node.id)
        elif isinstance(node, ast.arg):
            defined.add(node.arg)
        elif isinstance(node, ast.alias):
            defined.add((node.asname or node.name).partition(".")[0])
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            defined.add(node.name)
    return frozenset(loaded), frozenset(defined)


def _split(test: str, known: frozenset[str], solution: str) -> Questions:
    statements = _statements(test)
    if len(statements) != 1 or not isinstance(statements[0], ast.Assert):
        raise ValueError(f"a test must be one assert statement, not {test!r}")
    condition = statements[0].test
    if not any(_foreign(node, known) for node in ast.walk(condition)):
        known -= frozenset(_shadowed(condition, solution))
    asker = _Asker(known)
    judged = ast.unparse(asker.visit(condition))
    if not asker.asked:
        raise ValueError(f"the test {test!r} asks nothing of the solution: no name in it is the solution's")
    return Questions(asker.asked, judged)


def _shadowed(condition: ast.expr, solution: str) -> Iterator[str]:
    """The first builtin that is called, where the task is to write a function of that name."""
    calls = (
        node.func.id for node in ast.walk(condition) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    )
    first = next(calls, None)
    if first is not None and re.search(rf"^def {first}\b", solution, re.MULTILINE):
        yield first


def _foreign(node: ast.AST, known: frozenset[str]) -> bool:
    return isinstance(node, ast.Name) and node.id not in known


class _Asker(ast.NodeTransformer):
    """Replaces questions by their answers, from the outside inwards."""

    def __init__(self, known: frozenset[str]) -> None:
        self.known = known
        self.asked: list[str] = []

    def visit(self, node: ast.AST) -> ast.AST:
        if isinstance(node, _OWN_SCOPE):
            return self._scope(node)
        if not (isinstance(node, ast.expr) and _foreign(_root(node), self.known)):
            return self.generic_visit(node)
        self.asked.append(ast.unparse(node))
        return ast.parse(f"{ANSWERS}[{len(self.asked) - 1}]", mode="eval").body

    def _scope(self, node: ast.expr) -> ast.expr:
        """Names bound in there mean nothing outside, so a question in there cannot be asked by itself."""
        loaded, defined = _names(ast.Expr(node))
        if loaded - defined <= self.known:
            return node
        raise ValueError(
            f"the test asks the solution from within {ast.unparse(node)!r}, where its expected values would be handed "
            "over as well: write one assert for each case"
        )


def _root(node: ast.AST) -> ast.AST:
    """What `f(x).y[0]` begins with: the name f."""
    while True:
        match node:
            case ast.Call():
                node = node.func
            case ast.Attribute() | ast.Subscript():
                node = node.value
            case _:
                return node
