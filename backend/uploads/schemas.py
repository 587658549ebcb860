from pydantic import BaseModel, ConfigDict, Field


class NewUpload(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=1_000, description="of the file; its suffix says how it is read")
    bytes: int = Field(gt=0)


class UploadSchema(BaseModel):
    """`received` of its bytes are here; a clean job can read it once all are."""

    id: str
    name: str
    bytes: int
    received: int
    created: float
    user: str
