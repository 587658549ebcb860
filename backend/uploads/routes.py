from fastapi import APIRouter, Request, Response

from backend.auth import CurrentUser, PlatformDep
from backend.uploads import service
from backend.uploads.schemas import NewUpload, UploadSchema

router = APIRouter(prefix="/uploads", tags=["uploads"])


@router.post("", status_code=201)
def create(platform: PlatformDep, user: CurrentUser, wanted: NewUpload) -> UploadSchema:
    return service.create(platform, wanted, user.name)


@router.get("")
def list_uploads(platform: PlatformDep) -> list[UploadSchema]:
    return service.list_uploads(platform.settings)


@router.get("/{upload_id}")
def get(platform: PlatformDep, upload_id: str) -> UploadSchema:
    return service.get(platform.settings, upload_id)


@router.put("/{upload_id}")
async def append(platform: PlatformDep, upload_id: str, offset: int, request: Request) -> UploadSchema:
    """The body is bytes of the file from `offset` on."""
    return await service.append(platform.settings, upload_id, offset, request.stream())


@router.delete("/{upload_id}", status_code=204)
def remove(platform: PlatformDep, upload_id: str) -> Response:
    service.remove(platform, upload_id)
    return Response(status_code=204)
