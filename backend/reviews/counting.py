"""How far reviewing is, by split, person and family."""

from collections import Counter

from sqlalchemy import func, select

from backend.platform import Platform
from backend.reviews.schemas import SPLITS, Place, ReviewSummary, SplitProgress, Tally
from backend.reviews.service import DECIDED, open_queue
from backend.reviews.tables import ReviewRow
from backend.users.tables import UserRow


def summary(platform: Platform, user: UserRow, job_id: str) -> ReviewSummary:
    """Raises: NotFound, Invalid: there is no such job, or it left no problems."""
    queues = [open_queue(platform, Place(job=job_id, split=split)) for split in SPLITS]
    groups = (ReviewRow.split, UserRow.name, ReviewRow.family, ReviewRow.decision, ReviewRow.reason)
    query = (
        select(*groups, func.count(), func.sum(ReviewRow.seconds))
        .join(UserRow, UserRow.id == ReviewRow.user_id)
        .where(ReviewRow.job_id == queues[0].job_id, *DECIDED)
        .group_by(*groups)
    )
    found = ReviewSummary(splits={}, mine=Tally(), reviewers={}, families={}, reasons={})
    decided: Counter[str] = Counter()
    with platform.database.read() as session:
        counted = session.execute(query).all()
    for split, name, family, decision, reason, count, seconds in counted:
        decided[split] += count
        for tallies, key in ((found.reviewers, name), (found.families, family)):
            _add(tallies.setdefault(key, Tally()), decision, count, seconds)
        if reason:
            found.reasons[reason] = found.reasons.get(reason, 0) + count
    splits = {queue.split: SplitProgress(total=queue.rows.total, decided=decided[queue.split]) for queue in queues}
    return found.model_copy(update={"splits": splits, "mine": found.reviewers.get(user.name, Tally())})


def _add(tally: Tally, decision: str, count: int, seconds: float) -> None:
    setattr(tally, decision, getattr(tally, decision) + count)
    tally.seconds += seconds
