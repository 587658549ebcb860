"""People's labels as an immutable dataset: a later label makes another dataset and changes no past run."""

import hashlib
import time
from collections.abc import Sequence

from backend.datasets.tables import DatasetRow
from backend.db import upsert
from backend.platform import Platform
from backend.preferences.service import latest_labels
from backend.preferences.tables import LabelRow, PairRow
from trainer.artifacts import RunFolder, is_complete, new_folder, write_jsonl
from trainer.spec import Message, Pair


def freeze_labels(platform: Platform) -> DatasetRow | None:
    """Write the pairs that people compared into `datasets/labels-<hash>`; none when there are no such labels.

    Of one person's labels of a pair the latest counts, each person's as one vote: a tie is half a vote for each side.
    Skips and "both bad" compare nothing, hidden repeats measure the person, and a withdrawn pair is not to be used.
    """
    pairs = compared_pairs(platform)
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


def compared_pairs(platform: Platform) -> list[Pair]:
    query = (
        latest_labels()
        .add_columns(PairRow)
        .join(PairRow)
        .where(LabelRow.choice.in_(("left", "right", "tie")), PairRow.withdrawn.is_(False))
        .order_by(LabelRow.pair_id, LabelRow.user_id)
    )
    votes: dict[str, list[LabelRow]] = {}
    pairs: dict[str, PairRow] = {}
    with platform.database.read() as session:
        for label, pair in session.execute(query).all():
            pairs[pair.id] = pair
            votes.setdefault(pair.id, []).append(label)
    return [_as_pair(pair, votes[pair.id]) for pair in pairs.values()]


def vote_for_a(label: LabelRow) -> float:
    """1 for the first answer, 0 for the second, a half for neither."""
    if label.choice == "tie":
        return 0.5
    return float((label.choice == "left") == (label.position == "ab"))


def _as_pair(pair: PairRow, labels: Sequence[LabelRow]) -> Pair:
    share = sum(map(vote_for_a, labels)) / len(labels)
    chosen, rejected = (pair.a, pair.b) if share >= 0.5 else (pair.b, pair.a)
    said = [{"user": label.user_id, "label": label.id, "a": vote_for_a(label)} for label in labels]
    return Pair(
        id=pair.id,
        prompt=tuple(Message.model_validate(message) for message in pair.prompt),
        chosen=chosen,
        rejected=rejected,
        origin="label",
        preference=max(share, 1 - share),
        meta={"votes": said, "pair_origin": pair.origin},
    )
