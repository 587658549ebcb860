"""Text out of HTML and PDF: captions, tables and formulas stay, what surrounds a page goes."""

import io
import time
from pathlib import Path
from random import Random

import pytest
from pypdf import PdfWriter

from tests.trainer.data.reading import read, reasons
from trainer.data.sources.base import Unreadable
from trainer.data.sources.documents import decode_html, html_text, pdf_text

PAGE = r"""<!doctype html><html><head><title>Ships &amp; harbours</title><style>p { color: red }</style>
<script>var x = "<p>no text</p>"</script></head><body>
<nav><a href="/">Home</a></nav>
<h1>Harbours</h1><p>A   harbour
is <b>deep</b>.<br>Mostly.</p>
<table><caption>Table 1: depths</caption><thead><tr><th>Port</th><th>m</th></tr></thead>
<tr><td>Kiel</td> <td>10</td></tr></table>
<figure><img src="a.png" alt="A crane"><figcaption>Figure 1: the crane</figcaption></figure>
<ul><li>one</li><li>two</li></ul>
<p>Depth <math display="inline"><semantics><mrow><mi>d</mi></mrow>
<annotation encoding="application/x-tex">{\displaystyle d=\frac{a}{b}}</annotation></semantics></math> holds.</p>
<math display="block" alttext="x^2"><msup><mi>x</mi><mn>2</mn></msup></math>
<p><img class="mwe-math-fallback-image-inline" alt="y_i"> and <script type="math/tex">z^3</script></p>
<pre>def f():

    return 1</pre>
<a rel="license" href="https://creativecommons.org/licenses/by-sa/4.0/">licence</a>
<footer>Imprint</footer><!-- a comment --></body></html>"""

TEXT = r"""Ships & harbours

Harbours

A harbour is deep.
Mostly.

Table 1: depths

Port | m
Kiel | 10

A crane

Figure 1: the crane

- one
- two

Depth $d=\frac{a}{b}$ holds.

$$x^2$$

$y_i$ and $z^3$

def f():

    return 1

licence"""


def test_a_page_keeps_its_captions_tables_and_formulas() -> None:
    assert html_text(PAGE) == TEXT


def test_a_page_is_a_record_with_its_licence(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(PAGE)
    ((record,), _) = read(tmp_path)
    assert record.text == TEXT
    assert record.meta == {"path": "a.html", "license": "CC-BY-SA-4.0"}


def test_a_page_says_its_own_encoding() -> None:
    page = '<meta charset="iso-8859-7"><p>Καλημέρα κόσμε</p>'
    assert html_text(decode_html(page.encode("iso-8859-7"))) == "Καλημέρα κόσμε"
    assert html_text(decode_html(page.encode("utf-8"))) == "Καλημέρα κόσμε"
    assert html_text(decode_html(page.encode("utf-16"))) == "Καλημέρα κόσμε"


def test_a_page_nested_without_end_is_refused_at_once() -> None:
    start = time.monotonic()
    with pytest.raises(Unreadable, match="nested more than"):
        html_text("<div>" * 200_000)
    assert time.monotonic() - start < 5
    assert html_text("<p>".join(map(str, range(5_000)))).startswith("0\n\n1\n\n2")


@pytest.mark.parametrize(
    "page", ["", "no tags at all", "<", "<table><td>a<tr><td>b", "<b><p>x</b>y</p>", "&#0;&#xD800;"]
)
def test_broken_pages_read_as_far_as_they_go(page: str) -> None:
    assert isinstance(html_text(page), str)


# -- PDF -------------------------------------------------------------------------------------------------------------


def pdf(*pages: str) -> bytes:
    """A PDF of one line a page, written by hand: objects, their positions, and where to begin."""
    objects = [b"<< /Type /Catalog /Pages 2 0 R >>", b"", b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"]
    kids = []
    for page in pages:
        content = f"BT /F1 12 Tf 72 720 Td ({page}) Tj ET".encode()
        kids.append(f"{len(objects) + 1} 0 R")
        objects += [
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents %d 0 R "
            b"/Resources << /Font << /F1 3 0 R >> >> >>" % (len(objects) + 2),
            b"<< /Length %d >>\nstream\n%s\nendstream" % (len(content), content),
        ]
    objects[1] = f"<< /Type /Pages /Kids [{' '.join(kids)}] /Count {len(kids)} >>".encode()
    out, places = b"%PDF-1.4\n", []
    for number, content in enumerate(objects, start=1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    table = b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    table += b"".join(b"%010d 00000 n \n" % place for place in places)
    return out + table + b"trailer << /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF" % (len(objects) + 1, len(out))


def encrypted(content: bytes, password: str) -> bytes:
    writer = PdfWriter(clone_from=io.BytesIO(content))
    writer.encrypt(password, owner_password="owner", algorithm="RC4-128")
    buffer = io.BytesIO()
    writer.write(buffer)
    return buffer.getvalue()


def test_a_pdf_is_a_record_of_its_pages(tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_bytes(pdf("Figure 1: the first page", "The second page"))
    ((record,), skipped) = read(tmp_path)
    assert record.text == "Figure 1: the first page\n\nThe second page"
    assert record.meta == {"path": "a.pdf"}
    assert not skipped


def test_a_pdf_that_needs_no_password_is_read_though_encrypted() -> None:
    assert pdf_text(io.BytesIO(encrypted(pdf("open"), ""))) == "open"


def test_pdfs_that_cannot_be_read_are_counted(tmp_path: Path) -> None:
    whole = pdf("a page", "another")
    (tmp_path / "shut.pdf").write_bytes(encrypted(whole, "secret"))
    (tmp_path / "cut.pdf").write_bytes(whole[:200])
    (tmp_path / "none.pdf").write_bytes(b"nothing like a PDF")
    (tmp_path / "scan.pdf").write_bytes(pdf(""))
    assert reasons(tmp_path) == [
        ("damaged document", "cut.pdf"),
        ("damaged document", "none.pdf"),
        ("encrypted", "shut.pdf"),
        ("no text", "scan.pdf"),
    ]


@pytest.mark.parametrize("seed", range(12))
def test_no_garbled_pdf_ends_the_reading(tmp_path: Path, seed: int) -> None:
    rng, content = Random(seed), bytearray(pdf("a page", "another page"))
    for _ in range(30):
        content[rng.randrange(len(content))] = rng.randrange(256)
    (tmp_path / "a.pdf").write_bytes(content)
    records, skipped = read(tmp_path)
    assert len(records) + len(skipped) == 1
