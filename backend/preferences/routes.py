from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from backend.auth import CurrentUser, PlatformDep, require_role
from backend.errors import Invalid
from backend.preferences import service
from backend.preferences.schemas import (
    FromJob,
    Imported,
    LabelSchema,
    LabelSummary,
    NewLabel,
    NewPair,
    NextPair,
    PairSchema,
)
from trainer.spec import Message

router = APIRouter(tags=["preferences"])
MEMBERS = [Depends(require_role("admin", "member"))]


async def _text(request: Request) -> str:
    try:
        return (await request.body()).decode("utf-8")
    except UnicodeDecodeError as error:
        raise Invalid("the body is not UTF-8 text; send JSON Lines") from error


@router.post("/pairs", status_code=201, dependencies=MEMBERS)
def add_pair(platform: PlatformDep, pair: NewPair) -> PairSchema:
    row = service.add_pair(platform, pair)
    prompt = [Message.model_validate(message) for message in row.prompt]
    return PairSchema(id=row.id, prompt=prompt, a=row.a, b=row.b, origin=row.origin, created=row.created)


@router.post("/pairs/import", status_code=201, dependencies=MEMBERS)
def import_pairs(platform: PlatformDep, text: Annotated[str, Depends(_text)]) -> Imported:
    """Many pairs as JSON Lines, all or none."""
    return service.add_pairs(platform, service.parse_pairs(text))


@router.post("/pairs/from-job", status_code=201, dependencies=MEMBERS)
def import_from_job(platform: PlatformDep, body: FromJob) -> Imported:
    return service.add_pairs(platform, service.pairs_of_job(platform, body.job, body.limit))


@router.get("/pairs/next", response_model=NextPair, responses={204: {"description": "nothing left to label"}})
def next_pair(platform: PlatformDep, user: CurrentUser) -> NextPair | Response:
    return service.next_pair(platform, user) or Response(status_code=204)


@router.post("/labels", status_code=201)
def add_label(platform: PlatformDep, user: CurrentUser, label: NewLabel) -> LabelSchema:
    row = service.add_label(platform, user, label)
    return LabelSchema(
        id=row.id, pair=row.pair_id, position=row.position, choice=row.choice,
        seconds=row.seconds, note=row.note, created=row.created,
    )  # fmt: skip


@router.get("/labels/summary")
def label_summary(platform: PlatformDep, user: CurrentUser) -> LabelSummary:
    return service.summary(platform, user)
