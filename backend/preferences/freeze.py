"""People's labels as an immutable dataset: a later label makes another dataset and changes no past run."""

import hashlib
import time
from collections.abc import Sequence

from sqlalchemy import func, select

from backend.datasets.tables import DatasetRow
from backend.db import upsert
from backend.platform import Platform
from backend.preferences.tables import LabelRow, PairRow
from trainer.artifacts import RunFolder, is_complete, new_folder, write_jsonl
from trainer.spec import Message, Pair


def freeze_labels(platform: Platform) -> DatasetRow | None:
    """Write the labels that prefer one answer into `datasets/labels-<hash>`; none when there are no such labels.

    Of one person's labels of a pair the latest counts; ties, skips and "both bad" say nothing about which is better.
    """
    pairs = _preferred(platform)
    if not pairs:
        return None
    content = "".join(pair.model_dump_json() + "\n" for pair in pairs)
    name = f"labels-{hashlib.sha256(content.encode()).hexdigest()[:16]}"
    run = RunFolder(platform.settings.home / "datasets" / name)
    if not is_complete(run.artifacts / "labels"):
        with new_folder(run.artifacts / "labels") as folder:
            write_jsonl(folder / "pairs.jsonl", pairs)
    row = {"id": name, "kind": "labels", "folder": str(run.path), "rows": len(pairs), "created": time.time()}
    with platform.database.write() as session:
        upsert(session, DatasetRow.__table__, [row | {"about": {}}], update=False)
    return DatasetRow(**row)


def _preferred(platform: Platform) -> Sequence[Pair]:
    latest = select(func.max(LabelRow.id)).group_by(LabelRow.pair_id, LabelRow.user_id)
    query = (
        select(LabelRow, PairRow)
        .join(PairRow)
        .where(LabelRow.id.in_(latest), LabelRow.choice.in_(("left", "right")))
        .order_by(LabelRow.pair_id, LabelRow.user_id)
    )
    with platform.database.read() as session:
        return [_as_pair(label, pair) for label, pair in session.execute(query).all()]


def _as_pair(label: LabelRow, pair: PairRow) -> Pair:
    a_chosen = (label.choice == "left") == (label.position == "ab")
    chosen, rejected = (pair.a, pair.b) if a_chosen else (pair.b, pair.a)
    return Pair(
        id=f"{pair.id}-{label.user_id}",
        prompt=tuple(Message.model_validate(message) for message in pair.prompt),
        chosen=chosen,
        rejected=rejected,
        origin="label",
        meta={"pair": pair.id, "user": label.user_id, "label": label.id, "pair_origin": pair.origin},
    )
