from pydantic import BaseModel


class CheckpointSchema(BaseModel):
    job: str
    name: str
    kind: str
    pipeline: str | None
    step: int
    folder: str
    sha256: str
    created: float
