"""Settings: read once, at the edge, into a frozen object.

Each field is also an environment variable, ``TILTYARD_`` and the name in capitals. Command line
arguments win over it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from bench.errors import UserError

LogFormat = Literal["text", "json"]
LogLevel = Literal["debug", "info", "warning", "error"]
MetricsAudience = Literal["operators", "everybody", "nobody"]

SOCKET_PATH = 64
"""Longest folder for sockets: a socket's whole path has 107 characters at most."""


class Settings(BaseSettings):
    """How this server runs. Limits of tracks are not here: they are data of the track."""

    model_config = SettingsConfigDict(env_prefix="TILTYARD_", frozen=True, extra="forbid")

    data_dir: Path = Field(
        Path("tiltyard-data"), description="this server's own folder: lock, uploads, SQLite file"
    )
    artefacts_dir: Path | None = Field(
        None, description="artefacts, shared by servers of one database; default: in data_dir"
    )
    sockets_dir: Path | None = Field(
        None, description="sockets of sandboxes, a short path; default: in data_dir"
    )
    database_url: str | None = Field(None, description="default: SQLite in data_dir")
    workers: int = Field(1, ge=0, le=64, description="matches at once; 0: serve pages only")
    sandbox: Literal["docker", "process"] = Field("docker", description="process: NO isolation")
    docker_runtime: str | None = Field(None, description="OCI runtime of containers, e.g. runsc")
    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    challenges: tuple[str, ...] = Field(("mnist5k",), description="opened at the first start")
    baselines: Literal["none", "quick", "all"] = Field(
        "quick", description="which zoo models and baseline attacks are entered at start"
    )
    sign_up: Literal["closed", "invitation", "open"] = Field(
        "invitation", description="who may make an account; closed: operators alone"
    )
    public_url: str | None = Field(
        None, description="the address that people use, where a proxy stands before this server"
    )
    oidc_issuer: str | None = Field(None, description="OpenID provider to sign in through")
    oidc_client_id: str = Field("", description="this server's name there")
    oidc_client_secret: SecretStr = Field(SecretStr(""), description="and its secret")
    oidc_name: str = Field("your organisation", description="what people call the provider")
    lease_seconds: float = Field(60.0, gt=0, description="how long a job is one worker's")
    heartbeat_seconds: float = Field(15.0, gt=0, description="how often a worker says it lives")
    poll_seconds: float = Field(0.5, gt=0, description="how often idle loops look at the database")

    metrics: MetricsAudience = Field("operators", description="who may see /metrics")
    log_format: LogFormat = Field("text", description="json: one object a line")
    log_level: LogLevel = Field("warning", description="info: also a line for each request")

    @field_validator("data_dir", "artefacts_dir", "sockets_dir")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        return value.expanduser().resolve() if value is not None else None

    @property
    def artefacts(self) -> Path:
        """The folder of artefacts."""
        return self.artefacts_dir or self.data_dir / "artefacts"

    @property
    def sockets(self) -> Path | None:
        """The folder of sockets; None where the one in data_dir is too long a path for them."""
        chosen = self.sockets_dir or self.data_dir / "sockets"
        if self.sockets_dir is None and len(str(chosen)) > SOCKET_PATH:
            return None
        return chosen

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
