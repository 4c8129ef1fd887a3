"""Settings: the only reader of the environment. Every one is listed in `.env.example`, which a test compares with this
file."""

from __future__ import annotations

import re
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Literal, get_args
from urllib.parse import SplitResult, urlsplit

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from pipeline.money import caps_of, micros_of

Network = IPv4Network | IPv6Network

DEFAULT_SCHEDULE = (0.0, 5.0, 300.0, 1800.0, 7200.0, 18000.0, 36000.0, 50400.0, 72000.0, 86400.0)
"""Seconds before each webhook attempt, as the Standard Webhooks specification suggests: 10 attempts over 75 hours."""

LOOPBACK_HOSTS = frozenset({"127.0.0.1", "localhost", "::1"})


class SettingsError(Exception):
    """The settings cannot be used; the message names each variable, what is wrong and what would be right."""


class Settings(BaseSettings):
    """Everything that can be set, with its default. Names on the outside are the field names in capitals; times are in
    seconds."""

    model_config = SettingsConfigDict(
        env_file=".env", env_file_encoding="utf-8", extra="ignore", frozen=True, allow_inf_nan=False
    )

    # Where it runs
    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    public_url: str | None = None
    data_dir: Path = Path("data")
    database_url: str | None = None
    database_listen_url: str | None = None
    log_format: Literal["auto", "json", "text"] = "auto"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    otlp_endpoint: str | None = None

    # Who may call
    api_key: Annotated[tuple[SecretStr, ...], NoDecode] = ()
    secret_key: Annotated[tuple[SecretStr, ...], NoDecode] = ()
    key_rate_per_minute: int = Field(600, ge=0, le=1_000_000)
    cors_origins: Annotated[tuple[str, ...], NoDecode] = ()
    max_watchers: int = Field(500, ge=0)
    max_body_bytes: int = Field(30_000_000, ge=1_000)

    # Providers
    provider: str | None = None
    fallback: Annotated[tuple[str, ...], NoDecode] = ()
    extra_allowed: Annotated[tuple[str, ...], NoDecode] = ()
    allow_mock: bool = False
    mock_url: str = "http://127.0.0.1:8001"
    mock_recovery: Literal["key", "lookup", "callback", "none"] = "key"
    mock_speed: float = Field(30.0, gt=0)
    submit_timeout: float = Field(120.0, gt=0)
    provider_timeout: float = Field(30.0, gt=0)
    on_unknown_submit: Literal["hold", "fail", "resubmit"] = "fail"
    late_results: Literal["keep", "drop"] = "drop"
    max_submissions: int = Field(3, ge=1, le=10)
    max_in_flight: int = Field(200, ge=1)
    provider_max_in_flight: Annotated[tuple[str, ...], NoDecode] = ()
    user_max_in_flight: int | None = Field(None, ge=1)
    requests_per_minute: Annotated[tuple[str, ...], NoDecode] = ()
    lane_pause: float = Field(60.0, gt=0)
    spend_per_user_day: str = "5"
    spend_per_tenant_day: str = "20"
    spend_per_provider_day: str = "20"
    spend_per_day: str = "50"

    # The providers that can be asked: what begins with a provider's name is handed to it
    google_omni_api_key: SecretStr | None = None
    google_omni_url: str = "https://generativelanguage.googleapis.com"
    google_omni_api_version: Literal["v1", "v1beta"] = "v1"
    google_omni_webhook_secret: SecretStr | None = None
    google_veo_project: str | None = None
    google_veo_location: str = "us-central1"
    google_veo_credentials: Path | None = None
    google_veo_bucket: str | None = None
    google_veo_url: str | None = None
    google_veo_storage_url: str = "https://storage.googleapis.com"
    fal_api_key: SecretStr | None = None
    fal_url: str = "https://queue.fal.run"
    fal_jwks_url: str = "https://rest.fal.ai/.well-known/jwks.json"
    replicate_api_key: SecretStr | None = None
    replicate_url: str = "https://api.replicate.com/v1"
    replicate_webhook_secret: SecretStr | None = None
    runway_api_key: SecretStr | None = None
    runway_url: str = "https://api.dev.runwayml.com"
    openrouter_api_key: SecretStr | None = None
    openrouter_url: str = "https://openrouter.ai/api/v1"
    openrouter_webhook_secret: SecretStr | None = None
    luma_api_key: SecretStr | None = None
    luma_url: str = "https://agents.lumalabs.ai/v1"
    openai_videos_api_key: SecretStr | None = None
    openai_videos_url: str | None = None

    # The worker
    poll_interval: float = Field(5.0, gt=0)
    poll_interval_max: float = Field(15.0, gt=0)
    max_attempts: int = Field(3, ge=1)
    store_attempts: int = Field(1000, ge=1)
    generation_timeout: float = Field(1200.0, gt=0)
    queue_timeout: float = Field(86400.0, gt=0)
    turn_timeout: float = Field(900.0, gt=0)
    retry_base: float = Field(2.0, ge=0)
    retry_max: float = Field(300.0, ge=0)
    lease: float = Field(10.0, gt=0)
    drain_timeout: float = Field(20.0, ge=0)
    slots_submit: int = Field(16, ge=1)
    slots_poll: int = Field(512, ge=1)
    slots_store: int = Field(8, ge=1)
    slots_deliver: int = Field(256, ge=1)
    max_batch_size: int = Field(256, ge=1, le=10_000)
    max_batch_timeout: float = Field(0.0, ge=0, le=60)

    # How long things are kept: seconds after their end, 0 is for ever
    keep_videos: float = Field(0.0, ge=0)
    keep_inputs: float = Field(30 * 86400.0, ge=0)
    keep_generations: float = Field(0.0, ge=0)
    keep_ledger: float = Field(0.0, ge=0)
    keep_jobs: float = Field(30 * 86400.0, ge=0)
    keep_events: float = Field(90 * 86400.0, ge=0)
    keep_timeline: float = Field(90 * 86400.0, ge=0)
    keep_callbacks: float = Field(30 * 86400.0, ge=0)

    # Webhooks
    webhook_url: str | None = "http://localhost:3000/api/webhooks/worker"
    webhook_secret: Annotated[tuple[SecretStr, ...], NoDecode] = ()
    webhook_events: Annotated[tuple[str, ...], NoDecode] = (
        "generation.completed",
        "generation.failed",
        "generation.cancelled",
    )
    webhook_hosts: Annotated[tuple[str, ...], NoDecode] = ()
    webhook_schedule: Annotated[tuple[float, ...], NoDecode] = DEFAULT_SCHEDULE
    webhook_timeout: float = Field(15.0, gt=0)
    webhook_pause: float = Field(10.0, gt=0)
    webhook_disable_after: float = Field(5 * 86400.0, ge=0)
    operator_webhook_url: str | None = None
    allowed_networks: Annotated[tuple[Network, ...], NoDecode] = ()
    allowed_ports: Annotated[tuple[Annotated[int, Field(ge=1, le=65535)], ...], NoDecode] = (443, 8443)
    egress_proxy: SecretStr | None = None

    # Files
    max_video_bytes: int = Field(5_000_000_000, ge=1_000)
    max_image_bytes: int = Field(20_000_000, ge=1_000)
    spool_bytes: int = Field(20_000_000_000, ge=1_000)
    link_lifetime: float = Field(30 * 86400.0, gt=0)
    r2_account_id: str | None = None
    r2_access_key_id: str | None = None
    r2_secret_access_key: SecretStr | None = None
    r2_bucket: str | None = None
    r2_endpoint_url: str | None = None
    r2_public_url: str | None = None
    r2_prefix: str = ""

    @field_validator(
        "api_key",
        "secret_key",
        "webhook_secret",
        "webhook_events",
        "webhook_hosts",
        "webhook_schedule",
        "cors_origins",
        "fallback",
        "extra_allowed",
        "provider_max_in_flight",
        "requests_per_minute",
        "allowed_ports",
        mode="before",
    )
    @classmethod
    def _split(cls, value: object) -> object:
        """Lists are written with commas."""
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("allowed_networks", mode="before")
    @classmethod
    def _networks(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(ip_network(part.strip()) for part in value.split(",") if part.strip())
        return value

    @field_validator("*", mode="before")
    @classmethod
    def _empty_is_unset(cls, value: object, info: ValidationInfo) -> object:
        optional = type(None) in get_args(cls.model_fields[info.field_name or ""].annotation)
        return None if value == "" and optional else value

    @field_validator("egress_proxy")
    @classmethod
    def _proxy(cls, value: SecretStr | None) -> SecretStr | None:
        parts = urlsplit("" if value is None else value.get_secret_value())
        rest = f"{parts.path.strip('/')}{parts.query}{parts.fragment}"
        if value is not None and (parts.scheme != "http" or not parts.hostname or rest or _port_of(parts) == 0):
            raise ValueError("is no proxy: it looks like http://proxy.internal:3128, with user:password@ if needed")
        return value

    @field_validator("webhook_schedule")
    @classmethod
    def _schedule(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if not value or min(value) < 0:
            raise ValueError("needs at least one wait in seconds, none below 0")
        return value

    @field_validator("*")
    @classmethod
    def _url(cls, value: object, info: ValidationInfo) -> object:
        if not (info.field_name or "").endswith("_url") or info.field_name in {"database_url", "database_listen_url"}:
            return value
        text = str(value)
        if value is not None and not (text.startswith(("http://", "https://")) and urlsplit(text).hostname):
            raise ValueError("is no URL: it begins with http:// or https:// and names a host")
        return value

    @field_validator("cors_origins")
    @classmethod
    def _origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        """As browsers write them, since that is what they are compared with."""
        for origin in value:
            if origin != "*" and not re.fullmatch(r"https?://(\[[0-9a-f:]+\]|[a-z0-9._-]+)(:[0-9]{1,5})?", origin):
                raise ValueError(
                    f"{origin!r} is no origin such as https://app.example.com, in lower case, without a path"
                )
        return value

    @field_validator("database_url")
    @classmethod
    def _database_url(cls, value: str | None) -> str | None:
        value = _named_in_full(value)
        if value is not None and not value.startswith(("sqlite:", "postgresql:", "postgresql+psycopg:")):
            raise ValueError("begins with sqlite:///path or postgresql://")
        return value

    @field_validator("database_listen_url")
    @classmethod
    def _database_listen_url(cls, value: str | None) -> str | None:
        value = _named_in_full(value)
        if value is not None and not value.startswith(("postgresql:", "postgresql+psycopg:")):
            raise ValueError("begins with postgresql://")
        return value

    @field_validator("spend_per_user_day", "spend_per_tenant_day", "spend_per_day")
    @classmethod
    def _sum(cls, value: str) -> str:
        micros_of(value)
        return value

    @field_validator("spend_per_provider_day")
    @classmethod
    def _sums(cls, value: str) -> str:
        caps_of(value)
        return value

    @field_validator("provider_max_in_flight", "requests_per_minute")
    @classmethod
    def _numbers(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        """Each names a provider once."""
        for entry in value:
            if not re.fullmatch(r"[a-z0-9_]+:[1-9][0-9]{0,5}", entry):
                raise ValueError(f"{entry!r} is no provider with its number, such as fal:40")
        if len({entry.partition(":")[0] for entry in value}) < len(value):
            raise ValueError("names a provider twice")
        return value

    @field_validator("r2_prefix")
    @classmethod
    def _prefix(cls, value: str) -> str:
        if value and not re.fullmatch(r"([A-Za-z0-9_-][A-Za-z0-9._-]*/)+", value):
            raise ValueError("is a folder's name such as dailies/ with a / at its end")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Settings:
        if self.keep_ledger and not 0 < self.keep_generations <= self.keep_ledger:
            raise ValueError(
                "KEEP_LEDGER needs a KEEP_GENERATIONS that is not longer: what was paid for a generation"
                " is known at least as long as the generation"
            )
        if self.poll_interval_max < self.poll_interval:
            raise ValueError("POLL_INTERVAL_MAX is below POLL_INTERVAL")
        r2 = {
            "R2_ACCESS_KEY_ID": self.r2_access_key_id,
            "R2_SECRET_ACCESS_KEY": self.r2_secret_access_key,
            "R2_BUCKET": self.r2_bucket,
            "R2_ACCOUNT_ID or R2_ENDPOINT_URL": self.r2_account_id or self.r2_endpoint_url,
        }
        missing = [name for name, value in r2.items() if not value]
        if missing and len(missing) < len(r2):
            raise ValueError(f"R2 is half set: also needed are {', '.join(missing)}")
        return self

    def options_of(self, provider: str) -> dict[str, str]:
        """What is set for a provider, as texts: every setting that begins with its name, without that."""
        options = {}
        for name in type(self).model_fields:
            value = getattr(self, name)
            if name.startswith(f"{provider}_") and value is not None:
                secret = value.get_secret_value() if isinstance(value, SecretStr) else value
                options[name.removeprefix(f"{provider}_")] = str(secret)
        return options

    @property
    def uses_r2(self) -> bool:
        """Files go to R2 (or another S3) once its four variables are set; else to `DATA_DIR/files`."""
        return self.r2_bucket is not None

    @property
    def files_url(self) -> str | None:
        """Where what we store is published, if the bucket is public."""
        return f"{self.r2_public_url.rstrip('/')}/{self.r2_prefix}" if self.r2_public_url else None

    @property
    def on_loopback(self) -> bool:
        """Whether only this machine can reach the service."""
        return self.host in LOOPBACK_HOSTS

    @property
    def base_url(self) -> str:
        """How the outside reaches the API, without a trailing slash."""
        return (self.public_url or f"http://localhost:{self.port}").rstrip("/")

    @property
    def database(self) -> str:
        """The SQLAlchemy URL: `DATABASE_URL`, or one SQLite file in `DATA_DIR`."""
        return self.database_url or f"sqlite:///{self.data_dir / 'dailies.db'}"


def _named_in_full(url: str | None) -> str | None:
    """`postgres://`, as hosts of databases hand it out, by its full name."""
    return url if url is None else re.sub(r"^\s*postgres://", "postgresql://", url).strip()


def _port_of(parts: SplitResult) -> int | None:
    try:
        return parts.port
    except ValueError:
        return 0


def load_settings(**overrides: object) -> Settings:
    """Read the environment and `.env`. Raises SettingsError with one line per mistake."""
    try:
        return Settings(**overrides)  # type: ignore[arg-type]
    except ValidationError as error:
        lines = [
            f"{'.'.join(str(part) for part in item['loc']).upper() or 'settings'}: {item['msg']}"
            for item in error.errors(include_input=False, include_url=False)
        ]
        raise SettingsError("\n".join(lines)) from None
