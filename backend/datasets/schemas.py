from pydantic import BaseModel


class DatasetSchema(BaseModel):
    id: str
    kind: str
    folder: str
    rows: int
    created: float
