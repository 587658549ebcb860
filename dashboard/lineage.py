"""What a job or dataset was made of and what used it, as the text of a Mermaid diagram. Imports no Streamlit."""

from dashboard.data_schemas import Lineage, Node
from dashboard.schemas import DATA_KINDS

# Fill and text of each sort of node; the same in light and dark, since both stand on a coloured ground.
COLOURS = {
    "data": "fill:#2f6f73,color:#ffffff,stroke:#2f6f73",
    "dataset": "fill:#6a5fa8,color:#ffffff,stroke:#6a5fa8",
    "training": "fill:#c9703c,color:#ffffff,stroke:#c9703c",
    "other": "fill:#6b7378,color:#ffffff,stroke:#6b7378",
    "lost": "fill:#a33a3a,color:#ffffff,stroke:#a33a3a",
}
TRAINING = frozenset({"import", "sft", "reward", "dpo", "rlhf"})
THIS = "stroke:#e0a800,stroke-width:4px"


def mermaid(lineage: Lineage, of: str) -> str:
    """A flowchart from left to right; the node it is about has a thick border."""
    names = {node.id: f"n{number}" for number, node in enumerate(lineage.nodes)}
    lines = ["flowchart LR"]
    lines += [f'    {names[node.id]}["{label(node)}"]:::{sort_of(node)}' for node in lineage.nodes]
    lines += [f"    {names[edge.source]} --> {names[edge.target]}" for edge in lineage.edges]
    lines += [f"    classDef {sort} {style}" for sort, style in COLOURS.items()]
    return "\n".join([*lines, f"    style {names[of]} {THIS}"])


def label(node: Node) -> str:
    """A dataset by its id; a job by its name, its stage where that is another word, and its state unless it is done."""
    stage = [] if node.kind == node.name else [node.kind]
    state = [] if node.state == "succeeded" else [node.state]
    return "<br/>".join([node.name, *(stage + state)])


def sort_of(node: Node) -> str:
    if node.state in ("failed", "cancelled"):
        return "lost"
    if node.type == "dataset":
        return "dataset"
    return "data" if node.kind in DATA_KINDS else "training" if node.kind in TRAINING else "other"
