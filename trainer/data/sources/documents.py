"""Text out of documents: HTML and PDF. Captions, tables and formulas are kept, what surrounds a page is not."""

import re
import struct
import zlib
from collections.abc import Iterator
from typing import IO

from pypdf import PdfReader
from pypdf.errors import DependencyError, FileNotDecryptedError, PyPdfError, WrongPasswordError
from selectolax.lexbor import LexborHTMLParser, LexborNode

from trainer.data.sources.base import Unreadable
from trainer.data.sources.text import decode, encoding_of

_LEFT_OUT = frozenset(
    {"script", "style", "template", "noscript", "nav", "footer", "aside", "form", "button", "select", "svg", "iframe",
     "head", "-comment"}
)  # fmt: skip
_BLOCKS = frozenset(
    {"address", "article", "blockquote", "caption", "dd", "div", "dl", "dt", "figcaption", "figure", "h1", "h2", "h3",
     "h4", "h5", "h6", "header", "hr", "li", "main", "ol", "p", "pre", "section", "summary", "table", "title", "ul"}
)  # fmt: skip
_HOLD_NO_TEXT = frozenset({"table", "thead", "tbody", "tfoot", "tr", "ul", "ol", "dl"})  # between them is layout
_CHARSET = re.compile(rb"charset\s*=\s*[\"']?\s*([\w-]+)", re.IGNORECASE)
_UNCLOSED = "p|li|t[rdh]|d[td]|br|wbr|hr|img|input|meta|link|option|source|col|area"
_TAGS = re.compile(rf"<(/?)(?!(?:{_UNCLOSED})\b)[a-z][\w-]*[^>]*?(/?)>", re.IGNORECASE)
_DEEPEST = 2_000  # elements in one another; the parser takes time that grows with its square
_BLANK_ENDS = re.compile(r"[ \t]+(?=\n)")
_BLANK_LINES = re.compile(r"\n{3,}")
# pypdf meets a broken file with whatever its parts raise, so this names what they do.
_BROKEN_PDF = (
    PyPdfError, ArithmeticError, AttributeError, AssertionError, EOFError, LookupError, NotImplementedError,
    RecursionError, TypeError, ValueError, struct.error, zlib.error,
)  # fmt: skip


def decode_html(data: bytes) -> str:
    """Decoded as text is, but what the page says of itself goes before a guess.

    Raises:
        Unreadable: as `decode`.
    """
    declared = _CHARSET.search(data[:2_048])
    try:
        data.decode()
    except UnicodeDecodeError:
        if declared and encoding_of(data[:4]) == "utf-8":
            try:
                return data.decode(declared[1].decode())
            except (LookupError, UnicodeDecodeError):
                pass  # it says something wrong of itself
    return decode(data)


def html_text(html: str) -> str:
    """The text of a page: a block a paragraph, a row of a table a line, formulas as the TeX they carry.

    Raises:
        Unreadable: its elements lie too deep in one another.
    """
    if _depth(html) > _DEEPEST:
        raise Unreadable("damaged document", f"elements nested more than {_DEEPEST} deep")
    parser = LexborHTMLParser(html)
    title = parser.css_first("title")
    parts = [title.text(deep=True), "\n\n"] if title is not None else []
    if parser.body is not None:
        parts += _parts(parser.body)
    return _BLANK_LINES.sub("\n\n", _BLANK_ENDS.sub("", "".join(parts))).strip()


def html_licence(html: str) -> str:
    """Where a page's link to its licence leads, or nothing."""
    link = LexborHTMLParser(html).css_first('[rel~="license"]')
    return (link.attributes.get("href") or "") if link is not None else ""


def _depth(html: str) -> int:
    """How deep elements lie in one another at most, those left out that close by themselves."""
    depth = deepest = 0
    for closes, itself in _TAGS.findall(html):
        depth += 0 if itself else -1 if closes else 1
        deepest = max(deepest, depth)
    return deepest


def _parts(root: LexborNode) -> Iterator[str]:
    """Walks the tree with a stack of its own: a page may be deeper than Python's."""
    stack: list[tuple[LexborNode | str, bool]] = [(root, False)]
    last = "\n"
    while stack:
        item, preformatted = stack.pop()
        text = item if isinstance(item, str) else _replaced(item, preformatted)
        if text is None:
            assert not isinstance(item, str)
            text, within = _before(item), preformatted or item.tag == "pre"
            stack.append((_after(item), within))
            stack.extend((child, within) for child in reversed(list(_children(item))))
        # White space at the beginning of a line is the page's own, but for what is preformatted.
        text = text if preformatted or not last.endswith("\n") else text.lstrip(" ")
        last = text or last
        yield text


def _children(node: LexborNode) -> Iterator[LexborNode]:
    child = node.child
    while child is not None:
        yield child
        child = child.next


def _replaced(node: LexborNode, preformatted: bool) -> str | None:
    """What stands for a node as a whole; None where its children do."""
    tag = node.tag
    if tag == "-text":
        text = node.text(deep=False)
        if node.parent is not None and node.parent.tag in _HOLD_NO_TEXT:
            return text.strip()
        return text if preformatted else re.sub(r"\s+", " ", text)
    if tag == "math" or (tag == "script" and str(node.attributes.get("type")).startswith("math/tex")):
        return _formula(node)
    if tag == "img":
        alt = (node.attributes.get("alt") or "").strip()
        # Pictures of formulas carry their TeX.
        return f"${alt}$" if "math" in str(node.attributes.get("class")) or "\\" in alt else alt
    return "" if tag in _LEFT_OUT else None


def _formula(node: LexborNode) -> str:
    """TeX where the formula carries it, as an annotation or an attribute; else its own signs."""
    if node.tag == "script":
        tex, display = node.text(deep=True), "display" in str(node.attributes.get("type"))
    else:
        annotation = node.css_first('annotation[encoding="application/x-tex"]')
        tex = annotation.text(deep=True) if annotation is not None else node.attributes.get("alttext") or ""
        tex = tex or " ".join(node.text(deep=True).split())
        display = node.attributes.get("display") == "block"
    tex = re.sub(r"^\{\\displaystyle (.*)\}$", r"\1", tex.strip(), flags=re.DOTALL).strip()
    return f"\n\n$${tex}$$\n\n" if display else f"${tex}$"


def _before(node: LexborNode) -> str:
    if node.tag in ("td", "th"):
        return "" if _is_first_cell(node) else " | "
    if node.tag == "li":
        return "\n- "
    return "\n" if node.tag in ("br", "tr") else "\n\n" if node.tag in _BLOCKS else ""


def _is_first_cell(node: LexborNode) -> bool:
    earlier = node.prev
    while earlier is not None and earlier.tag not in ("td", "th"):
        earlier = earlier.prev
    return earlier is None


def _after(node: LexborNode) -> str:
    return "\n\n" if node.tag in _BLOCKS - {"li"} else ""


def pdf_text(file: IO[bytes]) -> str:
    """The text of a PDF's pages, in the order they write it.

    Raises:
        Unreadable: it is encrypted, damaged or holds no text, such as a scan.
    """
    try:
        reader = PdfReader(file)
        if reader.is_encrypted and not reader.decrypt(""):
            raise Unreadable("encrypted", "the PDF needs a password")
        text = "\n\n".join(page.extract_text() for page in reader.pages).strip()
    except (FileNotDecryptedError, WrongPasswordError, DependencyError) as error:
        raise Unreadable("encrypted", str(error)) from error
    except _BROKEN_PDF as error:
        raise Unreadable("damaged document", f"{type(error).__name__}: {error}") from error
    if not text:
        raise Unreadable("no text", "its pages are pictures")
    return text
