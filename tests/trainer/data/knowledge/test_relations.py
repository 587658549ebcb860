"""What the extractors say of small documents, and that broken ones spoil nothing but themselves."""

import pytest

from trainer.data.knowledge.code_relations import GRAMMARS, code_relations
from trainer.data.knowledge.extract import LONGEST_CODE, extract
from trainer.data.knowledge.latex_relations import latex_relations
from trainer.data.knowledge.python_relations import python_relations
from trainer.data.knowledge.text_relations import text_relations
from trainer.data.knowledge.triples import Relation, Unreadable
from trainer.spec import Record

PYTHON = """
import os.path
import numpy as np
from ..core import Base as Root, helper

def load(name):
    return np.asarray(os.path.join(name)).tolist()

class Store(Root):
    def read(self):
        helper(self.key())
        unknown.thing()
        return load("a")

    def key(self):
        def inner():
            return load("b")
        return inner()
"""


def said(relations: list[Relation]) -> set[tuple[str, str, str]]:
    return {relation[:3] for relation in relations}


def test_python_names_are_resolved_as_far_as_the_file_says_them() -> None:
    assert said(python_relations(PYTHON, "shop.data.store")) == {
        ("shop.data.store", "imports", "os.path"),
        ("shop.data.store", "imports", "numpy"),
        ("shop.data.store", "imports", "shop.core"),
        ("shop.data.store", "defines", "shop.data.store.load"),
        ("shop.data.store.load", "calls", "numpy.asarray"),
        ("shop.data.store.load", "calls", "os.path.join"),
        ("shop.data.store", "defines", "shop.data.store.Store"),
        ("shop.data.store.Store", "inherits", "shop.core.Base"),
        ("shop.data.store.Store", "defines", "shop.data.store.Store.read"),
        ("shop.data.store.Store.read", "calls", "shop.core.helper"),
        ("shop.data.store.Store.read", "calls", "shop.data.store.Store.key"),
        ("shop.data.store.Store.read", "calls", "shop.data.store.load"),
        ("shop.data.store.Store", "defines", "shop.data.store.Store.key"),
        ("shop.data.store.Store.key", "defines", "shop.data.store.Store.key.inner"),
        ("shop.data.store.Store.key.inner", "calls", "shop.data.store.load"),
    }


def test_a_relation_names_the_line_that_says_it() -> None:
    lines = PYTHON.split("\n")
    for relation in python_relations(PYTHON, "m"):
        assert relation.evidence == lines[relation.line - 1].strip()
        said_as = {"Base": "Root", "asarray": "np.asarray"}  # by another name in this file
        name = relation.object.rpartition(".")[2]
        assert said_as.get(name, name) in relation.evidence


@pytest.mark.parametrize("text", ["def f(:", "print 'two'", "x = '\0'", "(" * 5_000 + ")" * 5_000])
def test_python_that_does_not_parse_is_unreadable(text: str) -> None:
    with pytest.raises(Unreadable):
        python_relations(text, "m")


SOURCES = {
    "c": (
        '#include <stdio.h>\nstruct point { int x; };\nint *grow(int n) { return n; }\n'
        'int main() { grow(1); puts("a"); }',
        {("m", "imports", "stdio.h"), ("m", "defines", "m.point"), ("m", "defines", "m.grow"),
         ("m", "defines", "m.main"), ("m.main", "calls", "m.grow")},
    ),
    "go": (
        'package a\nimport "net/http"\ntype S struct { Base }\nfunc run() { http.Get("x"); run2() }\nfunc run2() {}',
        {("m", "imports", "net/http"), ("m", "defines", "m.S"), ("m.S", "inherits", "Base"), ("m", "defines", "m.run"),
         ("m.run", "calls", "net/http.Get"), ("m.run", "calls", "m.run2"), ("m", "defines", "m.run2")},
    ),
    "java": (
        "import java.util.List;\nclass A extends B implements C { void f() { g(); new List(); } void g() {} }",
        {("m", "imports", "java.util.List"), ("m", "defines", "m.A"), ("m.A", "inherits", "B"),
         ("m.A", "inherits", "C"), ("m.A", "defines", "m.A.f"), ("m.A", "defines", "m.A.g"),
         ("m.A.f", "calls", "m.A.g"), ("m.A.f", "calls", "java.util.List")},
    ),
    "javascript": (
        "import x from './lib/x';\nconst y = require('y');\nclass A extends B { f() { g(); } }\n"
        "const g = () => new A();",
        {("m", "imports", "./lib/x"), ("m", "imports", "y"), ("m", "defines", "m.A"), ("m.A", "inherits", "B"),
         ("m.A", "defines", "m.A.f"), ("m.A.f", "calls", "m.g"), ("m", "defines", "m.g"), ("m.g", "calls", "m.A")},
    ),
}  # fmt: skip


@pytest.mark.parametrize("language", GRAMMARS)
def test_other_languages_say_the_same(language: str) -> None:
    text, expected = SOURCES[language]
    assert said(code_relations(text, language, "m")) == expected


def test_broken_code_of_other_languages_keeps_what_parses() -> None:
    assert ("m", "defines", "m.f") in said(code_relations("function f() {}\nfunction g( {", "javascript", "m"))


PROSE = """
A quark is a type of elementary particle in the standard model. It is a mystery. The man was a good friend.
Niels Bohr, a Danish physicist, received the prize. However, a storm, which came late, was a surprise.
There is a house in New Orleans. Copenhagen is the capital. Gold is a chemical element with the symbol Au.
The dogs, a cat, and the bird were there. This is a test.
"""


def test_definitions_are_read_narrowly() -> None:
    assert said(text_relations(PROSE, "d", "en")) == {
        ("quark", "is a", "elementary particle"),
        ("Niels Bohr", "is a", "Danish physicist"),
        ("Gold", "is a", "chemical element"),
    }
    assert said(text_relations("暗能量是一种看不见的能量，不断驱动宇宙。这是一个测试。", "d", "zh")) == {
        ("暗能量", "is a", "看不见的能量")
    }
    assert text_relations(PROSE, "d", "pl") == []


def test_headings_and_links_of_three_marks() -> None:
    markdown = "# Top\n\n## Sub\nSee [the docs](https://a.b/c) and [more][ref] and [none][x].\n\n[ref]: https://d.e\n"
    relations = text_relations(markdown, "file.md", "en")
    assert said(relations) == {
        ("file.md", "has section", "Top"),
        ("Top", "has section", "Sub"),
        ("the docs", "links to", "https://a.b/c"),
        ("more", "links to", "https://d.e"),
        ("none", "links to", "x"),
    }
    assert [relation.object for relation in relations if not relation.resolved] == ["x"]
    assert said(text_relations("Guide\n=====\n\nPart\n----\nSee `here <https://a.b>`_.\n", "d", "en")) == {
        ("d", "has section", "Guide"),
        ("Guide", "has section", "Part"),
        ("here", "links to", "https://a.b"),
    }
    assert said(text_relations('<h1>One</h1><h2>Two</h2> <a class="x" href="u">name</a>', "d", "en")) == {
        ("d", "has section", "One"),
        ("One", "has section", "Two"),
        ("name", "links to", "u"),
    }


LATEX = r"""\section{Rings}\label{section-rings}
\begin{lemma}[Zorn] % \label{not-this}
\label{lemma-a} By Definition \ref{definition-b, lemma-elsewhere}.
\end{lemma}
\begin{proof} See \cite[p. 3]{Book} and \eqref{eq}. \begin{itemize} \item \end{proof}
\begin{definition}\label{definition-b} A ring. \end{enumerate}
See \ref{lemma-a}.
"""


def test_latex_statements_proofs_and_references_also_in_broken_environments() -> None:
    relations = latex_relations(LATEX, "doc")
    assert said(relations) == {
        ("doc", "has section", "Rings"),
        ("Rings", "contains", "section-rings"),
        ("Zorn", "is a", "lemma"),
        ("lemma-a", "is a", "lemma"),
        ("lemma-a", "is called", "Zorn"),
        ("Rings", "contains", "lemma-a"),
        ("lemma-a", "refers to", "definition-b"),
        ("lemma-a", "refers to", "lemma-elsewhere"),
        ("lemma-a", "cites", "Book"),
        ("lemma-a", "refers to", "eq"),
        ("definition-b", "is a", "definition"),
        ("Rings", "contains", "definition-b"),
        ("definition-b", "refers to", "lemma-a"),
    }
    assert {relation.object for relation in relations if not relation.resolved} == {"lemma-elsewhere", "eq"}
    assert [relation.line for relation in relations if relation.relation == "cites"] == [5]


def test_code_that_is_too_long_or_of_no_grammar_says_so() -> None:
    def code(text: str, language: str) -> Record:
        return Record(id="d", text=text, source="s", domain="code", language=language)

    with pytest.raises(Unreadable, match="too long"):
        extract(code("x = 1\n" * (LONGEST_CODE // 6 + 1), "python"))
    with pytest.raises(Unreadable, match="no grammar of cobol"):
        extract(code("MOVE A TO B.", "cobol"))
