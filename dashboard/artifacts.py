"""The files a run left, with a look into those that people can read."""

import json
from typing import Any

import streamlit as st

from dashboard import formats
from dashboard.client import PREVIEW_BYTES
from dashboard.data_schemas import Rows
from dashboard.login import client
from dashboard.rows import preview, table
from dashboard.schemas import Artifact, Job
from dashboard.ui import answer

TEXT_ENDINGS = (".json", ".yaml", ".yml", ".txt", ".md", ".toml", "COMPLETE")


def artifact_section(job: Job) -> None:
    """The list of files and, below it, the chosen one."""
    found = client().artifacts(job.id)
    if not found:
        st.info("This run has left no artifacts yet.")
        return
    st.dataframe(
        [{"File": item.path, "Size": formats.size(item.bytes)} for item in found],
        hide_index=True,
        height="content" if len(found) < 7 else 260,
    )
    readable = [item for item in found if item.path.endswith((".jsonl", *TEXT_ENDINGS))]
    by_path = {item.path: item for item in sorted(readable, key=lambda item: not item.path.endswith(".jsonl"))}
    if not by_path:
        return
    path = st.selectbox("Preview", list(by_path), key="preview", bind="query-params", width=520)
    if path.endswith(".jsonl"):
        preview(f"jobs/{job.id}", path, {}, rollouts if path.endswith("rollouts.jsonl") else table)
    else:
        text_preview(job, by_path[path])


def rollouts(found: Rows) -> None:
    for row in found.rows:
        rollout(row)


def rollout(row: dict[str, Any]) -> None:
    """One answer of the policy with its step, its reward parts and its advantage."""
    numbers = [
        f"{formats.words(name).lower()} {formats.number(value)}" for name, value in row.items() if is_number(value)
    ]
    with st.container(border=True):
        st.caption(" · ".join(numbers))
        prompt, said = st.columns(2)
        prompt.markdown(formats.brief(row.get("prompt")))
        if "answer" in row:
            prompt.caption(f"Right answer: {row['answer']}")
        with said:
            answer(str(row.get("completion", "")))


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def text_preview(job: Job, item: Artifact) -> None:
    if item.bytes > PREVIEW_BYTES:
        st.info(f"{item.path} has {formats.size(item.bytes)}, too much to show here.")
        return
    text = client().artifact(job.id, item.path).decode("utf-8", errors="replace")
    if item.path.endswith(".json"):
        st.json(json.loads(text), expanded=2)
    else:
        st.code(text, language=None, wrap_lines=True)
