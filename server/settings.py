"""Settings: read once, at the edge, into a frozen object.

Each field is also an environment variable, ``TILTYARD_`` and the name in capitals. Command line
arguments win over it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from bench.errors import UserError


class Settings(BaseSettings):
    """How this server runs. Limits of tracks are not here: they are data of the track."""

    model_config = SettingsConfigDict(env_prefix="TILTYARD_", frozen=True, extra="forbid")

    data_dir: Path = Field(Path("tiltyard-data"), description="artefacts, uploads, SQLite file")
    database_url: str | None = Field(None, description="default: SQLite in data_dir")
    workers: int = Field(1, ge=0, le=64, description="matches at once; 0: serve pages only")
    sandbox: Literal["docker", "process"] = Field("docker", description="process: NO isolation")
    docker_runtime: str | None = Field(None, description="OCI runtime of containers, e.g. runsc")
    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    baselines: bool = Field(True, description="enter zoo models and baseline attacks at start")
    lease_seconds: float = Field(60.0, gt=0, description="how long a job is one worker's")
    heartbeat_seconds: float = Field(15.0, gt=0, description="how often a worker says it lives")
    poll_seconds: float = Field(0.5, gt=0, description="how often idle loops look at the database")

    @field_validator("data_dir")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.expanduser().resolve()

    @property
    def url(self) -> str:
        """The database's URL."""
        return self.database_url or f"sqlite:///{self.data_dir / 'tiltyard.db'}"


def load(**arguments: Any) -> Settings:
    """Settings from the environment and from arguments that are not None.

    Raises UserError that names each bad setting.
    """
    try:
        return Settings(**{key: value for key, value in arguments.items() if value is not None})
    except ValidationError as error:
        lines = [
            f"setting {'.'.join(map(str, item['loc']))}: {item['msg']} (got {item['input']!r})"
            for item in error.errors()
        ]
        raise UserError("; ".join(lines)) from error
