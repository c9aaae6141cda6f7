"""Every environment variable that ucurve reads, in one place.

    settings().artefacts  # Path of UCURVE_ARTEFACTS

A process reads its environment once, at the first call; the reference page of settings is made from
the descriptions below. An empty variable counts as unset, so that compose files may pass on what
is not set.
"""

from __future__ import annotations

import getpass
import os
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from ucurve.model_folders import private_part, private_places

Folders = Annotated[tuple[Path, ...], NoDecode]  # written like PATH
Names = Annotated[tuple[str, ...], NoDecode]  # written with commas between


class SettingsError(RuntimeError):
    """A variable has a value that cannot be used; the message names it and the remedy."""


class Settings(BaseSettings):
    """Environment variables of all processes; a variable's name is UCURVE_ and the field's name."""

    model_config = SettingsConfigDict(env_prefix="UCURVE_", env_ignore_empty=True, frozen=True)

    # Where things are
    database_url: str | None = Field(
        None,
        description="SQLAlchemy URL of the database, postgresql+psycopg://... Required by the API "
        "and by workers.",
    )
    broker_url: str = Field(
        "redis://localhost:6379/0", description="URL of the Celery broker (Redis or Valkey)."
    )
    artefacts: Path = Field(
        Path("~/.ucurve/artefacts"),
        validate_default=True,
        description="Folder of suites, the hub cache and training states; the same for the API and "
        "all workers.",
    )
    database_folder: Path | None = Field(
        None,
        description="Folder with the database's files, where this machine has it: its free space "
        "is watched. `ucurve up` sets it.",
    )
    models: Folders = Field(
        (),
        description="Folders with your own checkpoints and texts, separated like PATH. Only files "
        "below them, uploads and suites of the lab can be registered.",
    )
    url: str = Field(
        "http://127.0.0.1:8000",
        description="Address of the API: for clients, the dashboard and links in webhooks.",
    )
    kinds: str = Field(
        "",
        description="Folders with your own experiment types, separated like PATH.",
    )

    # Who may do what
    access: Literal["open", "tokens"] = Field(
        "tokens",
        description="`open`: everyone who reaches the API is admin, loopback only. `tokens`: every "
        "request needs an API key.",
    )
    owner: str | None = Field(
        None,
        description="Name of the first admin. Default: the account that the API runs under.",
    )
    token: str | None = Field(None, description="API key of the command line and Python client.")
    token_file: Path | None = Field(
        None,
        description="File with the API key of the command line and Python client, readable only by "
        "its owner. UCURVE_TOKEN takes precedence.",
    )
    admin_token_file: Path | None = Field(
        None,
        description="File that receives the first admin's API key. Default: `admin-token` in "
        "UCURVE_ARTEFACTS.",
    )
    hosts: Names = Field(
        ("127.0.0.1", "localhost", "api"),
        description="Host names under which the API and the dashboard answer, comma-separated.",
    )
    most_planned: int = Field(
        50_000, ge=1, description="Evaluations per experiment, unless a user has a limit."
    )
    most_queued: int = Field(
        500_000, ge=1, description="Queued evaluations per user, unless a user has a limit."
    )
    log_format: Literal["text", "json"] = Field(
        "text",
        description="Format of all logs: `text`, or `json` with one object per line (time, level, "
        "logger, message, and user, experiment and measurement where known).",
    )
    requests_per_minute: int = Field(
        600,
        ge=0,
        description="Plans, submissions and explorer queries per user and minute; 0: no limit. "
        "More are answered 429, and the client repeats them later. With open access there is none.",
    )
    access_log: bool = Field(False, description="Log every request to the API.")

    # Sign-in at an OpenID Connect provider
    oidc_issuer: str | None = Field(
        None, description="Issuer URL of the identity provider. Unset: sign-in with API keys only."
    )
    oidc_client_id: str | None = Field(
        None, description="Client ID of this lab at the identity provider."
    )
    oidc_client_secret: str = Field(
        "", description="Client secret of this lab at the identity provider (dashboard only)."
    )
    oidc_name: str | None = Field(
        None, description="Label of the sign-in button. Default: the issuer's host name."
    )
    oidc_role: Literal["viewer", "submitter"] | None = Field(
        None,
        description="Role of new users at their first sign-in. Unset: unknown users cannot sign "
        "in. Set it only if all users of the provider belong to your team.",
    )
    oidc_claim: str = Field(
        "email",
        description="Claim that names the user; an e-mail address must be verified by the "
        "provider.",
    )
    oidc_hours: float = Field(12.0, gt=0, description="Hours until a sign-in expires.")

    # Webhooks
    webhook_secret: str | None = Field(
        None, description="Key that signs webhook requests. Unset: no webhooks are sent."
    )
    webhook_hosts: Names = Field(
        (), description="Hosts in private networks that webhooks may call, comma-separated."
    )

    # Workers
    worker_name: str | None = Field(
        None, description="Unique name of a worker. Default: host name and process ID."
    )
    device: Literal["cpu", "cuda"] | None = Field(
        None, description="Device of a worker. Default: the visible GPU, else the CPU."
    )
    lease_seconds: float = Field(
        15.0,
        gt=0,
        description="Seconds without a sign of life after which a worker's points go to another "
        "worker; the same for all workers.",
    )
    hang_seconds: float = Field(
        1800.0,
        gt=0,
        description="Seconds without progress after which a worker counts as hung and restarts.",
    )
    heartbeat_fd: int | None = Field(
        None,
        ge=0,
        description="File descriptor to which a worker writes a byte per second; `ucurve up` sets "
        "it.",
    )
    hub_cache_gb: float | None = Field(
        None, ge=0, description="Disk space for checkpoints from the hub, in GB. Default: no limit."
    )
    uploads_gb: float = Field(
        20.0,
        ge=0,
        description="Disk space for uploaded texts and examples, in GB; more is refused.",
    )
    tuned_gb: float = Field(
        20.0,
        ge=0,
        description="Disk space for fine-tuned weights, in GB; evicted ones are trained again "
        "when needed.",
    )

    # Operation
    low_disk_gb: float = Field(
        5.0,
        ge=0,
        description="Free disk space below which pages, health checks and `ucurve doctor` warn, in "
        "GB.",
    )
    min_disk_gb: float = Field(
        0.1,
        ge=0,
        description="Free disk space below which workers pause until there is more, in GB.",
    )

    # The Hugging Face Hub
    hf_endpoint: str = Field(
        "https://huggingface.co", validation_alias="HF_ENDPOINT", description="URL of the hub."
    )
    hf_token: str | None = Field(
        None,
        validation_alias="HF_TOKEN",
        description="Access token for private and gated repositories.",
    )
    hf_home: Path = Field(
        Path("~/.cache/huggingface"),
        validate_default=True,
        validation_alias="HF_HOME",
        description="Folder where `hf auth login` stores its token.",
    )
    hf_hub_offline: bool = Field(
        False, validation_alias="HF_HUB_OFFLINE", description="Never contact the hub."
    )

    @field_validator("hosts", "webhook_hosts", mode="before")
    @classmethod
    def _split(cls, value: str | tuple[str, ...]) -> tuple[str, ...]:
        names = value.split(",") if isinstance(value, str) else value
        return tuple(name.strip().lower() for name in names if name.strip())

    @field_validator("models", mode="before")
    @classmethod
    def _folders(cls, value: str | tuple[Path, ...]) -> tuple[Path, ...]:
        names = value.split(os.pathsep) if isinstance(value, str) else map(str, value)
        folders = tuple(Path(name.strip()).expanduser() for name in names if name.strip())
        for folder in folders:
            if not folder.is_absolute():
                raise ValueError(f"{str(folder)!r} is not an absolute path")
        return folders

    @field_validator("artefacts", "database_folder", "token_file", "admin_token_file", "hf_home")
    @classmethod
    def _expand(cls, path: Path | None) -> Path | None:
        return path and path.expanduser()

    @property
    def admin_token(self) -> Path:
        """File of the first admin's API key."""
        return self.admin_token_file or self.artefacts / "admin-token"

    @property
    def admin(self) -> str:
        """Name of the first admin."""
        return self.owner or getpass.getuser()

    @property
    def kind_folders(self) -> list[str]:
        """Folders with experiment types outside the package."""
        return [folder for folder in self.kinds.split(os.pathsep) if folder]


@cache
def settings() -> Settings:
    """The settings of this process. Raises SettingsError."""
    try:
        values = Settings()
    except ValidationError as error:
        raise SettingsError("\n".join(_message(problem) for problem in error.errors())) from error
    refuse_private_models(values)
    return values


def refuse_private_models(values: Settings) -> None:
    """Raise SettingsError where a folder of models holds a secret: any submitter may read it."""
    hub_token = values.hf_home / "token"
    for folder in values.models:
        private = list(private_places(values.artefacts, values.admin_token, hub_token))
        if (place := private_part(folder, private)) is not None:
            raise SettingsError(
                f"UCURVE_MODELS names {folder}, but {place} must stay private: every submitter may "
                "use the files below a folder of models. Name one that holds models and texts only."
            )


def variable(name: str) -> str:
    """Environment variable of a field: UCURVE_ARTEFACTS of `artefacts`."""
    alias = Settings.model_fields[name].validation_alias
    return alias if isinstance(alias, str) else f"UCURVE_{name.upper()}"


def _message(problem: object) -> str:
    assert isinstance(problem, dict)
    place, value = str(problem["loc"][0]), problem["input"]
    field = next(f for f in Settings.model_fields if place in (f, variable(f)))
    description = Settings.model_fields[field].description
    return f"{variable(field)} is {value!r}: {problem['msg']}. {description}"
