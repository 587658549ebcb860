"""Lengths, areas and volumes, some of them roots or multiples of pi."""

from fractions import Fraction
from random import Random

from trainer.data.synthesis.families.registry import family
from trainer.data.synthesis.families.writing import inner, root, signed, times_pi
from trainer.data.synthesis.steps import CannotGoOn, Exercise, Trace

Point = tuple[int, int]


@family("geometry")
def hypotenuse(rng: Random, level: int) -> Exercise:
    a, b = (rng.randint(1, 20 + 10 * level) for _ in range(2))

    def solve(trace: Trace) -> str:
        sign = trace.pick("+", sign_slip="-")
        squares = trace.calculate(f"{a}^2 {sign} {b}^2", "s")
        return _square_root(trace, trace.pick(squares, wrong_formula=Fraction((a + b) ** 2)))

    wordings = (
        f"A right triangle has legs {a} and {b}. Find its hypotenuse.",
        f"What is the hypotenuse of a right triangle with legs {a} and {b}?",
        f"The two shorter sides of a right triangle are {a} and {b}. How long is the longest?",
        f"Find the diagonal of a rectangle with sides {a} and {b}.",
    )
    return Exercise(wordings, f"x = \\sqrt{{{a}^2 + {b}^2}}", solve, ("sign_slip", "wrong_formula", "dropped_root"))


def _square_root(trace: Trace, squared: Fraction) -> str:
    """The root of a number, or with the mistake dropped_root the number itself."""
    if squared <= 0 or squared.denominator > 1:
        raise CannotGoOn
    if trace.mistake == "dropped_root":
        return str(squared)
    answer = root(int(squared))
    trace.say(f"x = \\sqrt{{{squared}}}" + (f" = {answer}" if answer != f"\\sqrt{{{squared}}}" else ""))
    return answer


def _points(rng: Random, largest: int, count: int, positive: bool) -> list[Point]:
    """Different points with whole coordinates."""
    found: list[Point] = []
    while len(found) < count:
        point = rng.randint(0 if positive else -largest, largest), rng.randint(0 if positive else -largest, largest)
        if point not in found:
            found.append(point)
    return found


@family("geometry")
def point_distance(rng: Random, level: int) -> Exercise:
    (a, b), (c, d) = _points(rng, 5 + 4 * level, 2, level == 1)

    def solve(trace: Trace) -> str:
        sign = trace.pick("-", sign_slip="+")
        start = trace.pick((a, b), swapped_operands=(b, a))
        across = trace.calculate(f"{c} {sign} {inner(start[0])}", "u")
        up = trace.calculate(f"{d} {sign} {inner(start[1])}", "v")
        total = trace.pick(f"{inner(across)}^2 + {inner(up)}^2", dropped_term=f"{inner(across)}^2")
        return _square_root(trace, trace.calculate(total, "s"))

    wordings = (
        f"Find the distance between ({a}, {b}) and ({c}, {d}).",
        f"How far is ({c}, {d}) from ({a}, {b})?",
        f"What is the length of the segment from ({a}, {b}) to ({c}, {d})?",
        f"A straight line joins ({a}, {b}) and ({c}, {d}). How long is it?",
    )
    condition = f"x = \\sqrt{{({c} - {inner(a)})^2 + ({d} - {inner(b)})^2}}"
    return Exercise(wordings, condition, solve, ("sign_slip", "swapped_operands", "dropped_term", "dropped_root"))


@family("geometry")
def midpoint(rng: Random, level: int) -> Exercise:
    (a, b), (c, d) = _points(rng, 6 + 10 * level, 2, level == 1)

    def solve(trace: Trace) -> str:
        sign, over = trace.pick("+", sign_slip="-"), trace.pick("/2", dropped_term="")
        x = trace.calculate(f"({a} {sign} {inner(c)}){over}", "x")
        y = trace.calculate(f"({b} {sign} {inner(d)}){over}", "y")
        return "({}, {})".format(*trace.pick((x, y), swapped_operands=(y, x)))

    wordings = (
        f"Find the midpoint of ({a}, {b}) and ({c}, {d}).",
        f"What is the midpoint of the segment from ({a}, {b}) to ({c}, {d})?",
        f"Which point lies halfway between ({a}, {b}) and ({c}, {d})?",
        f"A segment has the ends ({a}, {b}) and ({c}, {d}). Where is its middle?",
    )
    condition = f"x - {inner(a)} = {c} - x, y - {inner(b)} = {d} - y"
    return Exercise(wordings, condition, solve, ("sign_slip", "dropped_term", "swapped_operands"))


@family("geometry")
def sector_area(rng: Random, level: int) -> Exercise:
    """Of a circle's sector with an angle in degrees."""
    radius = rng.randint(2, 10 + 10 * level)
    angle = rng.choice(range(10, 180, 10 if level < 3 else 1)) * (1 if level == 1 else rng.choice((1, 2)))

    def solve(trace: Trace) -> str:
        if trace.mistake == "unit_slip":  # degrees taken for radians
            return str(trace.calculate(f"{radius}^2*{angle}/2", "x"))
        share = trace.calculate(f"{angle}/360", "u")
        over = trace.pick(f"{inner(share)}*{radius}^2", wrong_formula=f"{inner(share)}*2*{radius}")
        answer = times_pi(trace.calculate(trace.pick(over, dropped_term=f"{radius}^2"), "v"))
        trace.say(f"x = v*\\pi = {answer}")
        return answer

    wordings = (
        f"Find the area of a sector of {angle} degrees in a circle of radius {radius}.",
        f"A circle has radius {radius}. What is the area of a sector of {angle} degrees?",
        f"What area does a slice of {angle} degrees have in a disc of radius {radius}?",
        f"A pizza of radius {radius} is cut: one piece spans {angle} degrees. What is its area?",
    )
    condition = f"x = {angle}/360*\\pi*{radius}^2"
    return Exercise(wordings, condition, solve, ("unit_slip", "wrong_formula", "dropped_term"))


@family("geometry")
def solid_volume(rng: Random, level: int) -> Exercise:
    """A cylinder, from level 3 on a cone."""
    radius, height = rng.randint(2, 10 + 8 * level), rng.randint(2, 10 + 10 * level)
    solid, third = ("cylinder", "") if level < 3 else ("cone", "/3")

    def solve(trace: Trace) -> str:
        base = trace.pick(f"{radius}^2", wrong_formula=f"2*{radius}", swapped_operands=f"{height}^2")
        ground = trace.calculate(base, "u")
        over = trace.pick(third, dropped_term="" if third else "/3")
        upright = trace.pick(height, swapped_operands=radius)
        answer = times_pi(trace.calculate(f"{ground}*{upright}{over}", "v"))
        trace.say(f"x = v*\\pi = {answer}")
        return answer

    wordings = (
        f"Find the volume of a {solid} of radius {radius} and height {height}.",
        f"What is the volume of a {solid} with height {height} and radius {radius}?",
        f"A {solid} is {height} high and its base has radius {radius}. Find its volume.",
        f"How much does a {solid} of base radius {radius} and height {height} hold?",
    )
    condition = f"x = \\pi*{radius}^2*{height}" + third
    return Exercise(wordings, condition, solve, ("wrong_formula", "swapped_operands", "dropped_term"))


@family("geometry")
def triangle_area(rng: Random, level: int) -> Exercise:
    """From its corners, the first at the origin up to level 2."""
    while True:
        corners = _points(rng, 5 + 3 * level, 3, level == 1)
        (a, b), (c, d), (e, f) = [(0, 0), *corners[1:]] if level < 3 else corners
        if (c - a) * (f - b) != (d - b) * (e - a):
            break

    def solve(trace: Trace) -> str:
        c0, d0, e0, f0 = c, d, e, f
        if level > 2:
            c0, d0 = (int(trace.calculate(f"{p} - {inner(q)}", n)) for p, q, n in ((c, a, "p"), (d, b, "q")))
            e0, f0 = (int(trace.calculate(f"{p} - {inner(q)}", n)) for p, q, n in ((e, a, "r"), (f, b, "s")))
        sign = trace.pick("-", sign_slip="+")
        whole = trace.calculate(f"{c0}*{inner(f0)} {sign} {inner(d0)}*{inner(e0)}", "D")
        size = abs(trace.pick(whole, dropped_term=Fraction(c0 * f0)))
        return str(trace.calculate(trace.pick(f"{size}/2", wrong_formula=str(size)), "x"))

    corner = f"({a}, {b}), ({c}, {d}) and ({e}, {f})"
    wordings = (
        f"Find the area of the triangle with corners {corner}.",
        f"A triangle has the vertices {corner}. What is its area?",
        f"What area does the triangle {corner} have?",
        f"Three points {corner} form a triangle. How large is it?",
    )
    first, second = f"({c} - {inner(a)})*({f} - {inner(b)})", f"({d} - {inner(b)})*({e} - {inner(a)})"
    condition = f"x = \\sqrt{{({first} - {second})^2}}/2"
    return Exercise(wordings, condition, solve, ("sign_slip", "dropped_term", "wrong_formula"))


@family("geometry")
def similar_triangles(rng: Random, level: int) -> Exercise:
    a, b = rng.sample(range(2, 12 + 6 * level), 2)
    image = a * rng.randint(2, 3 + 3 * level) if level < 3 else rng.randint(2, 12 + 6 * level)

    def solve(trace: Trace) -> str:
        scale = trace.pick(f"{image}/{a}", swapped_operands=f"{a}/{image}", wrong_operation=f"{image} - {a}")
        found = trace.calculate(scale, "k")
        last = trace.pick(f"{inner(found)}*{b}", wrong_operation=f"{b}{signed(found)}", dropped_term=str(found))
        return str(trace.calculate(last, "x"))

    wordings = (
        f"Two triangles are similar. Sides {a} and {b} of one match {image} and x of the other. Find x.",
        f"A triangle with sides {a} and {b} is enlarged so that {a} becomes {image}. What does {b} become?",
        f"In similar triangles side {a} corresponds to {image}. To what does side {b} correspond?",
        f"Similar figures: {a} goes with {image}, so what goes with {b}?",
    )
    condition = f"{a}x + {a}*{b} = {b}*{image} + {a}*{b}"  # one wording names a and b twice
    return Exercise(wordings, condition, solve, ("swapped_operands", "wrong_operation", "dropped_term"))


@family("geometry")
def trapezoid_area(rng: Random, level: int) -> Exercise:
    a, b = rng.sample(range(2, 15 + 10 * level), 2)
    height = rng.randint(2, 10 + 6 * level)

    def solve(trace: Trace) -> str:
        both = trace.calculate(trace.pick(f"{a} + {b}", wrong_operation=f"{a}*{b}", dropped_term=str(a)), "u")
        return str(trace.calculate(trace.pick(f"{both}*{height}/2", wrong_formula=f"{both}*{height}"), "x"))

    wordings = (
        f"Find the area of a trapezoid with parallel sides {a} and {b} and height {height}.",
        f"A trapezoid of height {height} has parallel sides {a} and {b}. What is its area?",
        f"What is the area of a trapezoid whose bases are {a} and {b} and whose height is {height}?",
        f"The parallel sides of a trapezoid are {a} and {b} long and {height} apart. How large is it?",
    )
    condition = f"2x = {a}*{height} + {b}*{height}"
    return Exercise(wordings, condition, solve, ("wrong_operation", "dropped_term", "wrong_formula"))
