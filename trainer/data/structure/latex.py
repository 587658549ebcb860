"""Labels of LaTeX, from pylatexenc's parse of every formula and command that a text holds.

A text may be a LaTeX document, or prose with formulas in the marks of LaTeX or of reStructuredText, as docstrings have
them. So formulas and commands are found first, and each is parsed by itself, strictly: one that does not parse has no
label and spoils no other. Everything outside of them is prose.
"""

import re
from collections.abc import Sequence
from functools import cache
from itertools import zip_longest
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pylatexenc.latexwalker import (
    LatexCharsNode,
    LatexCommentNode,
    LatexEnvironmentNode,
    LatexGroupNode,
    LatexMacroNode,
    LatexMathNode,
    LatexWalker,
    LatexWalkerError,
    get_default_latex_context_db,
)

from trainer.data.structure.kinds import NONE, LatexKind

# Lengths are bounded, so that a mark without its partner costs no search through the whole text.
_INSIDE = r"(?: (?!\n[ \t]*\n) . ){1,2000}?"
_FOUND = re.compile(
    rf"""
      \$\$ {_INSIDE} \$\$
    | (?<![\\$]) \$ (?![\s$]) {_INSIDE} (?<![\s\\]) \$ (?!\$)
    | \\\[ {_INSIDE} \\\]
    | \\\( {_INSIDE} \\\)
    | \\begin\{{ (?P<name>[a-zA-Z]+\*?) \}} .{{1,4000}}? \\end\{{ (?P=name) \}}
    | :math:`(?P<role> [^`]{{1,2000}} )`
    | (?<![`\w:])`(?P<ticks> [^`\n]* \\ [^`\n]* )`(?!`)      # `\alpha`, where math is the default role
    | ^(?P<indent>[ \t]*)\.\.[ ]math::(?P<block> [^\n]* (?: \n (?: [ \t]*$ | (?P=indent)[ \t]+[^\n]+ ) )* )
    | \\[a-zA-Z]+\*? (?: \[[^\]\n]*\] | \{{[^{{}}]{{0,400}}\}} )*
    """,
    re.VERBOSE | re.DOTALL | re.MULTILINE,
)
_MATH_GROUPS = ("role", "ticks", "block")  # what stands between reStructuredText's marks

_WORDS = {
    LatexKind.OPERATOR: r"""cdot times div pm mp circ bullet ast star oplus otimes odot cup cap wedge vee setminus land
        lor""",
    LatexKind.RELATION: r"""le leq ge geq ne neq ll gg lt gt approx equiv sim simeq cong propto in notin ni subset
        subseteq supset supseteq mid nmid parallel perp to gets mapsto rightarrow leftarrow Rightarrow Leftarrow
        leftrightarrow Leftrightarrow longrightarrow implies iff models vdash""",
    LatexKind.BIG_OPERATOR: r"""sum prod coprod int iint iiint oint lim limsup liminf sup inf max min bigcup bigcap
        bigoplus bigotimes bigwedge bigvee""",
    LatexKind.FUNCTION: r"""sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh coth log ln lg exp det dim ker
        arg deg gcd hom Pr Re Im bmod mod pmod operatorname""",
    LatexKind.DELIMITER: r"""left right middle big Big bigg Bigg bigl bigr Bigl Bigr biggl biggr Biggl Biggr langle
        rangle lvert rvert lVert rVert vert Vert lfloor rfloor lceil rceil lbrace rbrace lbrack rbrack { } |""",
    LatexKind.SEPARATOR: r"quad qquad , ; : ! \ newline hspace limits nolimits",
}
_COMMANDS = {word: kind for kind, words in _WORDS.items() for word in words.split()}
_TEXT_COMMANDS = frozenset(
    ("text", "textrm", "textit", "textbf", "texttt", "textsf", "emph", "mbox", "hbox", "mathrm", "label", "tag")
)
_SIGNS = {
    sign: kind
    for kind, signs in (
        (LatexKind.OPERATOR, "+-*/"),
        (LatexKind.RELATION, "=<>"),
        (LatexKind.DELIMITER, "()[]|{}"),
        (LatexKind.SEPARATOR, ",;.:&~"),
        (LatexKind.SUBSCRIPT, "_"),
        (LatexKind.SUPERSCRIPT, "^'"),
    )
    for sign in signs
}
_SCRIPTS = {"_": LatexKind.SUBSCRIPT, "^": LatexKind.SUPERSCRIPT}


def label_latex(text: str) -> NDArray[np.int8]:
    """A `LatexKind` for each byte of the text's UTF-8, `NONE` for blank space and for formulas that do not parse."""
    labels = np.full(len(text), LatexKind.TEXT, dtype=np.int8)
    for found in _FOUND.finditer(text):
        inside = next((name for name in _MATH_GROUPS if found[name] is not None), None)
        if inside is None:
            labels[found.start() : found.end()] = _label_part(found[0], in_math_mode=False)
        else:
            labels[found.start() : found.end()] = LatexKind.DELIMITER
            labels[found.start(inside) : found.end(inside)] = _label_part(found[inside], in_math_mode=True)
    labels[[place for place, character in enumerate(text) if character.isspace()]] = NONE
    return labels if text.isascii() else np.repeat(labels, [len(character.encode()) for character in text])


def _label_part(part: str, in_math_mode: bool) -> NDArray[np.int8]:
    walker = LatexWalker(part, latex_context=_context(), tolerant_parsing=False)
    try:
        nodes, _, length = walker.get_latex_nodes(parsing_state=walker.make_parsing_state(in_math_mode=in_math_mode))
    except LatexWalkerError:
        nodes, length = [], 0
    marker = _Marker(part)
    if length == len(part):
        marker.mark(nodes, None)
    return marker.labels


@cache
def _context() -> Any:
    """What the parser knows of commands; it would make it anew for every part."""
    return get_default_latex_context_db()


class _Marker:
    """Labels of one parsed part, a character each."""

    def __init__(self, part: str) -> None:
        self.labels = np.full(len(part), NONE, dtype=np.int8)

    def mark(self, nodes: Sequence[Any], place: LatexKind | None) -> None:
        """Label nodes that follow each other; `place` is what letters, digits and symbols are there, if anything."""
        script: LatexKind | None = None
        command = False  # what stands before is a command that groups may follow as arguments
        for node, following in zip_longest(nodes, nodes[1:]):
            argument = command and isinstance(node, LatexGroupNode)
            here = script or (LatexKind.ARGUMENT if argument else place)
            command, script = argument, None
            if isinstance(node, LatexCharsNode):
                script = self._mark_characters(node, here)
            elif isinstance(node, LatexMacroNode):
                command = self._mark_command(node, here, isinstance(following, LatexGroupNode))
            elif isinstance(node, LatexEnvironmentNode):
                self._mark_environment(node, here)
            elif isinstance(node, LatexGroupNode | LatexMathNode):
                self._mark_bracketed(node, here)
            else:
                comment = isinstance(node, LatexCommentNode)
                self.labels[node.pos : node.pos + node.len] = LatexKind.COMMENT if comment else LatexKind.SEPARATOR

    def _mark_bracketed(self, node: Any, place: LatexKind | None) -> None:
        start, end = node.pos, node.pos + node.len
        left, right = node.delimiters
        self.labels[start : start + len(left)] = LatexKind.DELIMITER
        self.labels[end - len(right) : end] = LatexKind.DELIMITER
        self.mark(node.nodelist, place)

    def _mark_environment(self, node: Any, place: LatexKind | None) -> None:
        start, end = node.pos, node.pos + node.len
        first = node.nodelist[0].pos if node.nodelist else end
        self.labels[start:first] = LatexKind.ENVIRONMENT
        self._mark_arguments(node, LatexKind.ARGUMENT)
        self.mark(node.nodelist, place)
        self.labels[end - len(f"\\end{{{node.environmentname}}}") : end] = LatexKind.ENVIRONMENT

    def _mark_command(self, node: Any, place: LatexKind | None, before_group: bool) -> bool:
        """Label a command and its arguments; returns whether more of these may follow."""
        arguments = node.nodeargd is not None and any(argument is not None for argument in node.nodeargd.argnlist or ())
        unknown = LatexKind.COMMAND if arguments or before_group else place or LatexKind.SYMBOL
        kind = _COMMANDS.get(node.macroname, unknown)
        self.labels[node.pos : node.pos + 1 + len(node.macroname)] = kind
        self._mark_arguments(node, LatexKind.TEXT if node.macroname in _TEXT_COMMANDS else LatexKind.ARGUMENT)
        return kind is LatexKind.COMMAND

    def _mark_arguments(self, node: Any, place: LatexKind) -> None:
        if node.nodeargd is not None:
            for argument in node.nodeargd.argnlist or ():
                self.mark([argument] if argument is not None else [], place)

    def _mark_characters(self, node: Any, place: LatexKind | None) -> LatexKind | None:
        """Label characters; returns what the next node is when they end in a script's sign."""
        script: LatexKind | None = None
        for index, character in enumerate(node.chars, start=node.pos):
            if not node.parsing_state.in_math_mode:
                self.labels[index] = place or LatexKind.TEXT
            elif character.isalnum():
                plain = LatexKind.NUMBER if character.isdigit() else LatexKind.VARIABLE
                self.labels[index] = script or place or plain
            else:
                self.labels[index] = _SIGNS.get(character, NONE)
            script = _SCRIPTS.get(character, script if character.isspace() else None)
        return script
