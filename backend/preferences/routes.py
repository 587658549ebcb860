import json
from collections.abc import Iterator
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import StreamingResponse

from backend.auth import CurrentUser, PlatformDep, require_role
from backend.errors import Invalid
from backend.preferences import pairs, raters, service
from backend.preferences.formats import Format, write_pair
from backend.preferences.freeze import compared_pairs
from backend.preferences.schemas import (
    FromJob,
    Imported,
    LabelSchema,
    LabelSummary,
    NewLabel,
    NewPair,
    NextPair,
    OwnLabel,
    PairSchema,
    RatersSchema,
)
from trainer.spec import Message, Pair

router = APIRouter(tags=["preferences"])
MEMBERS = [Depends(require_role("admin", "member"))]
NOTHING = {204: {"description": "nothing left to label"}}


async def _text(request: Request) -> str:
    try:
        return (await request.body()).decode("utf-8")
    except UnicodeDecodeError as error:
        raise Invalid("the body is not UTF-8 text; send JSON Lines") from error


@router.post("/pairs", status_code=201, dependencies=MEMBERS)
def add_pair(platform: PlatformDep, pair: NewPair) -> PairSchema:
    row = pairs.add_pair(platform, pair)
    prompt = [Message.model_validate(message) for message in row.prompt]
    return PairSchema(id=row.id, prompt=prompt, a=row.a, b=row.b, origin=row.origin, created=row.created)


@router.post("/pairs/import", status_code=201, dependencies=MEMBERS)
def import_pairs(platform: PlatformDep, text: Annotated[str, Depends(_text)]) -> Imported:
    """Many pairs as JSON Lines, in any of the formats that are read; a line that is none refuses all."""
    return pairs.add_pairs(platform, pairs.parse_pairs(text))


@router.post("/pairs/from-job", status_code=201, dependencies=MEMBERS)
def import_from_job(platform: PlatformDep, body: FromJob) -> Imported:
    found = pairs.pairs_of_job(platform, body.job, body.limit, body.order)
    place = {pair.id: float(number) for number, pair in enumerate(found)}
    return pairs.add_pairs(platform, found, lambda pair: place[pair.id] if body.order != "as_made" else 0.0)


@router.get("/pairs/export", dependencies=MEMBERS)
def export_pairs(platform: PlatformDep, format: Format = "octavo") -> StreamingResponse:
    """What people have judged, as JSON Lines: the very pairs that training would get now."""
    return StreamingResponse(_lines(compared_pairs(platform), format), media_type="application/jsonl")


def _lines(found: list[Pair], format: Format) -> Iterator[str]:
    for pair in found:
        yield json.dumps(write_pair(pair, format), ensure_ascii=False) + "\n"


@router.get("/pairs/next", response_model=NextPair, responses=NOTHING)  # type: ignore[arg-type]
def next_pair(platform: PlatformDep, user: CurrentUser) -> NextPair | Response:
    return service.next_pair(platform, user) or Response(status_code=204)


@router.delete("/pairs/{pair_id}", status_code=204, dependencies=MEMBERS)
def withdraw_pair(platform: PlatformDep, pair_id: str) -> None:
    pairs.withdraw(platform, pair_id)


@router.post("/labels", status_code=201)
def add_label(platform: PlatformDep, user: CurrentUser, label: NewLabel) -> LabelSchema:
    return LabelSchema.model_validate(service.label_fields(service.add_label(platform, user, label)))


@router.post("/labels/undo", response_model=NextPair, responses=NOTHING)  # type: ignore[arg-type]
def undo_label(platform: PlatformDep, user: CurrentUser) -> NextPair | Response:
    """Takes back the newest label and answers its pair, which is this user's to judge again."""
    return service.undo(platform, user) or Response(status_code=204)


@router.get("/labels/mine")
def own_labels(
    platform: PlatformDep, user: CurrentUser, limit: Annotated[int, Query(ge=1, le=100)] = 10
) -> list[OwnLabel]:
    return service.own_labels(platform, user, limit)


@router.get("/labels/summary")
def label_summary(platform: PlatformDep, user: CurrentUser) -> LabelSummary:
    return service.summary(platform, user)


@router.get("/raters", dependencies=MEMBERS)
def get_raters(platform: PlatformDep) -> RatersSchema:
    return raters.raters(platform)
