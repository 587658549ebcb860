"""The same relations of code in other languages, from a tree-sitter parse. A further language is a row of `GRAMMARS`.

Queries name what they find: `@import` what is imported, `@name` what `@scope` defines, `@base` what the scope around
it inherits from, `@call` what is called. Broken places are skipped, the rest of the file keeps its relations.
"""

from collections.abc import Callable, Mapping
from functools import cache
from typing import NamedTuple

import tree_sitter_c
import tree_sitter_go
import tree_sitter_java
import tree_sitter_javascript
from tree_sitter import Language, Node, Parser, Query, QueryCursor

from trainer.data.knowledge.triples import Found, Relation, Unreadable


class Grammar(NamedTuple):
    language: Callable[[], object]
    query: str


GRAMMARS: Mapping[str, Grammar] = {
    "c": Grammar(tree_sitter_c.language, """
        (preproc_include path: (_) @import)
        (function_definition declarator: (function_declarator declarator: (identifier) @name)) @scope
        (function_definition
            declarator: (pointer_declarator declarator: (function_declarator declarator: (identifier) @name))) @scope
        (struct_specifier name: (type_identifier) @name body: (_)) @scope
        (call_expression function: (identifier) @call)
    """),
    "go": Grammar(tree_sitter_go.language, """
        (import_spec path: (_) @import)
        (function_declaration name: (identifier) @name) @scope
        (method_declaration name: (field_identifier) @name) @scope
        (type_spec name: (type_identifier) @name) @scope
        (field_declaration !name type: (type_identifier) @base)
        (call_expression function: [(identifier) (selector_expression)] @call)
    """),
    "java": Grammar(tree_sitter_java.language, """
        (import_declaration (scoped_identifier) @import)
        (class_declaration name: (identifier) @name) @scope
        (interface_declaration name: (identifier) @name) @scope
        (enum_declaration name: (identifier) @name) @scope
        (method_declaration name: (identifier) @name) @scope
        (superclass (type_identifier) @base)
        (super_interfaces (type_list (type_identifier) @base))
        (method_invocation !object name: (identifier) @call)
        (object_creation_expression type: (type_identifier) @call)
    """),
    "javascript": Grammar(tree_sitter_javascript.language, """
        (import_statement source: (string) @import)
        (call_expression function: (identifier) @_require arguments: (arguments (string) @import)
            (#eq? @_require "require"))
        (function_declaration name: (identifier) @name) @scope
        (class_declaration name: (identifier) @name) @scope
        (method_definition name: (property_identifier) @name) @scope
        (variable_declarator name: (identifier) @name value: [(arrow_function) (function_expression)]) @scope
        (class_heritage (identifier) @base)
        (call_expression function: (identifier) @call)
        (new_expression constructor: (identifier) @call)
    """),
}  # fmt: skip


@cache
def _tools(language: str) -> tuple[Parser, Query]:
    grammar = GRAMMARS[language]
    compiled = Language(grammar.language())
    return Parser(compiled), Query(compiled, grammar.query)


def code_relations(text: str, language: str, module: str) -> list[Relation]:
    """Relations of one file; a call is kept when the file defines what it calls, or it is of an imported package.

    Raises:
        Unreadable: nothing of the text parses.
    """
    parser, query = _tools(language)
    root = parser.parse(text.encode()).root_node
    if root.type == "ERROR":
        raise Unreadable("code does not parse")
    matches = [captures for _, captures in QueryCursor(query).matches(root)]
    return _File(text, module, matches).relations()


class _File:
    def __init__(self, text: str, module: str, matches: list[dict[str, list[Node]]]) -> None:
        self._found, self._module = Found(text), module
        self._matches = matches
        self._names = {found["scope"][0].id: _text(found["name"][0]) for found in matches if "scope" in found}
        self._paths: dict[int, str] = {}  # of a scope: its full name
        self._known: dict[str, str] = {}  # a name of the file -> what it stands for

    def relations(self) -> list[Relation]:
        for found in self._matches:
            if "import" in found:
                self._import(found["import"][0])
            elif "scope" in found:
                self._define(found["scope"][0])
        for found in self._matches:
            if "base" in found:
                base = _text(found["base"][0])
                self._add(found["base"][0], "inherits", self._known.get(base, base))
            elif "call" in found and (target := self._resolve(_text(found["call"][0]))):
                self._add(found["call"][0], "calls", target)
        return self._found.relations()

    def _import(self, node: Node) -> None:
        target = _text(node).strip("\"'`<>")
        self._found.add(self._module, "imports", target, _line(node))
        self._known[target.replace("/", ".").rpartition(".")[2]] = target

    def _define(self, scope: Node) -> None:
        name = self._path(scope)
        self._found.add(self._around(scope), "defines", name, _line(scope))
        self._known.setdefault(self._names[scope.id], name)

    def _add(self, node: Node, relation: str, target: str) -> None:
        self._found.add(self._around(node), relation, target, _line(node))

    def _resolve(self, name: str) -> str:
        head, dot, rest = name.partition(".")
        known = self._known.get(head, "")
        return f"{known}{dot}{rest}" if known else ""

    def _around(self, node: Node) -> str:
        """The full name of the innermost definition around a node, the file's where there is none."""
        parent = node.parent
        while parent is not None and parent.id not in self._names:
            parent = parent.parent
        return self._module if parent is None else self._path(parent)

    def _path(self, scope: Node) -> str:
        if scope.id not in self._paths:
            self._paths[scope.id] = f"{self._around(scope)}.{self._names[scope.id]}"
        return self._paths[scope.id]


def _text(node: Node) -> str:
    return (node.text or b"").decode(errors="replace")


def _line(node: Node) -> int:
    return node.start_point[0] + 1
