from typing import Annotated

from fastapi import APIRouter, Query, Response

from backend.auth import CurrentUser, PlatformDep
from backend.reviews import counting, service
from backend.reviews.schemas import NewReview, Place, QueueSchema, ReviewItem, ReviewSchema, ReviewSummary

router = APIRouter(prefix="/reviews", tags=["reviews"])


@router.get("/queues")
def find_queues(platform: PlatformDep) -> list[QueueSchema]:
    return service.find_queues(platform)


@router.get("/next", response_model=ReviewItem, responses={204: {"description": "nothing left to review"}})
def next_item(platform: PlatformDep, user: CurrentUser, place: Annotated[Place, Query()]) -> ReviewItem | Response:
    return service.next_item(platform, user, place) or Response(status_code=204)


@router.post("", status_code=201)
def decide(platform: PlatformDep, user: CurrentUser, review: NewReview) -> ReviewSchema:
    row = service.decide(platform, user, review)
    return ReviewSchema(
        id=row.id, job=row.job_id, split=row.split, number=row.number, decision=row.decision, reason=row.reason,
        created=row.created,
    )  # fmt: skip


@router.post("/undo")
def undo(platform: PlatformDep, user: CurrentUser, place: Place) -> ReviewItem:
    return service.undo(platform, user, place)


@router.get("/summary")
def summary(platform: PlatformDep, user: CurrentUser, job: str) -> ReviewSummary:
    return counting.summary(platform, user, job)
