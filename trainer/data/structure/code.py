"""Labels of source code, from its tree-sitter parse. Broken places are skipped, the rest of the file keeps its labels.

A further language is a row of `LANGUAGES` and what its grammar calls things, in the sets below.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import cache

import numpy as np
import tree_sitter_python
from numpy.typing import NDArray
from tree_sitter import Language, Node, Parser

from trainer.data.structure.kinds import NONE, CodeKind

LANGUAGES: Mapping[str, Callable[[], object]] = {"python": tree_sitter_python.language}

# Nodes that are labelled as a whole, or not at all (ERROR), without a look at what is inside.
_WHOLE = {"string_content", "comment", "ERROR"}
_BY_TYPE = {
    "comment": CodeKind.COMMENT,
    "integer": CodeKind.NUMBER,
    "float": CodeKind.NUMBER,
    **dict.fromkeys(("string_start", "string_content", "string_end"), CodeKind.STRING),
    **dict.fromkeys(("true", "false", "none", "ellipsis"), CodeKind.CONSTANT),
    **dict.fromkeys(("and", "or", "not", "in", "is"), CodeKind.OPERATOR),
    "__future__": CodeKind.MODULE,
}
_DELIMITERS = frozenset("()[]{},:;.")
_DEFINED = {"function_definition": CodeKind.FUNCTION, "class_definition": CodeKind.CLASS}
_PARAMETERS = {"parameters", "lambda_parameters", "typed_parameter"}
_DEFAULTED = {"default_parameter", "typed_default_parameter"}
_STARRED = {"list_splat_pattern", "dictionary_splat_pattern"}
_IMPORTS = {"import_statement", "import_from_statement", "future_import_statement", "relative_import", "aliased_import"}


@cache
def parser(language: str) -> Parser:
    return Parser(Language(LANGUAGES[language]()))


def label_code(text: str, language: str) -> NDArray[np.int8]:
    """A `CodeKind` for each byte of the text, `NONE` for blank space and where it does not parse."""
    source = text.encode()
    labels = np.full(len(source), NONE, dtype=np.int8)
    for leaf in _leaves(parser(language).parse(source).root_node):
        labels[leaf.start_byte : leaf.end_byte] = _kind(leaf)
    return labels


def _leaves(root: Node) -> Iterator[Node]:
    """The leaves in order, and the nodes of `_WHOLE`."""
    cursor = root.walk()
    while True:
        node = cursor.node
        assert node is not None
        if node.type in _WHOLE or not cursor.goto_first_child():
            yield node
            while not cursor.goto_next_sibling():
                if not cursor.goto_parent():
                    return


def _kind(leaf: Node) -> int:
    kind = leaf.type
    if kind == "identifier":
        return _kind_of_name(leaf)
    if kind in _BY_TYPE:
        return _BY_TYPE[kind]
    if kind in _DELIMITERS:
        return CodeKind.DELIMITER
    if leaf.is_named:
        return NONE  # ERROR, or something that only a newer grammar knows
    return CodeKind.KEYWORD if kind.isalpha() else CodeKind.OPERATOR


def _kind_of_name(leaf: Node) -> int:
    parent = leaf.parent
    assert parent is not None
    outer, place = "" if parent.parent is None else parent.parent.type, parent.type
    if place == "attribute" and leaf.start_byte > parent.start_byte:
        return CodeKind.CALL if _is_called(parent) else CodeKind.ATTRIBUTE
    if _is_called(leaf):
        return CodeKind.CALL
    if place in _DEFINED and parent.child_by_field_name("name") == leaf:
        return _DEFINED[place]
    if place == "keyword_argument" and parent.start_byte == leaf.start_byte:
        return CodeKind.ARGUMENT
    if (outer if place in _STARRED else place) in _PARAMETERS:
        return CodeKind.PARAMETER
    if place in _DEFAULTED and parent.start_byte == leaf.start_byte:
        return CodeKind.PARAMETER
    if (outer if place == "dotted_name" else place) in _IMPORTS:
        return CodeKind.MODULE
    return CodeKind.TYPE if place in ("type", "generic_type") else CodeKind.VARIABLE


def _is_called(node: Node) -> bool:
    """What a call or a decorator begins with."""
    parent = node.parent
    if parent is None:
        return False
    return parent.type == "decorator" or (parent.type == "call" and parent.start_byte == node.start_byte)
