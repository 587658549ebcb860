"""What a knowledge store answers, its passages as HTML and its triples as a chart. Imports no Streamlit."""

import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from dashboard.schemas import Schema

# Over both themes' grounds; text keeps the theme's colour.
MARK = "rgba(224, 168, 0, .38)"
# One colour a relation, readable on light and dark grounds; the entity in the middle has the accent.
CENTRE = "#d0642f"
COLORS = ("#3a8a85", "#6a5fa8", "#4b83b5", "#b8963e", "#a34f6c", "#6d8f4e", "#8a7f78", "#5f9ea0", "#9a6f4a")
PLAIN = "#8b9296"  # legible on both grounds
LONGEST_LABEL = 26  # characters
LABELLED_EDGES = 24  # beyond, their names would lie over each other


class Passage(Schema):
    score: float
    document: str
    source: str
    title: str
    start: int
    text: str


class Found(Schema):
    """`terms`: what was searched for; `entities`: names to walk on from."""

    terms: tuple[str, ...]
    passages: tuple[Passage, ...]
    entities: tuple[str, ...] = ()


class Triple(Schema):
    subject: str
    relation: str
    object: str
    document: str
    source: str
    line: int
    evidence: str
    resolved: bool = True


class Graph(Schema):
    """`like`: names that might have been meant where nobody knows the entity."""

    entity: str
    triples: tuple[Triple, ...]
    like: tuple[str, ...] = ()


def passage_html(text: str, terms: Sequence[str]) -> str:
    """The text with the terms marked where they are whole words, or anywhere in scripts without spaces."""
    wanted = sorted(terms, key=len, reverse=True)
    patterns = [
        rf"(?<![a-z0-9]){re.escape(term)}(?![a-z0-9])" if term.isascii() else re.escape(term) for term in wanted
    ]
    marked, last = [], 0
    for found in re.finditer("|".join(patterns), text, re.IGNORECASE) if patterns else ():
        marked.append(escape(text[last : found.start()]))
        marked.append(f'<mark style="background: {MARK}; color: inherit; border-radius: 3px">{escape(found[0])}</mark>')
        last = found.end()
    style = "white-space: pre-wrap; overflow-wrap: anywhere; font-size: .9rem; line-height: 1.55; max-height: 15rem"
    return f'<div style="{style}; overflow-y: auto">{"".join(marked)}{escape(text[last:])}</div>'


def _any_of(terms: Sequence[str]) -> re.Pattern[str]:
    words = (
        rf"(?<![a-z0-9]){re.escape(term)}(?![a-z0-9])" if term.isascii() else re.escape(term)
        for term in sorted(terms, key=len, reverse=True)
    )  # fmt: skip
    return re.compile("|".join(words), re.IGNORECASE)


def entity_key(name: str) -> str:
    """Two spellings of one entity are one node."""
    return " ".join(name.casefold().split())


def nodes_of(graph: Graph) -> dict[str, str]:
    """Key -> name of every entity, the one that was asked for first; the order is that of the chart's nodes."""
    names = {entity_key(graph.entity): graph.entity}
    for triple in graph.triples:
        for name in (triple.subject, triple.object):
            names.setdefault(entity_key(name), name)
    return names


def chart(graph: Graph) -> dict[str, Any]:
    """An ECharts option: a force-directed graph whose nodes have the colour of the relation that led to them."""
    relations = list(dict.fromkeys(triple.relation for triple in graph.triples))
    names = nodes_of(graph)
    centre = next(iter(names))
    led: dict[str, str] = {}
    degree: dict[str, int] = {}
    for triple in graph.triples:
        for key in (entity_key(triple.subject), entity_key(triple.object)):
            led.setdefault(key, triple.relation)
            degree[key] = degree.get(key, 0) + 1
    nodes = [node(key, name, key == centre, led.get(key, ""), degree.get(key, 0)) for key, name in names.items()]
    series = {
        "type": "graph",
        "layout": "force",
        "roam": True,
        "draggable": True,
        "selectedMode": "single",
        "force": {"repulsion": 320, "edgeLength": [70, 150], "gravity": 0.12, "layoutAnimation": False},
        "categories": [{"name": name, "itemStyle": {"color": color(relations, name)}} for name in relations],
        "data": nodes,
        "links": [link(triple, len(graph.triples) <= LABELLED_EDGES) for triple in graph.triples],
        "edgeSymbol": ["none", "arrow"],
        "edgeSymbolSize": 7,
        "lineStyle": {"color": PLAIN, "opacity": 0.55, "curveness": 0.08, "width": 1.2},
        "emphasis": {"focus": "adjacency", "lineStyle": {"width": 2.5}},
        "label": {"show": True, "position": "bottom", "fontSize": 11},
        "scaleLimit": {"min": 0.4, "max": 6},
    }
    legend = {"top": 0, "icon": "circle", "itemWidth": 10, "data": relations}
    return {"legend": legend, "tooltip": {"confine": True}, "series": [series]}


def node(key: str, name: str, is_centre: bool, relation: str, degree: int) -> dict[str, Any]:
    size = 34 if is_centre else min(11 + 2 * degree, 26)
    label = {"formatter": shortened(name)} | ({"fontWeight": "bold", "fontSize": 13} if is_centre else {})
    placed = {"category": relation} if relation else {}
    return (
        {"id": key, "name": name, "symbolSize": size, "label": label}
        | placed
        | ({"itemStyle": {"color": CENTRE}} if is_centre else {})
    )


def link(triple: Triple, labelled: bool) -> dict[str, Any]:
    """An arrow; dashed where it points to something that no document has."""
    shown = {
        "source": entity_key(triple.subject),
        "target": entity_key(triple.object),
        "label": {"show": labelled, "formatter": triple.relation, "fontSize": 10, "color": PLAIN},
    }
    return shown if triple.resolved else shown | {"lineStyle": {"type": "dashed"}}


def color(relations: Sequence[str], name: str) -> str:
    return COLORS[relations.index(name) % len(COLORS)]


def shortened(name: str) -> str:
    """The end of a dotted name says more than its beginning, of any other the beginning does."""
    if len(name) <= LONGEST_LABEL:
        return name
    return f"…{name[-LONGEST_LABEL:]}" if "." in name and " " not in name else f"{name[:LONGEST_LABEL]}…"


def evidence_rows(triples: Sequence[Triple]) -> list[dict[str, Any]]:
    return [
        {
            "Subject": triple.subject, "Relation": triple.relation + ("" if triple.resolved else " (dangling)"),
            "Object": triple.object, "Said": triple.evidence,
            "Where": f"{triple.source} · {triple.document} · line {triple.line}",
        }
        for triple in triples
    ]  # fmt: skip


def counts_text(result: Mapping[str, Any]) -> str:
    """'4,519 documents · 21,045 passages · 41,375 triples'."""
    return " · ".join(f"{result[name]:,} {name}" for name in ("documents", "passages", "triples") if name in result)
