"""Read a written formula and give its exact value.

Formulas are written as people type them: `3x^2 - 5x + 6`, `\\sqrt{12}`, `(2x + 3)' = 2`, `C(5, 2)`, `17 mod 5`, `F(2)`.
Numbers and polynomials are values over QQ, where equality costs microseconds. What is no polynomial (roots, quotients,
sines) is a SymPy expression: equal when expanded, else told apart by its digits, and `simplify` decides what is left.
"""

import ast
import math
import re
from collections.abc import Callable, Mapping
from fractions import Fraction
from functools import lru_cache
from typing import Any

import sympy
from sympy import QQ
from sympy.core.expr import Expr
from sympy.polys.polyerrors import BasePolynomialError
from sympy.polys.rings import PolyElement, ring

VARIABLES = ("x", "y", "z", "f", "C", "pi")
RING, *_GENERATORS = ring(VARIABLES, QQ)
_GENERATOR = dict(zip(VARIABLES, _GENERATORS, strict=True))
_X = _GENERATOR["x"]
_SYMBOL = {name: sympy.pi if name == "pi" else sympy.Symbol(name) for name in VARIABLES} | {"e": sympy.E}
_FUNCTIONS = {name: getattr(sympy, name) for name in ("sqrt", "sin", "cos", "tan", "exp", "log")} | {"ln": sympy.log}
_LONGEST, _LARGEST_EXPONENT, _LARGEST_FACTORIAL = 400, 80, 200
_MOST_BITS, _LARGEST_DEGREE = 4_000, 12  # of a power; the degree in more than one variable
_LARGEST_FACTORISED = 10**12
_DIGITS, _SMALLEST = 30, 1e-15  # that decide whether two values differ

Value = Any  # a rational of QQ, a PolyElement of RING or a SymPy expression
Names = Mapping[str, "Value | ast.expr"]  # a value, or the formula that a name stands for


class Unreadable(ValueError):
    """A formula that cannot be read, or whose value is not defined."""


class _NotPolynomial(Exception):
    """The value is no polynomial over QQ."""


# -- reading ---------------------------------------------------------------------------------------------------------


_LATEX = (
    (re.compile(r"\\(?:left|right|,|;|!)"), ""),
    (re.compile(r"\\(?:cdot|times)|[·×]"), "*"),
    (re.compile(r"\\infty"), "oo"),
    (re.compile(r"[−–]"), "-"),
    (re.compile(r"\\le(?:q)?(?![a-z])|≤"), "<="),
    (re.compile(r"\\ge(?:q)?(?![a-z])|≥"), ">="),
    (re.compile(r"\\bmod|(?<![a-z])mod(?![a-z])"), "%"),
)
_FRACTION = re.compile(r"\\[dt]?frac\{([^{}]*)\}\{([^{}]*)\}")
_BRACED = re.compile(r"(\\sqrt|\^)\{([^{}]*)\}")
_PRODUCT = re.compile(r"(?<=[0-9)])\s*(?=[A-Za-z(])|(?<=\))\s*(?=[0-9])|(?<=pi)\s*(?=[a-z(])|(?<=x)(?=(?:e|sin|cos)\b)")
_FACTORIAL = re.compile(r"(\d+)!")


def plain(text: str) -> str:
    """A formula in LaTeX or as people type it, in the notation of Python."""
    for pattern, replacement in _LATEX:
        text = pattern.sub(replacement, text)
    while (shorter := _BRACED.sub(r"\1(\2)", _FRACTION.sub(r"((\1)/(\2))", text))) != text:
        text = shorter
    text = _FACTORIAL.sub(r"factorial(\1)", _primes(text.replace("\\", "")))
    return _PRODUCT.sub("*", text.replace("^", "**")).strip()


def _primes(text: str) -> str:
    """`(…)'`, `F'` and `F'(2)` as calls of `diff`."""
    while (place := text.find("'")) >= 0:
        start = _opening(text, place - 1)
        inner, rest = text[start:place], text[place + 1 :]
        at = re.match(r"\(([^()]*)\)", rest)
        call = f"diff({inner}, {at[1]})" if at else f"diff({inner})"
        text = text[:start] + call + (rest[at.end() :] if at else rest)
    return text


def _opening(text: str, last: int) -> int:
    """Where the bracket or the name that ends at `last` begins."""
    if last < 0 or text[last] != ")":
        return max(0, last)
    depth = 0
    for place in range(last, -1, -1):
        depth += (text[place] == ")") - (text[place] == "(")
        if depth == 0:
            return place
    raise Unreadable(f"'{text}' has a bracket that nothing opens")


@lru_cache(maxsize=1 << 14)
def read(text: str) -> ast.expr:
    """Raises: Unreadable: this is no formula."""
    if len(text) > _LONGEST:
        raise Unreadable(f"a formula of {len(text)} characters is too long")
    try:
        return ast.parse(plain(text), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise Unreadable(f"'{text}' is no formula") from error


# -- values ----------------------------------------------------------------------------------------------------------


def value(formula: str | ast.expr, names: Names | None = None) -> Value:
    """Exact value, a polynomial where it is one.

    Raises:
        Unreadable: the formula cannot be read, or divides by zero.
    """
    node = read(formula) if isinstance(formula, str) else formula
    names = names or {}
    try:
        try:
            return _polynomial(node, names)
        except _NotPolynomial:
            return _expression(node, names)
    except Unreadable:
        raise
    except (ValueError, ArithmeticError, RecursionError, BasePolynomialError) as error:
        raise Unreadable(f"'{ast.unparse(node)}' has no value") from error


def number(formula: str | ast.expr, names: Names | None = None) -> Fraction:
    """The value of a formula that has to be a rational number.

    Raises:
        Unreadable: it is none.
    """
    found = constant(value(formula, names))
    if found is None:
        raise Unreadable(f"'{formula}' is no rational number")
    return Fraction(int(found.numerator), int(found.denominator))


def constant(found: Value) -> Any | None:
    """A value as a rational of QQ; None where it is none."""
    if isinstance(found, PolyElement):
        return found.coeff(1) if found.is_ground else None
    if isinstance(found, Expr):
        return QQ(int(found.p), int(found.q)) if found.is_Rational else None
    return found


def same(left: Value, right: Value) -> bool:
    """Whether two values are equal for all values of the names left in them."""
    if not isinstance(left, Expr) and not isinstance(right, Expr):
        return bool(left == right)
    difference = as_expression(left) - as_expression(right)
    if difference == 0:
        return True
    if difference.has(sympy.zoo, sympy.nan, sympy.oo) or _differs(difference):
        return False
    return bool(sympy.expand(difference) == 0 or sympy.simplify(difference) == 0)


def _differs(difference: Expr) -> bool:
    """Whether a value is told from zero by its digits, the names in it put at some point."""
    names = sorted(difference.free_symbols, key=str)
    point = {name: sympy.Rational(7 + 2 * index, 11) for index, name in enumerate(names)}
    found = difference.evalf(_DIGITS, subs=point)
    return bool(found.is_number and abs(complex(found)) > _SMALLEST)


def as_expression(found: Value) -> Expr:
    if isinstance(found, Expr):
        return found
    if isinstance(found, PolyElement):
        return found.as_expr(*(_SYMBOL[name] for name in VARIABLES))
    return sympy.Rational(int(found.numerator), int(found.denominator))


# -- polynomials over QQ ---------------------------------------------------------------------------------------------


def _polynomial(node: ast.expr, names: Names) -> Value:
    match node:
        case ast.Constant(value=int(digits)) if not isinstance(digits, bool):
            return QQ(digits)
        case ast.Constant(value=float()):
            return QQ(*Fraction(ast.unparse(node)).as_integer_ratio())
        case ast.Name(id=name):
            return _named(name, names, _polynomial, _GENERATOR)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_polynomial(operand, names)
        case ast.BinOp(left=left, op=operator, right=right):
            return _combined(operator, _polynomial(left, names), _polynomial(right, names))
        case ast.Call(func=ast.Name(id=function), args=arguments, keywords=[]):
            return _called(function, arguments, names)
    raise Unreadable(f"'{ast.unparse(node)}' is no formula that can be checked")


def _named(name: str, names: Names, evaluate: Callable[[ast.expr, Names], Value], free: Mapping[str, Value]) -> Value:
    known = names.get(name)
    if isinstance(known, ast.expr):
        return evaluate(known, names)
    if known is not None:
        if isinstance(known, Expr) and evaluate is _polynomial:
            raise _NotPolynomial
        return known if evaluate is _polynomial else as_expression(known)
    if name in free:
        return free[name]
    if name in _SYMBOL:
        raise _NotPolynomial
    raise Unreadable(f"the name '{name}' is not known")


def _combined(operator: ast.operator, left: Value, right: Value) -> Value:
    match operator:
        case ast.Add():
            return left + right
        case ast.Sub():
            return left - right
        case ast.Mult():
            return left * right
        case ast.Pow():
            exponent = constant(right)
            if exponent is None or exponent.denominator != 1:
                raise _NotPolynomial
            return _power(left, int(exponent))
    divisor = constant(right)
    if divisor is None:
        raise _NotPolynomial
    if isinstance(operator, ast.Div):
        return left / divisor if constant(left) is None else constant(left) / divisor
    dividend = constant(left)
    if isinstance(operator, ast.Mod) and dividend is not None:
        return QQ(_whole(dividend) % _whole(divisor))
    raise Unreadable(f"the operator {type(operator).__name__} cannot be checked")


def _power(base: Value, exponent: int) -> Value:
    if abs(exponent) > _LARGEST_EXPONENT:
        raise Unreadable(f"the exponent {exponent} is too large")
    known = constant(base)
    if known is not None and max(known.numerator.bit_length(), known.denominator.bit_length()) * exponent > _MOST_BITS:
        raise Unreadable("a power of so many digits is too large")
    if known is None and not _small(base, exponent):
        raise Unreadable("a power of so high a degree is too large")
    if exponent >= 0:
        return base**exponent
    if known is None:
        raise _NotPolynomial
    return 1 / known**-exponent


def _small(base: PolyElement, exponent: int) -> bool:
    degrees = [degree for degree in base.degrees() if degree > 0]
    return bool(sum(degrees) * abs(exponent) <= (_LARGEST_EXPONENT if len(degrees) == 1 else _LARGEST_DEGREE))


def _called(function: str, arguments: list[ast.expr], names: Names) -> Value:
    """A name of the working at a value, a product such as `x(x + 1)`, or a function of numbers or polynomials."""
    defined = names.get(function)
    if isinstance(defined, ast.expr) and len(arguments) == 1:
        return _polynomial(defined, {**names, "x": _polynomial(arguments[0], names)})
    if function == "diff" and arguments:
        free = {name: known for name, known in names.items() if name != "x"}
        slope = _element(_polynomial(arguments[0], free)).diff(_X)
        return slope if len(arguments) == 1 else slope.compose(_X, _element(_polynomial(arguments[1], names)))
    found = [_polynomial(argument, names) for argument in arguments]
    if function in _OF_POLYNOMIALS:
        return _OF_POLYNOMIALS[function](*map(_element, found))
    numbers = [constant(item) for item in found]
    if function in _OF_NUMBERS and (function != "C" or len(numbers) == 2):
        if any(item is None for item in numbers):
            raise Unreadable(f"{function} is of numbers")
        return QQ(_OF_NUMBERS[function](*(_whole(item) for item in numbers)))
    if function in _FUNCTIONS:
        raise _NotPolynomial
    if len(arguments) == 1:
        return _polynomial(ast.Name(function), names) * found[0]
    raise Unreadable(f"the function '{function}' is not known")


def _element(found: Value) -> PolyElement:
    return found if isinstance(found, PolyElement) else RING(found)


def _whole(found: Any) -> int:
    if found is None or found.denominator != 1:
        raise Unreadable(f"{found} is no whole number")
    return int(found)


def _factorial(count: int) -> int:
    if not 0 <= count <= _LARGEST_FACTORIAL:
        raise Unreadable(f"the factorial of {count} cannot be checked")
    return math.factorial(count)


def _choose(total: int, chosen: int) -> int:
    if not chosen >= 0 or not 0 <= total <= _LARGEST_FACTORIAL:
        raise Unreadable(f"C({total}, {chosen}) cannot be checked")
    return math.comb(total, chosen)


def _divisors(number: int) -> int:
    if not 0 < number <= _LARGEST_FACTORISED:
        raise Unreadable(f"the divisors of {number} cannot be counted")
    return int(sympy.divisor_count(number))


def _in_base(digits: int, base: int) -> int:
    """What the decimal digits spell in a base up to ten."""
    return int(str(digits), base)


def _coefficient(polynomial: PolyElement, power: PolyElement) -> Value:
    """The coefficient of a power of x."""
    return polynomial.coeff(_X ** _whole(constant(power))) if constant(power) else polynomial.coeff(1)


def _limit(numerator: PolyElement, denominator: PolyElement, at: PolyElement) -> Value:
    """Of a quotient of polynomials, where the denominator divides the numerator."""
    quotient, rest = divmod(numerator, denominator)
    if rest:
        raise Unreadable("the limit of a quotient that does not divide cannot be checked")
    return quotient.compose(_X, at)


def _definite(f: PolyElement, low: PolyElement, high: PolyElement) -> Value:
    """The integral of a polynomial in x."""
    total = RING(0)
    for monomial, coefficient in f.terms():
        raised = (monomial[0] + 1, *monomial[1:])
        total += RING({raised: coefficient / raised[0]})
    return total.compose(_X, high) - total.compose(_X, low)


_OF_NUMBERS: dict[str, Callable[..., int]] = {
    "C": _choose, "factorial": _factorial, "gcd": math.gcd, "lcm": math.lcm, "base": _in_base,
    "divisors": _divisors, "inverse": lambda a, m: int(sympy.mod_inverse(a, m)),
}  # fmt: skip
_OF_POLYNOMIALS: dict[str, Callable[..., Value]] = {
    "coefficient": _coefficient, "limit": _limit, "remainder": lambda left, right: left.rem(right),
    "integral": _definite,
}  # fmt: skip


# -- everything else -------------------------------------------------------------------------------------------------


def _expression(node: ast.expr, names: Names) -> Expr:
    """The value as a SymPy expression."""
    try:
        return as_expression(_polynomial(node, names))
    except _NotPolynomial:
        pass
    match node:
        case ast.Name(id=name):
            return _named(name, names, _expression, _SYMBOL)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_expression(operand, names)
        case ast.BinOp(left=left, op=operator, right=right):
            return _combined_expressions(operator, _expression(left, names), _expression(right, names))
        case ast.Call(func=ast.Name(id=function), args=[argument], keywords=[]):
            return _called_expression(function, argument, names)
        case ast.Call(func=ast.Name(id="diff"), args=[function_of_x, at], keywords=[]):
            slope = _called_expression("diff", function_of_x, names)
            return slope.subs(_SYMBOL["x"], _expression(at, names))
    raise Unreadable(f"'{ast.unparse(node)}' is no formula that can be checked")


def _combined_expressions(operator: ast.operator, left: Expr, right: Expr) -> Expr:
    match operator:
        case ast.Add():
            return left + right
        case ast.Sub():
            return left - right
        case ast.Mult():
            return left * right
        case ast.Div():
            if right == 0:
                raise ZeroDivisionError
            return left / right
        case ast.Pow():
            if right.is_number and abs(right) > _LARGEST_EXPONENT:
                raise Unreadable(f"the exponent {right} is too large")
            return left**right
    raise Unreadable(f"the operator {type(operator).__name__} cannot be checked")


def _called_expression(function: str, argument: ast.expr, names: Names) -> Expr:
    defined = names.get(function)
    if isinstance(defined, ast.expr):
        return _expression(defined, {**names, "x": _expression(argument, names)})
    if function == "diff":
        free = {name: known for name, known in names.items() if name != "x"}
        return sympy.diff(_expression(argument, free), _SYMBOL["x"])
    if function in _FUNCTIONS:
        return _FUNCTIONS[function](_expression(argument, names))
    return _expression(ast.Name(function), names) * _expression(argument, names)
