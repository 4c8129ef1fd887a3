"""Bodies of requests and answers about webhook endpoints; see `requests` and `responses`."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints, field_validator

from pipeline.schemas.requests import Body, Short, Url, Whole
from pipeline.schemas.responses import Answer, Count, Time
from webhooks.events import DEFAULT, FAMILIES, EventType, validate_filter
from webhooks.signing import InvalidSecret, parse_secret

MAX_HEADERS = 10
MAX_OVERLAP = 7 * 86_400
DAY = 86_400

_NAME = r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}"
_TAKEN = (
    *("host", "connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "expect", "date", "via"),
    *("accept", "accept-encoding", "user-agent", "cookie", "traceparent", "tracestate", "forwarded", "range"),
    "x-real-ip",
)
_TAKEN_FAMILIES = ("content-", "webhook-", "proxy-", "sec-", "x-forwarded-", "if-")
_VALUE = r"^[!-~](?:[ -~\t]{0,998}[!-~])?$"


def _event_filter(names: list[str]) -> list[str]:
    return list(validate_filter(names))


def _secret(text: str) -> str:
    try:
        parse_secret(text)
    except InvalidSecret as error:
        raise ValueError(str(error)) from None
    return text


def _plain(name: str) -> str:
    """What a receiver may take a name for: CGI and WSGI make one variable of `X-A` and `x_a` (RFC 3875, 4.1.18)."""
    return name.lower().replace("_", "-")


def check_header_name(name: str) -> str:
    """A name that a custom header may have. Raises ValueError for what we or the connection set ourselves."""
    plain = _plain(name)
    if not re.fullmatch(_NAME, name):
        raise ValueError(f"{name[:70]!r} is no name of a header: 1 to 64 letters, digits, - and _")
    if plain in _TAKEN or plain.startswith(_TAKEN_FAMILIES):
        raise ValueError(f"{name!r} is set by the sender or the connection; call it otherwise")
    return name


Headers = Annotated[
    dict[
        Annotated[str, AfterValidator(check_header_name)],
        Annotated[str, StringConstraints(pattern=_VALUE)],
    ],
    Field(
        max_length=MAX_HEADERS,
        description="sent along; only their names are ever shown",
        json_schema_extra={"propertyNames": {"pattern": f"^{_NAME}$"}},
    ),
]
_Type = Annotated[Short, Field(json_schema_extra={"enum": [*(name.value for name in EventType), *FAMILIES]})]
Events = Annotated[
    list[_Type],
    Field(min_length=1, max_length=20, description="types, and `generation.*` for all of them"),
    AfterValidator(_event_filter),
]
InFlight = Annotated[int, Field(ge=1, le=100, description="deliveries at once; null is the service's own bound"), Whole]
Rate = Annotated[int, Field(ge=1, le=60_000, description="deliveries per minute; null is no bound"), Whole]
Signing = Literal["v1", "v1a", "both"]
GivenSecret = Annotated[
    str,
    Field(
        description="your own `whsec_...`: base64 of 24 to 64 random bytes; else one is made",
        json_schema_extra={"pattern": "^whsec_[A-Za-z0-9+/]{32,86}={0,2}$"},
    ),
    AfterValidator(_secret),
]


class _WithHeaders(Body):
    """Headers are named once."""

    @field_validator("headers", check_fields=False)
    @classmethod
    def _each_once(cls, value: dict[str, str] | None) -> dict[str, str] | None:
        if value is not None and len({_plain(name) for name in value}) < len(value):
            raise ValueError("names a header twice: upper and lower case are the same, and so are - and _")
        return value


class EndpointCreate(_WithHeaders):
    """Where events are to go, and which."""

    url: Url
    events: Annotated[Events, Field(description="types, and `generation.*` for all of them; else the three ends")] = (
        Field(default_factory=lambda: sorted(each.value for each in DEFAULT))
    )
    description: Short | None = None
    headers: Headers = Field(default_factory=dict)
    ordered: Annotated[bool, Field(description="later events of a generation wait for earlier ones")] = False
    max_in_flight: InFlight | None = None
    rate_per_minute: Rate | None = None
    signing: Annotated[Signing, Field(description="`v1` is HMAC, `v1a` is Ed25519 with a public key")] = "v1"
    secret: GivenSecret | None = None


class EndpointUpdate(_WithHeaders):
    """What is to change; members that are left out stay as they are."""

    url: Url = Field(default_factory=str)
    events: Events = Field(default_factory=list)
    description: Short | None = None
    headers: Annotated[Headers, Field(description="all of them anew; a value `***` keeps the one that is kept")] = (
        Field(default_factory=dict)
    )
    ordered: bool = Field(default_factory=bool)
    max_in_flight: InFlight | None = None
    rate_per_minute: Rate | None = None


class SecretRotate(Body):
    """How the secrets are replaced. Old ones go on signing for the overlap; with none they are gone at once."""

    overlap_seconds: Annotated[int, Field(ge=0, le=MAX_OVERLAP), Whole] = DAY
    signing: Annotated[Signing | None, Field(description="another way to sign; else as before")] = None
    secret: GivenSecret | None = None


class EndpointDisable(Body):
    """Why, for people."""

    reason: Short | None = None


class ShownSecret(Answer):
    """A live secret, as far as it may be shown."""

    kind: Literal["v1", "v1a"]
    hint: Annotated[str | None, Field(description="how it begins")]
    public_key: Annotated[str | None, Field(description="`whpk_...` of `v1a`, to verify with")]
    created_at: Time
    expires_at: Annotated[Time | None, Field(description="until when it signs; null for a current one")]


class ShownPause(Answer):
    """Nothing is sent there for now."""

    until: Time
    reason: str | None


class LastAttempt(Answer):
    """How the last attempt to deliver went."""

    at: Time
    delivery: str
    status: int | None
    reason: str
    detail: str


class Endpoint(Answer):
    """Where events go, and how it fares."""

    id: Annotated[str, Field(pattern="^ep_[0-9A-Za-z]+$")]
    object: Literal["endpoint"]
    tenant: str
    url: str
    events: list[str]
    description: str | None
    headers: Annotated[dict[str, str], Field(description="names, each with `***`")]
    ordered: bool
    max_in_flight: int | None
    rate_per_minute: int | None
    from_settings: Annotated[bool, Field(description="its url, events and secret are those of the settings")]
    signing: Signing
    secrets: list[ShownSecret]
    enabled: bool
    disabled_at: Time | None
    disabled_reason: str | None
    failing_since: Annotated[Time | None, Field(description="since when nothing arrives")]
    paused: Annotated[ShownPause | None, Field(description="left alone for now, by a failing receiver or its wish")]
    last_attempt: LastAttempt | None
    created_at: Time
    updated_at: Time | None


class EndpointWithSecret(Endpoint):
    """The same with its new secret, which nobody can read again."""

    secret: Annotated[str | None, Field(description="`whsec_...`; null for `v1a` alone, whose public key is above")]


class EndpointList(Answer):
    """A page of endpoints, newest first."""

    object: Literal["list"]
    data: list[Endpoint]
    has_more: bool
    next_cursor: str | None


class Phases(Answer):
    """Where the time went, in milliseconds; null where there was no such phase."""

    dns: Count | None
    connect: Count | None
    tls: Count | None
    first_byte: Count | None


class EndpointTest(Answer):
    """How a test went."""

    object: Literal["endpointTest"]
    endpoint: str
    event_id: str
    delivered: bool
    status: Annotated[int | None, Field(description="the receiver's HTTP status")]
    reason: str
    detail: Annotated[str, Field(description="what happened, and what to do about it")]
    milliseconds: Count
    phases: Phases
    address: Annotated[str | None, Field(description="the IP address that was reached")]
    response: Annotated[str, Field(description="the beginning of the receiver's body")]
