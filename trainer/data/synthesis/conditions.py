"""Does an answer satisfy what was asked, and is it the only one that does?

A condition is written in the notation of `expression`, relations separated by commas; the form of the answer says which
question it is:

    2x + 3 = 11                      the value of x                            4
    x + y = 5, x - y = 1             the pair (x, y)                           (3, 2)
    x^2 - 5x + 6 = 0                 all roots                                 \\{2, 3\\}
    2x + 3 < 11                      all x                                     (-\\infty, 4)
    f = (x^3 + 5x)'                  a formula                                 3x^2 + 5
    f' = 3x^2                        all functions with this derivative        x^3 + C
"""

import ast
import re
from functools import lru_cache
from itertools import combinations
from typing import Literal

import sympy
from sympy.core.expr import Expr
from sympy.polys.rings import PolyElement

from trainer.data.synthesis import expression
from trainer.data.synthesis.expression import RING, VARIABLES, Names, Unreadable, Value, same, value

Fault = Literal["unreadable_answer", "wrong_answer", "no_unique_answer"]
_UNKNOWNS = ("x", "y", "z", "f")
_INTERVAL = re.compile(r"([(\[])(.+),(.+)([)\]])")
_COMPARED = re.compile(r"(.+?)(<=|>=|<|>)(.+)")


def answer_fault(answer: str, condition: str) -> Fault | None:
    """Why `answer` is not the one that satisfies the condition, or None."""
    try:
        compared = _COMPARED.fullmatch(expression.plain(condition))
        if compared is not None:
            return _interval_fault(answer, *compared.groups())
        if expression.plain(answer).startswith("{"):
            return _roots_fault(answer, condition)
        if condition.startswith("f' = "):
            return _antiderivative_fault(answer, condition)
        found = solution(condition)
        if found is None:
            return "no_unique_answer"
        given = parts(answer)
        right = len(given) == len(found) and all(map(same, given, found))
        return None if right else "wrong_answer"
    except Unreadable:
        return "unreadable_answer"


def parts(answer: str) -> list[Value]:
    """The values that an answer consists of: the members of a set or a pair, the finite ends of an interval.

    Raises:
        Unreadable: it is no answer.
    """
    text = expression.plain(answer)
    if re.fullmatch(r"[\[({].*,.*[\])}]", text) or text.startswith("{"):
        members = text[1:-1].split(",")
        return [value(member) for member in members if member.strip() not in ("oo", "-oo")]
    return [value(text)]


def bindings(answer: str, condition: str) -> list[Names]:
    """What the unknowns of a condition are, once for each member of a set.

    Raises:
        Unreadable: the answer cannot be read.
    """
    found = parts(answer)
    if expression.plain(answer).startswith("{") or _COMPARED.fullmatch(expression.plain(condition)):
        return [{"x": member} for member in found]
    return [dict(zip(unknowns(condition), found, strict=False))]


def unknowns(condition: str) -> tuple[str, ...]:
    """The names that an answer gives values to, in the order of a pair; a formula f is of the variable x."""
    names = {
        node.id
        for relation in _relations(condition)
        for side in relation.split(" = ")
        for node in ast.walk(expression.read(side))
        if isinstance(node, ast.Name)
    }
    return ("f",) if "f" in names else tuple(name for name in _UNKNOWNS if name in names)


@lru_cache(maxsize=64)
def solution(condition: str) -> tuple[Value, ...] | None:
    """The values of a condition's unknowns, where it has exactly one solution and is linear or says `name = formula`,
    one relation after the other; else None."""
    wanted, known = unknowns(condition), dict[str, Value]()
    relations = [tuple(map(expression.read, _sides(relation))) for relation in _relations(condition)]
    for left, right in relations:
        unsolved = {node.id for side in (left, right) for node in ast.walk(side) if isinstance(node, ast.Name)}
        unsolved = (unsolved & set(wanted)) - set(known)
        if (
            isinstance(left, ast.Name)
            and left.id in unsolved
            and not _holds_name(right, left.id)
            and len(unsolved) == 1
        ):
            known[left.id] = value(right, known)
        elif len(unsolved) == 1:
            (name,) = unsolved
            root = _linear_root(value(left, known), value(right, known), name)
            if root is None:
                return None
            known[name] = root
        else:
            return _linear_pair(relations, wanted)
    return tuple(known[name] for name in wanted) if len(known) == len(wanted) else None


def _relations(condition: str) -> list[str]:
    """Split at the commas outside of brackets."""
    return re.split(r", (?![^()]*\))", condition)


def _sides(relation: str) -> list[str]:
    sides = relation.split(" = ")
    if len(sides) != 2:
        raise Unreadable(f"'{relation}' is no equation")
    return sides


def _holds_name(node: ast.expr, name: str) -> bool:
    return any(isinstance(part, ast.Name) and part.id == name for part in ast.walk(node))


def _linear_root(left: Value, right: Value, name: str) -> Value | None:
    """The root of an equation that is linear in one unknown."""
    difference = left - right
    if not isinstance(difference, PolyElement):
        return None
    index = VARIABLES.index(name)
    if set(difference.monoms()) - {RING.zero_monom, tuple(int(i == index) for i in range(len(VARIABLES)))}:
        return None
    slope = difference.diff(RING.gens[index]).coeff(1)
    return -difference.coeff(1) / slope if slope else None


def _linear_pair(relations: list[tuple[ast.expr, ...]], wanted: tuple[str, ...]) -> tuple[Value, ...] | None:
    """Two linear equations in two unknowns, by Cramer's rule."""
    if len(relations) != 2 or len(wanted) != 2:
        return None
    rows = []
    for left, right in relations:
        difference = value(left) - value(right)
        if not isinstance(difference, PolyElement) or max(map(sum, difference.monoms())) > 1:
            return None
        rows.append([difference.coeff(RING.gens[VARIABLES.index(name)]) for name in wanted] + [-difference.coeff(1)])
    (a, b, p), (c, d, q) = rows
    determinant = a * d - b * c
    return ((p * d - b * q) / determinant, (a * q - p * c) / determinant) if determinant else None


def _roots_fault(answer: str, condition: str) -> Fault | None:
    """The polynomial is the product of x - r over the members, each once, or of one member so often as its degree."""
    left, right = map(value, _sides(condition))
    polynomial, members = left - right, parts(answer)
    if not isinstance(polynomial, PolyElement):
        return "unreadable_answer"
    x, degree = RING.gens[0], polynomial.degree()
    if len(members) not in (1, degree) or any(same(*pair) for pair in combinations(members, 2)):
        return "wrong_answer"
    product: Value = RING(polynomial.LC)
    for member in members if len(members) == degree else members * degree:
        if isinstance(member, Expr):
            product, x = expression.as_expression(product), expression.as_expression(x)
        product = product * (x - member)
    return None if same(product, polynomial) else "wrong_answer"


def _antiderivative_fault(answer: str, condition: str) -> Fault | None:
    """Its derivative is the one asked for, and a free constant C stands in it as a term of its own."""
    given, wanted = value(answer), value(condition.removeprefix("f' = "))
    if not isinstance(given, PolyElement):
        return "unreadable_answer"
    without = given - RING.gens[VARIABLES.index("C")]
    right = without.degree(RING.gens[VARIABLES.index("C")]) <= 0 and same(given.diff(RING.gens[0]), wanted)
    return None if right else "wrong_answer"


def _interval_fault(answer: str, left: str, operator: str, right: str) -> Fault | None:
    """A linear inequality: the border solves the equation, a point on the side given satisfies it, and the border
    belongs to the interval where the sign says so."""
    found = _INTERVAL.fullmatch(expression.plain(answer))
    if found is None:
        return "unreadable_answer"
    root = _linear_root(value(left), value(right), "x")
    if root is None:
        return "no_unique_answer"
    opening, low, high, closing = found[1], found[2].strip(), found[3].strip(), found[4]
    upwards = high == "oo"
    if upwards == (low == "-oo"):
        return "wrong_answer"
    border, bracket, open_end = (low, opening, closing) if upwards else (high, closing, opening)
    point = {"x": root + (1 if upwards else -1)}
    fits = same(value(border), root) and compares(value(left, point), operator, value(right, point))
    ends = (bracket in "[]") == operator.endswith("=") and open_end in "()"
    return None if fits and ends else "wrong_answer"


def compares(left: Value, operator: str, right: Value) -> bool:
    """Whether two values stand in a relation.

    Raises:
        Unreadable: they are no numbers, so that nothing is smaller.
    """
    if operator == "=":
        return same(left, right)
    difference = sympy.sympify(expression.as_expression(left) - expression.as_expression(right))
    if not difference.is_comparable:
        raise Unreadable(f"'{difference}' is neither positive nor negative")
    return bool({"<": difference < 0, ">": difference > 0, "<=": difference <= 0, ">=": difference >= 0}[operator])
