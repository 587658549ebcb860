"""Cuts a test in two: what is asked of the solution, and the condition on its answers.

`assert f(2) == [4]` asks `f(2)`, and judges `answers[0] == [4]`. A question is a largest expression that begins with a
name of the solution's: one that is no builtin, no module of the standard library whose attribute is taken, and not
defined by the setup by itself. The solution has no part in this, so what it says cannot change what it is asked.
"""

import ast
import builtins
import copy
import sys
from collections.abc import Sequence
from typing import NamedTuple

from trainer.rewards.sandbox.judge import ANSWERS

_BUILTINS = frozenset(dir(builtins))
_DEFINITIONS = (ast.FunctionDef, ast.ClassDef)
_OWN_SCOPE = (ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


class Questions(NamedTuple):
    """Of one test: expressions for the solution, and the condition on their values."""

    asked: list[str]
    judged: str


class Quiz(NamedTuple):
    """Of one task: what the judge runs before the conditions, and the questions of each test."""

    setup: str
    tests: list[Questions]


def quiz(setup: str, tests: Sequence[str]) -> Quiz:
    """Raises ValueError for a test that cannot be judged, whatever the solution."""
    if not tests:
        raise ValueError("a task without tests cannot be judged: give at least one assert")
    own_setup, known = _setup_by_itself(setup)
    questions = [_split(_condition(test), known) for test in tests]
    modules = set().union(*(_modules(ast.parse(test.judged)) for test in questions)) - known
    return Quiz("\n".join([*(f"import {name}" for name in sorted(modules)), own_setup]), questions)


def _condition(test: str) -> ast.expr:
    statements = _statements(test)
    if len(statements) != 1 or not isinstance(statements[0], ast.Assert):
        raise ValueError(f"a test must be one assert statement, not {test!r}")
    return statements[0].test


def _modules(condition: ast.AST) -> set[str]:
    """Names like `sys` in `sys.maxsize`."""
    attributes = (node.value for node in ast.walk(condition) if isinstance(node, ast.Attribute))
    return {name.id for name in attributes if isinstance(name, ast.Name)} & sys.stdlib_module_names


def _setup_by_itself(setup: str) -> tuple[str, frozenset[str]]:
    """The statements of the setup that need nothing of the solution, and the names they define."""
    kept: list[str] = []
    known = _BUILTINS
    for statement in _statements(setup):
        loaded, defined = _names(statement)
        if loaded - defined <= known:
            kept.append(ast.unparse(statement))
            known |= {statement.name} if isinstance(statement, _DEFINITIONS) else defined
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
        elif isinstance(node, _DEFINITIONS):
            defined.add(node.name)
    return frozenset(loaded), frozenset(defined)


def _split(condition: ast.expr, known: frozenset[str]) -> Questions:
    """What would ask nothing is read again, with modules as the solution's, and then with the first builtin."""
    for names in (known | _modules(condition), known, known - _first_called(condition)):
        asker = _Asker(names)
        judged = ast.unparse(asker.visit(copy.deepcopy(condition)))
        if asker.asked:
            return Questions(asker.asked, judged)
    raise ValueError(f"the test {ast.unparse(condition)!r} asks nothing of the solution: no name in it can be its own")


def _first_called(condition: ast.expr) -> set[str]:
    """What a test is about when it calls builtins only: the task may be to write a function of such a name."""
    calls = (node.func for node in ast.walk(condition) if isinstance(node, ast.Call))
    return set(next(([function.id] for function in calls if isinstance(function, ast.Name)), []))


class _Asker(ast.NodeTransformer):
    """Replaces questions by their answers, from the outside inwards."""

    def __init__(self, known: frozenset[str]) -> None:
        self.known = known
        self.asked: list[str] = []

    def visit(self, node: ast.AST) -> ast.AST:
        if isinstance(node, _OWN_SCOPE):
            return self._scope(node)
        root = _root(node)
        if not isinstance(root, ast.Name) or root.id in self.known:
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
