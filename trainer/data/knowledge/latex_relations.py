"""What a LaTeX text labels and what refers to it: theorems, definitions, their proofs, sections, citations.

The text is read once, from left to right, keeping the environments that are open. One that is never closed ends with
the text and an end without its beginning is passed over, so broken environments spoil nothing but themselves.
"""

import re

from trainer.data.knowledge.triples import Found, Relation

_COMMENT = re.compile(r"(?<!\\)%[^\n]*")
_MARK = re.compile(
    r"\\begin\{(?P<begin>[a-zA-Z]{1,40}\*?)\}(?:\[(?P<title>[^\[\]\n]{1,200})\])?"
    r"|\\end\{(?P<end>[a-zA-Z]{1,40}\*?)\}"
    r"|\\label\{(?P<label>[^{}\n]{1,200})\}"
    r"|\\(?:eq|page|auto|name|c|C|v)?ref\*?\{(?P<ref>[^{}\n]{1,300})\}"
    r"|\\[a-zA-Z]{0,10}cite[a-zA-Z]{0,10}\*?(?:\[[^\[\]\n]{0,200}\]){0,2}\{(?P<cite>[^{}\n]{1,300})\}"
    r"|\\(?P<level>chapter|section|subsection|subsubsection)\*?\{(?P<section>[^{}\n]{1,200})\}"
    r"|\n"
)
STATEMENTS = frozenset(
    ("theorem", "lemma", "proposition", "corollary", "definition", "remark", "remarks", "example", "examples",
     "exercise", "conjecture", "claim", "fact", "axiom", "assumption", "problem", "situation", "notation", "question",
     "algorithm", "observation")
)  # fmt: skip
_LEVELS = ("chapter", "section", "subsection", "subsubsection")


def is_latex(text: str) -> bool:
    return "\\begin{" in text or "\\label{" in text or "\\section{" in text


def latex_relations(text: str, title: str) -> list[Relation]:
    """Relations of one text. References are unresolved unless the label is in it; others may have it.

    Args:
        title: what the text's first sections hang on.
    """
    reader = _Reader(Found(text), title)
    for mark in _MARK.finditer(_COMMENT.sub("", text)):
        reader.read(mark)
    return reader.relations()


class _Reader:
    def __init__(self, found: Found, title: str) -> None:
        self._found = found
        self._line = 1
        self._sections: list[tuple[int, str]] = [(-1, title)]
        self._open: list[tuple[str, str]] = []  # environment, and the label or title it goes by
        self._stated = ""  # the last labelled statement, which a proof is of
        self._references: list[tuple[str, str, str, int]] = []
        self._labels: set[str] = set()

    def read(self, mark: re.Match[str]) -> None:
        kind = mark.lastgroup
        if kind is None:
            self._line += 1
        elif mark["begin"]:
            self._begin(mark["begin"], mark["title"] or "")
        elif kind == "end":
            self._end(mark["end"])
        elif kind == "label":
            self._label(mark["label"].strip())
        elif kind == "section":
            self._section(_LEVELS.index(mark["level"]), " ".join(mark["section"].split()))
        else:
            relation = "cites" if kind == "cite" else "refers to"
            self._refer(relation, (mark["cite"] or mark["ref"]).split(","))

    def relations(self) -> list[Relation]:
        for subject, relation, target, line in self._references:
            self._found.add(subject, relation, target, line, resolved=relation == "cites" or target in self._labels)
        return self._found.relations()

    def _begin(self, environment: str, title: str) -> None:
        name = environment.rstrip("*").casefold()
        if name == "proof":
            self._open.append((environment, self._stated))
            return
        if name in STATEMENTS and title:
            self._found.add(title, "is a", name, self._line)
        self._open.append((environment, title if name in STATEMENTS else ""))

    def _end(self, environment: str) -> None:
        places = [place for place, (name, _) in enumerate(self._open) if name == environment]
        if places:
            del self._open[places[-1] :]

    def _label(self, label: str) -> None:
        self._labels.add(label)
        environment = self._open[-1][0] if self._open else ""
        kind = environment.rstrip("*").casefold()
        section = self._sections[-1][1]
        if kind in STATEMENTS:
            title = self._open[-1][1]
            self._found.add(label, "is a", kind, self._line)
            if title:
                self._found.add(label, "is called", title, self._line)
            self._open[-1] = (environment, label)
            self._stated = label
        if section != label:
            self._found.add(section, "contains", label, self._line)

    def _section(self, level: int, name: str) -> None:
        while self._sections[-1][0] >= level:
            self._sections.pop()
        self._found.add(self._sections[-1][1], "has section", name, self._line)
        self._sections.append((level, name))

    def _refer(self, relation: str, targets: list[str]) -> None:
        """From the innermost statement, or from the one whose proof this is, or from the section."""
        around = next((name for _, name in reversed(self._open) if name), self._sections[-1][1])
        self._references += [(around, relation, target.strip(), self._line) for target in targets if target.strip()]
