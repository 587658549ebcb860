"""Read a written solution back and decide with SymPy whether it is true.

Nothing here shares code with the writing of a solution: the sentences are parsed as text, and the answer must solve
the problem's own equation. All arithmetic is SymPy's exact Integer and Rational arithmetic.
"""

import ast
import re
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from sympy import Integer, Rational

Reason = Literal[
    "unreadable_solution",
    "false_step",
    "wrong_digit",
    "broken_carry",
    "wrong_result",
    "unknown_operand",
    "wrong_answer",
    "right_answer",
    "prompt_numbers",
    "no_unique_answer",
]
_SOLUTION = re.compile(r"<think>(.+)</think>The answer is (\d+)\.")
_HEAD = re.compile(r"(\d+)([-+*])(\d+): ")
_COLUMN = re.compile(r"(\d+)([-+*])(\d)(?:([-+])(\d))?=(\d+), write (\d) (carry|borrow) (\d)\. ?")


@dataclass(frozen=True)
class Column:
    """One sentence: the equation `expression = value`, the digit written and what is carried on."""

    expression: str
    carried: str
    value: str
    digit: str
    verb: str
    carry: str


@dataclass(frozen=True)
class Block:
    """One operation: its head and its columns, units first."""

    left: str
    operator: str
    right: str
    columns: tuple[Column, ...]

    @property
    def result(self) -> Any:
        """The number that the written digits and the last carry spell."""
        digits = "".join(column.digit for column in reversed(self.columns))
        return Integer(digits if self.operator == "-" else self.columns[-1].carry + digits)


def read_solution(text: str) -> tuple[tuple[Block, ...], str] | None:
    """Operations and answer of a worked solution; None where any part of it is not of that form."""
    found = _SOLUTION.fullmatch(text)
    if found is None:
        return None
    steps, position, blocks = found[1], 0, []
    while position < len(steps):
        head = _HEAD.match(steps, position)
        if head is None:
            return None
        columns, position = _read_columns(steps, head.end())
        if not columns:
            return None
        blocks.append(Block(head[1], head[2], head[3], columns))
    return tuple(blocks), found[2]


def _read_columns(steps: str, position: int) -> tuple[tuple[Column, ...], int]:
    columns = []
    while (found := _COLUMN.match(steps, position)) is not None:
        left, operator, right, sign, carried, value, digit, verb, carry = found.groups()
        tail = f"{sign}{carried}" if sign else ""
        columns.append(Column(f"{left}{operator}{right}{tail}", carried or "", value, digit, verb, carry))
        position = found.end()
    return tuple(columns), position


@lru_cache(maxsize=1 << 15)
def _column_fault(column: Column) -> Reason | None:
    """Cached: the problems of a corpus share a few thousand columns."""
    value = evaluate(column.expression)
    if value != Integer(column.value):
        return "false_step"
    written = Integer(column.digit) + (10 * Integer(column.carry) if column.verb == "carry" else 0)
    return None if value == written else "wrong_digit"


def block_fault(block: Block) -> Reason | None:
    """Why an operation is not true, or None: every step, the carries from column to column, and the result."""
    handed = ""
    for column in block.columns:
        fault = _column_fault(column)
        if fault is not None:
            return fault
        if column.carried != handed:
            return "broken_carry"
        handed = column.carry
    true_result = evaluate(f"{block.left}{block.operator}{block.right}")
    return None if block.result == true_result else "wrong_result"


def solution_fault(text: str, equation: str) -> Reason | None:
    """Why a worked solution of `equation` (linear in x) is not accepted, or None.

    Every operand of an operation is a number of the equation or an earlier result.
    """
    read = read_solution(text)
    if read is None:
        return "unreadable_solution"
    blocks, answer = read
    known = set(re.findall(r"\d+", equation))
    for block in blocks:
        if not {block.left, block.right} <= known:
            return "unknown_operand"
        fault = block_fault(block)
        if fault is not None:
            return fault
        known.add(str(block.result))
    if Integer(answer) != blocks[-1].result:
        return "wrong_answer"
    return answer_fault(answer, equation)


def distractor_fault(text: str, equation: str) -> Reason | None:
    """Why a wrong solution cannot serve as one: it is not written like a solution, or its answer is right."""
    read = read_solution(text)
    if read is None:
        return "unreadable_solution"
    fault = answer_fault(read[1], equation)
    return "right_answer" if fault is None else None if fault == "wrong_answer" else fault


def answer_fault(answer: str, equation: str) -> Reason | None:
    """Why `answer` is not the one solution of `equation`, which is linear in x; None if it is."""
    root = linear_root(equation)
    if root is None:
        return "no_unique_answer"
    return None if Rational(answer) == root else "wrong_answer"


def prompt_fault(prompt: str, equation: str) -> Reason | None:
    """The prompt may give no number that the equation lacks."""
    given, used = (Counter(re.findall(r"\d+", text)) for text in (prompt, equation))
    return None if given <= used else "prompt_numbers"


@lru_cache(maxsize=64)
def linear_root(equation: str) -> Any | None:
    """The root of an equation linear in x, a SymPy Rational; None where it has none or more than one.

    Two points determine a linear function: with f = left - right, the root is -f(0) / (f(1) - f(0)).
    """
    left, right = equation.split("=")
    at_0, at_1 = (evaluate(left, x) - evaluate(right, x) for x in (0, 1))
    return None if at_1 == at_0 else -at_0 / (at_1 - at_0)


def evaluate(expression: str, x: int = 0) -> Any:
    """Exact value of an expression of integers, x, + - * / and brackets.

    Raises:
        ValueError: it holds anything else.
    """
    return _value(ast.parse(expression.strip(), mode="eval").body, Integer(x))


def _value(node: ast.expr, x: Any) -> Any:
    match node:
        case ast.Constant(value=int(number)):
            return Integer(number)
        case ast.Name(id="x"):
            return x
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand, x)
        case ast.BinOp(left=left, op=operator, right=right):
            return _apply(operator, _value(left, x), _value(right, x))
    raise ValueError(f"cannot evaluate '{ast.unparse(node)}': only integers, x, + - * / and brackets are known")


def _apply(operator: ast.operator, left: Any, right: Any) -> Any:
    match operator:
        case ast.Add():
            return left + right
        case ast.Sub():
            return left - right
        case ast.Mult():
            return left * right
        case ast.Div():
            return left / right
    raise ValueError(f"cannot evaluate the operator {type(operator).__name__}: only + - * / are known")
