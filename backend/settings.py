"""Environment variables `OCTAVO_*` of the backend, its worker and its broker."""

import errno
import os
import sys
from pathlib import Path
from typing import Self

from pydantic import Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from trainer.remote import is_url


class Settings(BaseSettings):
    """Read once when a process starts and handed down; paths are absolute afterwards."""

    model_config = SettingsConfigDict(env_prefix="OCTAVO_", frozen=True)

    home: Path = Field(Path("var"), description="folder for everything that is kept")
    backend_host: str = Field("127.0.0.1", description="address the backend listens on")
    backend_port: int = Field(8000, ge=1, le=65535, description="port of the backend")
    serving_port: int = Field(8001, ge=1, le=65535, description="port of serving")
    dashboard_port: int = Field(8501, ge=1, le=65535, description="port of the dashboard")
    broker_port: int = Field(6399, ge=1, le=65535, description="port of the embedded Valkey")
    database_url: str = Field("", description="SQLAlchemy URL; empty: SQLite in the home")
    redis_url: str = Field("", description="Redis or Valkey; empty: the embedded one")
    store_url: str = Field(
        "", description="folder of the run folders, or a URL such as s3://bucket/prefix; empty: runs in the home"
    )
    serving_url: str = Field("", description="where serving answers; empty: this machine at its port")
    device: str = Field(
        "cpu", pattern=r"^[a-z0-9]+$", description="device kind of this machine's jobs; names the queue"
    )
    concurrency: int = Field(1, ge=1, description="jobs a worker runs at a time")
    lease_seconds: float = Field(20.0, gt=0, description="a running job unheard of for so long is queued again")
    reap_seconds: float = Field(5.0, gt=0, description="time between two looks for lost jobs")
    stop_seconds: float = Field(60.0, gt=0, description="time a job has to save and exit before it is killed")
    deploy_seconds: float = Field(180.0, gt=0, description="time serving has to load a deployment")
    label_overlap: float = Field(0.1, ge=0, le=1, description="share of the pairs that several people judge")
    label_overlap_people: int = Field(2, ge=2, description="how many people judge those")
    label_repeats: float = Field(
        0.05, ge=0, le=0.5, description="hidden second looks of a person, as a share of their labels"
    )
    upload_megabytes: int = Field(10_000, gt=0, description="largest file that may be uploaded")
    trainer_command: tuple[str, ...] = Field(
        (sys.executable, "-m", "trainer", "run"), description="starts a trainer process; the run folder is appended"
    )

    @model_validator(mode="after")
    def _resolve(self) -> Self:
        home = self.home.expanduser().absolute()
        resolved = {
            "home": home,
            "database_url": self.database_url or f"sqlite:///{home / 'octavo.db'}",
            "redis_url": self.redis_url or f"redis://127.0.0.1:{self.broker_port}/0",
            "store_url": self.store_url or str(home / "runs"),
            "serving_url": self.serving_url or f"http://127.0.0.1:{self.serving_port}",
        }
        for name, value in resolved.items():
            object.__setattr__(self, name, value)
        return self

    @property
    def store_remote(self) -> str | None:
        """Where finished runs are copied to, unless the store is a folder."""
        return self.store_url if is_url(self.store_url.removeprefix("file://")) else None

    @property
    def store(self) -> Path:
        """The folder of the run folders on this machine."""
        if self.store_remote is not None:
            return self.home / "runs"
        return Path(self.store_url.removeprefix("file://")).expanduser().absolute()

    @property
    def uploads(self) -> Path:
        return self.home / "uploads"

    @property
    def queue(self) -> str:
        return f"octavo.{self.device}"

    def make_folders(self) -> None:
        """Make the home and the store where they are missing.

        Raises:
            ValueError: one cannot be made or written to; names it, the reason and the variable to set.
        """
        for variable, folder in (("OCTAVO_HOME", self.home), ("OCTAVO_STORE_URL", self.store)):
            try:
                folder.mkdir(parents=True, exist_ok=True)
                if not os.access(folder, os.W_OK | os.X_OK):
                    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            except OSError as error:
                raise ValueError(
                    f"cannot write to {folder} ({error.strerror}); set {variable} to another folder"
                ) from error


def read_settings() -> Settings:
    """The environment's settings.

    Raises:
        ValueError: a variable is wrong; one line that names it.
    """
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        message = str(first["msg"]).removeprefix("Value error, ")
        variable = "_".join(str(part) for part in first["loc"]).upper()
        raise ValueError(f"OCTAVO_{variable}: {message}" if variable else message) from error
