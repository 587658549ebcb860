"""Environment variables `OCTAVO_*` of the dashboard."""

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Where the dashboard listens and whom it asks."""

    model_config = SettingsConfigDict(env_prefix="OCTAVO_", frozen=True)

    dashboard_host: str = Field("127.0.0.1", description="address the dashboard listens on")
    dashboard_port: int = Field(8501, ge=1, le=65535, description="port of the dashboard")
    backend_port: int = Field(8000, ge=1, le=65535, description="port of the backend")
    serving_port: int = Field(8001, ge=1, le=65535, description="port of serving")
    backend_url: str = Field("", description="where the backend answers; empty: this machine at its port")
    serving_url: str = Field("", description="where serving answers; empty: this machine at its port")

    @model_validator(mode="after")
    def _resolve(self) -> "Settings":
        backend = self.backend_url or f"http://127.0.0.1:{self.backend_port}"
        serving = self.serving_url or f"http://127.0.0.1:{self.serving_port}"
        object.__setattr__(self, "backend_url", backend.rstrip("/"))
        object.__setattr__(self, "serving_url", serving.rstrip("/"))
        return self
