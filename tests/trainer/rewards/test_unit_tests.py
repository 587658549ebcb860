"""Rewards of code: as plain execution judges honest solutions, and nothing for those that cheat."""

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.rewards.sandbox import Limits, Sandbox
from trainer.rewards.sandbox.ask import encode
from trainer.rewards.sandbox.judge import ANSWERS, decode, read_answers
from trainer.rewards.sandbox.questions import quiz
from trainer.rewards.sandbox.unit_tests import Task, share_passed, shares_passed, verdicts

SQUARES = ["assert square(2) == 4", "assert square(3) == 9"]
NEVER = "0x5eed" + "51" * 20  # an expected value that nobody guesses
UNGUESSABLE = [f"assert f('a') == {NEVER!r}", f"assert f('b') == {NEVER[::-1]!r}"]


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as opened:
        yield opened


def share(solution: str, tests: list[str], sandbox: Sandbox, setup: str = "") -> float:
    return share_passed(solution, setup, tests, sandbox=sandbox, limits=Limits(seconds=5.0))


# -- honest solutions ------------------------------------------------------------------------------------------------

NODE = "class Node:\n    def __init__(self, value): self.value, self.next = value, None\n"
HONEST: list[tuple[str, str, list[str]]] = [
    ("def square(x): return x * x", "", [*SQUARES, "assert square(4) == 17"]),
    ("def square(x): return 2 * x", "", SQUARES),
    ("def square(x): return x / 0 if x > 2 else x * x", "", SQUARES),
    ("def square(x) return x * x", "", SQUARES),
    ("square = 3", "", SQUARES),
    ("", "", SQUARES),
    ("def sum(a, b): return a - b", "", ["assert sum(3, 1) == 2", "assert sum(3, 1) == 4"]),
    ("def f(x): return sorted(x), {1: {2}}", "", ["assert f([2, 1]) == ([1, 2], {1: {2}})", "assert f([])[0] == [2]"]),
    ("def f(x): return not x", "", ["assert f(0)", "assert not f(1)", "assert f(1) is False", "assert f(1)"]),
    ("queue = [1, 2]", "", ["assert queue.pop() == 2", "assert queue[0] == 1", "assert queue.pop() == 2"]),
    ("def add(a, b): return a + b", "", ["assert sum(3, 1) == 2", "assert len([1]) == 1"]),
    ("import sys\ndef size(x): return sys.getsizeof(x)", "", ["assert size((1, 2)) == sys.getsizeof((1, 2))"]),
    ("def f(x): return x / 3", "import math", ["assert math.isclose(f(1), 1 / 3)", "assert int(f(7)) == 2"]),
    ("def f(x): return x + 1", "from math import isclose as near\ny = 2", ["assert near(f(y), y + 1)"]),
    (NODE + "def total(n): return n.value + total(n.next) if n else 0", "root = Node(1)\nroot.next = Node(2)",
     ["assert total(root) == 3", "assert total(root.next) == 2", "assert root.value == 1"]),
    ("from collections import *\nP = namedtuple('P', 'x y')\ndef f(s): return Counter(s), P(1, 2)", "",
     ["assert f('aab') == ({'a': 2, 'b': 1}, (1, 2))"]),
    ("def f(): return 10**5000, float('inf'), 1j, b'x', None, range(3), frozenset('a')", "",
     ["assert f() == (10**5000, float('inf'), 1j, b'x', None, range(3), frozenset('a'))"]),
    ("def f(): return float('nan')", "", ["assert f() != f()"]),
    ("seen = []\ndef f(x):\n    print('[0, [9]]')\n    seen.append(x)\n    return len(seen)", "",
     ["assert f(1) == 1", "assert f(1) == 2"]),
    ("def f(x): return {'a': [x]}", "", ["assert f(1)['a'] == [1] and f(2) == {'a': [2]}", "assert [f(1), 2][1] == 2"]),
    ("def f(x): return input()", "", ["assert f(1) == ''"]),
]  # fmt: skip


def by_plain_execution(solution: str, setup: str, tests: list[str]) -> float:
    """The obvious reference: everything in one namespace, one test after the other."""
    names: dict[str, object] = {"__name__": "solution", "input": lambda: int("")}
    passed = 0
    try:
        exec(solution, names)
        exec(setup, names)
    except Exception:  # noqa: BLE001
        return 0.0
    for test in tests:
        try:
            exec(test, names)
        except Exception:  # noqa: BLE001
            continue
        passed += 1
    return passed / len(tests)


@pytest.mark.parametrize("task", HONEST, ids=lambda task: task[0][:30])
def test_honest_solutions_are_judged_as_by_plain_execution(task: tuple[str, str, list[str]], sandbox: Sandbox) -> None:
    solution, setup, tests = task
    assert share(solution, tests, sandbox, setup) == by_plain_execution(solution, setup, tests)


def test_tasks_are_judged_in_order_by_several_workers() -> None:
    tasks = [Task(f"def square(x): return x ** {power}", "", SQUARES) for power in (2, 1, 2, 3, 2)]
    assert shares_passed(tasks, workers=2) == [1, 0, 1, 0, 1]
    assert share_passed(*tasks[0]) == 1


# -- cheats ----------------------------------------------------------------------------------------------------------

CHEATS = {
    "leaves early": "import os\nos._exit(0)",
    "leaves politely": "raise SystemExit(0)",
    "leaves when asked": "def f(x): raise SystemExit(0)",
    "prints verdicts": "print('[1, 1]')\nprint('2 passed')\nraise SystemExit",
    "writes verdicts everywhere": "import os\nfor fd in range(100):\n    try: os.write(fd, b'[1, 1]\\n')\n"
    "    except OSError: pass\nos._exit(0)",
    "writes answers that judge themselves": "import os\nfor fd in range(100):\n    try:\n"
    "        os.write(fd, b'[0, [true]]\\n[1, [[\"list\", []]]]\\n[[], 1]\\n{}\\n[0, {\"__eq__\": 1}]\\n')\n"
    "    except OSError: pass\nos._exit(0)",
    "equals everything": "class Any(str):\n    def __eq__(self, other): return True\n    __hash__ = str.__hash__\n"
    "def f(x): return Any()",
    "is true whatever is asked": "class Yes:\n    def __getattr__(self, name): return self\n"
    "    def __call__(self, *a): return self\n    def __eq__(self, o): return True\nf = Yes()",
    "patches builtins": "import builtins, json, os\nbuiltins.eval = lambda *a: True\njson.dumps = lambda *a: '[1, 1]'\n"
    "def f(x): return 1",
    "patches the encoder": "import sys\nframe = sys._getframe()\nwhile frame:\n"
    "    if 'encode' in frame.f_globals: frame.f_globals['encode'] = lambda v: ['Any', []]\n    frame = frame.f_back\n"
    "def f(x): return 1",
    "hangs when it ends": "import atexit, os\natexit.register(lambda: [0 for _ in iter(int, 1)])\n"
    "os._exit = lambda *a: [0 for _ in iter(int, 1)]\ndef f(x): return 1",
    "hangs": "def f(x):\n    while True: pass",
    "forks": "import os\nos.fork()",
    "closes what is open": "import os\nos.closerange(0, 1000)\ndef f(x): return 1",
    "sends too much": "def f(x): return 'x' * 10**7",
    "sends what is too deep": "def f(x):\n    a = []\n    for _ in range(10**5): a = [a]\n    return a",
    "sends itself": "def f(x):\n    a = []\n    a.append(a)\n    return a",
    "fills the folder for the judge": "open('json.py', 'w').write('loads = lambda s: [0, [1]]')\ndef f(x): return 1",
}  # fmt: skip


@pytest.mark.parametrize("cheat", CHEATS, ids=str)
def test_cheating_earns_nothing(cheat: str, sandbox: Sandbox) -> None:
    limits = Limits(seconds=0.5) if "hangs" in cheat else Limits(seconds=5.0)
    task = Task(CHEATS[cheat], "", UNGUESSABLE)
    assert verdicts(task, sandbox, limits) == [False, False]
    honest = Task("def f(x): return " + f"{{'a': {NEVER!r}, 'b': {NEVER[::-1]!r}}}[x]", "", UNGUESSABLE)
    assert verdicts(honest, sandbox) == [True, True]


SEARCH = """
import gc, sys
def strings():
    seen, todo = set(), [gc.get_objects(), sys._getframe()]
    while todo:
        item = todo.pop()
        if id(item) in seen: continue
        seen.add(id(item))
        if isinstance(item, (str, bytes)): yield item if isinstance(item, str) else item.decode("latin-1")
        else: todo += gc.get_referents(item)
START = "0x" + "5eed"
def f(x):
    found = [text[text.index(START):][:46] for text in strings() if START in text and len(text) >= 46]
    return found[0] if found else "nothing"
"""


def test_what_is_expected_is_nowhere_in_the_process_of_the_solution(sandbox: Sandbox) -> None:
    """A search through all of its objects finds what the test passes on, but not what it compares with."""
    assert share(SEARCH, [f"assert f({NEVER!r}) == {NEVER!r}"], sandbox) == 1
    assert share(SEARCH, [f"assert f('a') == {NEVER!r}", "assert f('b') == 'nothing'"], sandbox) == 0.5


WORDS = [
    "def f(x):\n",
    "    ",
    "return ",
    "x",
    "\n",
    "(",
    ")",
    "f",
    "import os\n",
    "'",
    '"""',
    "\0",
    "\udc80",
    "9" * 5000,
    "class ",
]


@settings(max_examples=60, deadline=None)
@given(solution=st.text() | st.lists(st.sampled_from(WORDS), max_size=12).map("".join))
def test_whatever_a_model_writes_is_judged(sandbox: Sandbox, solution: str) -> None:
    assert verdicts(Task(solution, "", UNGUESSABLE), sandbox, Limits(seconds=2.0)) == [False, False]


def test_tests_before_one_that_hangs_count(sandbox: Sandbox) -> None:
    task = Task("def square(x):\n    while x == 3: pass\n    return x * x", "", [*SQUARES, SQUARES[0]])
    assert verdicts(task, sandbox, Limits(seconds=0.5)) == [True, False, False]


# -- questions -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("test", "asked", "judged"),
    [
        ("assert f(g(1), [2]) == [4]", ["f(g(1), [2])"], "{0} == [4]"),
        ("assert f(1) + 2 < g(3).x[0]", ["f(1)", "g(3).x[0]"], "{0} + 2 < {1}"),
        ("assert sorted(f(1), key=len) in ([1], [2])", ["f(1)"], "sorted({0}, key=len) in ([1], [2])"),
        ("assert not f(1), 'message'", ["f(1)"], "not {0}"),
        ("assert all([x > 0 for x in f(1)])", None, None),
        ("assert value == 3", ["value"], "{0} == 3"),
        ("assert abs(f(1)) == abs(-1)", ["f(1)"], "abs({0}) == abs(-1)"),
    ],
)
def test_a_test_is_cut_into_questions_and_a_condition(test: str, asked: list[str] | None, judged: str | None) -> None:
    if judged is None or asked is None:
        with pytest.raises(ValueError, match="write one assert for each case"):
            quiz("", [test])
    else:
        (questions,) = quiz("", [test]).tests
        numbered = [f"{ANSWERS}[{number}]" for number in range(len(asked))]
        assert questions == (asked, judged.format(*numbered))


def test_a_builtin_is_the_solutions_only_where_nothing_else_is() -> None:
    two = quiz("", ["assert sum(1, 2) == sorted([3])[0]", "assert f(1) == sorted([2])"])
    assert [test.asked for test in two.tests] == [["sum(1, 2)"], ["f(1)"]]


def test_a_module_is_the_judges_where_the_test_asks_something_else() -> None:
    questions = quiz("", ["assert f() == sys.maxsize", "assert queue.pop() == 3", "assert f(sys) == [1]"])
    assert [test.asked for test in questions.tests] == [["f()"], ["queue.pop()"], ["f(sys)"]]
    assert questions.setup == "import sys\n"


def test_the_judge_takes_of_the_setup_what_needs_no_solution() -> None:
    setup = "import math\nfrom os import path as p\ndef two(): return math.ceil(1.5)\nx = two()\ny = Node(x)\nz = y"
    questions = quiz(setup, ["assert f(x, y) == two() and y.value == x and p and z"])
    assert questions.tests[0].asked == ["f(x, y)", "y.value", "z"]
    assert "Node" not in questions.setup


@pytest.mark.parametrize("test", ["f(1) == 2", "x = 1", "assert f(", "assert f(1)\nassert f(2)", "assert 1 == 1", ""])
def test_what_is_no_test_is_named(test: str) -> None:
    with pytest.raises(ValueError, match=r"is no Python|must be one assert|asks nothing of the solution"):
        quiz("", [test])
    with pytest.raises(ValueError, match="without tests"):
        quiz("", [])


# -- plain data ------------------------------------------------------------------------------------------------------

HASHABLE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.complex_numbers(allow_nan=False),
    lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3),
    max_leaves=5,
)
PLAIN = st.recursive(
    HASHABLE | st.sets(HASHABLE, max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(HASHABLE, inner, max_size=3),
    max_leaves=8,
)


@given(PLAIN)
def test_plain_data_arrives_as_it_was(value: object) -> None:
    arrived = decode(encode(value))
    assert arrived == value
    assert type(arrived) is type(value)


@given(st.text() | st.from_regex(r'\[\d+, \[("\w+"|\[|\]|\{|\}|,| |\d|:)*', fullmatch=True))
def test_whatever_a_solution_writes_is_read_as_answers_or_not_at_all(line: str) -> None:
    assert all(isinstance(number, int) and isinstance(values, list) for number, values in read_answers([line]).items())


def test_other_objects_are_no_answers() -> None:
    for value in (object(), iter([]), print, [object()]):
        with pytest.raises(TypeError, match="cannot be handed over"):
            encode(value)
