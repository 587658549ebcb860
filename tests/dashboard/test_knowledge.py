"""The knowledge page: passages with what was found marked, a graph that is walked, and what nobody knows."""

import json
import re
from html import unescape
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from dashboard.knowledge import LABELLED_EDGES, Graph, chart, entity_key, nodes_of, passage_html, shortened
from tests.dashboard.conftest import Open, texts
from tests.dashboard.contract import Platform, job_body
from tests.dashboard.contract_knowledge import PASSAGE, RESULT, TRIPLES
from tests.dashboard.test_pages import button, tables


@pytest.fixture
def opened(open_page: Open, platform: Platform) -> AppTest:
    platform.jobs["know"] = job_body({"name": "know", "kind": "knowledge"}, "pipe1", "succeeded") | {"id": "know"}
    return open_page("knowledge")


def field(app: AppTest, label: str, value: str) -> AppTest:
    [found] = [item for item in app.text_input if item.label == label]
    return found.set_value(value).run()


def drawn(app: AppTest) -> dict[str, Any]:
    [found] = app.get("echarts_chart")
    spec: dict[str, Any] = json.loads(found.proto.spec)
    return spec


def test_without_a_store_the_page_says_how_to_get_one(open_page: Open) -> None:
    assert "No knowledge job has finished yet" in texts(open_page("knowledge"))


def test_passages_are_shown_and_an_entity_of_theirs_leads_to_the_graph(opened: AppTest, platform: Platform) -> None:
    field(opened, "Search", "gold")
    assert "**Metals**" in texts(opened)
    assert "document d1, from character 10" in texts(opened)
    button(opened, "Gold")
    assert platform.walked == [("Gold", 1, None)]
    assert len(drawn(opened)["series"][0]["links"]) == len(TRIPLES)
    assert "refers to (dangling)" in tables(opened)


def test_queries_and_names_that_lead_nowhere_say_so(opened: AppTest) -> None:
    field(opened, "Search", "the of")
    assert "nothing but stop words" in texts(opened)
    field(opened, "Search", "silver")
    assert "No passage has any of these words." in texts(opened)
    field(opened, "Entity", "silver")
    assert "Nobody here knows 'silver'." in texts(opened)
    button(opened, "Gold")
    field(opened, "Path to", "nobody")
    assert "No path of six steps leads from 'Gold' to 'nobody'." in texts(opened)


def test_marking_changes_nothing_of_the_text_and_finds_whole_words() -> None:
    html = passage_html(str(PASSAGE["text"]), ("gold", "黄金", "金", "b"))
    assert unescape(re.sub(r"<[^>]*>", "", html)) == PASSAGE["text"]
    assert re.findall(r"<mark[^>]*>(.*?)</mark>", html) == ["Gold", "b", "黄金", "gold"]
    assert "<mark" not in passage_html("anything", ())


def test_a_chart_has_a_node_for_every_entity_whatever_its_spelling() -> None:
    graph = Graph.model_validate({"entity": "Gold", "triples": TRIPLES})
    [series] = chart(graph)["series"]
    ids = [node["id"] for node in series["data"]]
    assert ids == ["gold", "metal", "lemma-a"] == list(nodes_of(graph))
    assert {end for link in series["links"] for end in (link["source"], link["target"])} == set(ids)
    assert {node["category"] for node in series["data"]} <= {category["name"] for category in series["categories"]}
    assert [link.get("lineStyle") for link in series["links"]] == [None, {"type": "dashed"}]
    many = Graph.model_validate({"entity": "Gold", "triples": [TRIPLES[0]] * (LABELLED_EDGES + 1)})
    assert not any(link["label"]["show"] for link in chart(many)["series"][0]["links"])


def test_names_are_keyed_and_shortened() -> None:
    assert entity_key("  Big  House ") == "big house"
    assert shortened("short") == "short"
    assert shortened("package.module.Class.a_method_name").endswith("a_method_name")
    assert shortened("a long name of several words in a row").startswith("a long name")


def test_the_counts_of_the_store_are_said(opened: AppTest) -> None:
    assert f"{RESULT['documents']} documents · {RESULT['passages']} passages" in texts(opened)
