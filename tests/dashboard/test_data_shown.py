"""What the data pages make of an answer before Streamlit shows it."""

import re
from html import unescape
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboard.data_charts import MOST_BARS, bar_rows, histogram_rows
from dashboard.data_schemas import Lineage, PackedRow
from dashboard.lineage import mermaid
from dashboard.problems import closing, readable, typeset
from dashboard.xray import row_html, share_counted
from tests.dashboard.contract_data import LINEAGE, PACKED


class Spans(HTMLParser):
    """The text and title of every span."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, str]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag == "span":
            self.found.append(("", dict(attributes)["title"] or ""))

    def handle_data(self, data: str) -> None:
        if self.found and self.lasttag == "span":
            self.found[-1] = (self.found[-1][0] + data, self.found[-1][1])

    def handle_endtag(self, tag: str) -> None:
        self.lasttag = ""


def test_every_token_of_a_row_is_shown_with_its_id_under_its_document() -> None:
    row = PackedRow.model_validate(PACKED)
    html = row_html(row)
    spans = Spans(html).found
    assert [text for text, _ in spans] == ["<user>", "2 < 3↵\n", "yes", "yes"]
    assert [int(re.findall(r"id (\d+)", title)[0]) for _, title in spans] == [7, 8, 9, 9]
    heads = [unescape(head) for head in re.findall(r'class="head">(.*?)</div>', html)]
    assert heads == [
        "Segment 1 · dialogue of notes, d1 · 3 tokens, 1 count",
        "Segment 2 · text of books, d2 · 1 tokens, 1 count",
    ]
    assert share_counted(row.tokens) == 0.5


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (r"The answer is (-\infty, 12).", r"The answer is $(-\infty, 12)$."),
        ("So 2*3. The answer is 6.", r"So 2\*3. The answer is $6$."),
        ("I do not know a*b.", r"I do not know a\*b."),
    ],
)
def test_the_answer_of_a_closing_sentence_is_typeset(said: str, shown: str) -> None:
    assert closing(said) == shown


@given(st.text())
def test_no_token_can_become_markup(text: str) -> None:
    token = {"id": 1, "text": text, "counts": True, "segment": 1, "domain": text}
    html = row_html(PackedRow.model_validate({"tokens": [token], "documents": []}))
    assert len(re.findall(r"<(?!/)", html)) == 4  # style, the row, one head, one span


def test_the_graph_names_every_node_and_edge_and_marks_the_one_it_is_about() -> None:
    text = mermaid(Lineage.model_validate(LINEAGE), "pipe1-tokenize")
    assert 'n2["tokenize"]:::data' in text
    assert 'n1["reviewed-0123<br/>reviewed"]:::dataset' in text
    assert 'n3["train it<br/>sft<br/>failed"]:::lost' in text
    assert re.findall(r"n\d --> n\d", text) == ["n0 --> n2", "n1 --> n2", "n2 --> n3"]
    assert text.splitlines()[-1].strip().startswith("style n2 ")


@given(st.dictionaries(st.text(min_size=1, max_size=8), st.integers(0, 10**9), min_size=1, max_size=40))
def test_bars_show_everything_the_longest_first(counts: dict[str, int]) -> None:
    rows = bar_rows(counts)
    assert sum(row["count"] for row in rows) == sum(counts.values())
    named = [row["count"] for row in rows[:MOST_BARS]]
    assert named == sorted(named, reverse=True)
    assert len(rows) <= MOST_BARS + 1


@pytest.mark.parametrize(
    ("counts", "names"),
    [
        ([5, 3, 2], ["0–100", "100–1\u202f000", "≥ 1\u202f000"]),
        ([0, 3, 0], ["0–100", "100–1\u202f000"]),
        ([0, 0, 0], []),
    ],
)
def test_bins_are_named_by_their_edges(counts: list[int], names: list[str]) -> None:
    rows = histogram_rows([0, 100, 1000], counts)
    assert [row["words"] for row in rows] == names
    assert [row["documents"] for row in rows] == counts[: len(names)]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("40*7: 0*7=0", r"40\*7: 0\*7=0"),
        ("f_a(x)*2", r"f\_a(x)\*2"),
        ("**bold** and _this_", "**bold** and _this_"),
        ("$a_1*b_2$ is 3*4", r"$a_1*b_2$ is 3\*4"),
        (r"is \{2, 3\}", r"is \\{2, 3\\}"),
        ("$$x_1*y_1\n+z$$ 2*3", "$$x_1*y_1\n+z$$ 2\\*3"),
    ],
)
def test_arithmetic_stays_and_latex_is_left_alone(text: str, shown: str) -> None:
    assert readable(text) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("D = 1*2 - 4 = -2; x = 2^10.", "$D = 1\\cdot 2 - 4 = -2$\n\n$x = 2^{10}$"),
        (r"\{8, 7\}", r"$\{8, 7\}$"),
        ("18 mod 6 = 0; gcd(18, 6) = 6.", r"$18 \bmod  6 = 0$" + "\n\n" + r"$\gcd(18, 6) = 6$"),
        ("(1 - q)^(4 - 2) >= 0", r"$(1 - q)^{(4 - 2)} \ge  0$"),
        (r"10x^3\sin(8x)", r"$10x^{3}\sin(8x)$"),
        ("31*6: 1*6=6, write 6 carry 0.", r"31\*6: 1\*6=6, write 6 carry 0."),
        ("so $x = 2$; done", "so $x = 2$; done"),
        ("", ""),
    ],
)
def test_formulas_are_typeset_and_words_are_not(text: str, shown: str) -> None:
    assert typeset(text) == shown
