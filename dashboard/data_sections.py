"""The sections of a dataset's page."""

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from dashboard import formats
from dashboard.data_charts import bars, histogram, wanted_and_reached
from dashboard.data_schemas import Node
from dashboard.lineage import mermaid
from dashboard.login import client

SOURCES_OF_TOKENS = ("text", "completion", "dialogue")


def drops(result: Mapping[str, Any]) -> None:
    """Every document's fate: kept, dropped by which rule with examples, or skipped because it could not be read."""
    read, kept = result["documents"]["read"], result["documents"]["kept"]
    dropped, skipped = result.get("dropped", {}), result.get("skipped", {})
    first, second, third, fourth = st.columns(4)
    first.metric("Read", formats.number(read), border=True)
    second.metric("Kept", formats.number(kept), formats.percent(kept / read if read else None), delta_color="off",
                  delta_arrow="off", border=True)  # fmt: skip
    third.metric("Dropped by a rule", formats.number(sum(dropped.values())), border=True)
    fourth.metric("Could not be read", formats.number(sum(skipped.values())), border=True)
    bars("Dropped, by rule", {rule: count for rule, count in dropped.items() if count}, "documents")
    if idle := [rule for rule, count in dropped.items() if not count]:
        st.caption(f"Dropped nothing: {', '.join(idle)}.")
    dropped_examples(result.get("examples", {}))
    skips(skipped, result.get("skipped_examples", {}))
    if scrubbed := result.get("scrubbed"):
        bars("Personal data replaced, by kind", scrubbed, "places")


def dropped_examples(examples: Mapping[str, Any]) -> None:
    """What each rule dropped, drawn evenly from all it dropped."""
    shown = {rule: kept for rule, kept in examples.items() if kept}
    if not shown:
        return
    rule = st.selectbox("Examples of what was dropped by", list(shown), width=420)
    for example in shown[rule]:
        st.caption(example["source"])
        st.code(example["text"], language=None, wrap_lines=True)


def skips(skipped: Mapping[str, int], examples: Mapping[str, Any]) -> None:
    bars("Could not be read, by reason", skipped, "records or files")
    rows = [
        {"Reason": reason, "Where": item["where"], "Detail": item.get("detail", "")}
        for reason, found in examples.items()
        for item in found
    ]
    if rows:
        st.dataframe(rows, hide_index=True, height="content")


def charts(result: Mapping[str, Any]) -> None:
    """What the data is made of, as far as the job counted it."""
    if lengths := result.get("lengths"):
        histogram(lengths)
    groups = {
        "Domains": (
            {domain: round(share * result["characters"]) for domain, share in result.get("shares", {}).items()},
            "characters",
        ),
        "Languages": (result.get("languages", {}), "characters"),
        "Sources": (result.get("sources", {}), "characters"),
        "Licences": (result.get("licenses", {}), "documents"),
        "Families": (result.get("families", {}).get("train", {}), "problems"),
        "Mistakes of wrong answers": (result.get("mistakes", result.get("distractors", {})), "wrong answers"),
        "Rejected, by reason": (result.get("rejected", {}), "problems"),
    }
    with st.grid("auto", min_column_width=420):
        for title, (counts, unit) in groups.items():
            if counts:
                with st.container(border=True):
                    bars(title, counts, unit)


def mixture(spec: Mapping[str, Any], result: Mapping[str, Any]) -> None:
    """Tokens by domain, wanted beside reached; where they come from; then what was packed of each source."""
    found = result.get("mixture", {})
    if run := found.get("run"):
        st.markdown("**What a whole training run sees, by tokens**")
        wanted_and_reached("run", {"wanted": spec["mixture"], "reached": run["reached"]})
    domains = found.get("domains", {})
    shares = {which: {domain: part[which] for domain, part in domains.items()} for which in ("wanted", "reached")}
    st.markdown("**The text, by tokens**")
    wanted_and_reached("text", shares if domains else {"reached": result["text"]["train"]["shares"]})
    for sentence in found.get("short", ()):
        st.warning(sentence, icon=":material/warning:")
    if domains:
        st.dataframe(mixture_rows(domains), hide_index=True, height="content")
    st.markdown("**Packed rows**")
    st.dataframe(packed_rows(result), hide_index=True, height="content")


def mixture_rows(domains: Mapping[str, Any]) -> list[dict[str, str]]:
    """A row for each source of each domain."""
    return [
        {
            "Domain": domain, "Source": source, "Documents": formats.number(part["documents"]),
            "Tokens": formats.number(part["tokens"]),
            "Available": ("" if part["counted"] else "about ") + formats.number(part["available"]),
            "Repeated": f"× {formats.number(part['repeated'])}",
        }
        for domain, whole in domains.items()
        for source, part in whole["sources"].items()
    ]  # fmt: skip


def packed_rows(result: Mapping[str, Any]) -> list[dict[str, str]]:
    """A row for each source and split."""
    reports = {
        (source, split): report for source in SOURCES_OF_TOKENS for split, report in result.get(source, {}).items()
    }
    names = list(dict.fromkeys(name for report in reports.values() for name in report if name != "shares"))
    return [
        {"Source": source, "Split": split}
        | {
            formats.words(name): (formats.percent if name == "fill" else formats.number)(report.get(name))
            for name in names
        }
        for (source, split), report in reports.items()
    ]


def lineage_section(id: str) -> None:
    """The graph, and links to what is in it."""
    found = client().lineage(id)
    st.mermaid_chart(mermaid(found, id), alt="What this was made of and what used it")
    made_of = {edge.source: edge.role for edge in found.edges if edge.target == id}
    used_by = {edge.target: edge.role for edge in found.edges if edge.source == id}
    left, right = st.columns(2)
    with left:
        links("Made of", found.nodes, made_of)
    with right:
        links("Used by", found.nodes, used_by)


def links(title: str, nodes: Sequence[Node], roles: Mapping[str, str]) -> None:
    """Each neighbour by its name, with the role in which the one is read by the other."""
    st.markdown(f"**{title}**")
    if not roles:
        st.caption("nothing")
    for node in nodes:
        if node.id in roles:
            page = "views/datasets.py" if node.type == "dataset" else "views/run.py"
            st.page_link(page, label=f"**{node.name}** · as {roles[node.id]}", query_params={"id": node.id})
