"""What a video provider is: the request, the answers, the errors and the capabilities. Pure: values and protocols only.

Errors, all values of one class::

    ProviderError(code)      code is an ErrorCode; `retryable` and `billed` follow from it unless the adapter knows
                             better
    SubmitResult             Accepted(operation) | Rejected(error) | Unknown(error): what one paid call ended in
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from providers.decency import clean, decent_members, is_media_type


class ErrorCode(StrEnum):
    """Why a provider said no, in one vocabulary for all of them."""

    TRANSIENT = "provider_unavailable"
    RATE_LIMITED = "provider_rate_limited"
    INVALID_REQUEST = "provider_rejected"
    MODERATION = "content_blocked"
    AUTH = "provider_auth"
    QUOTA = "provider_quota"
    NOT_FOUND = "provider_not_found"
    TIMEOUT = "provider_timeout"
    PROVIDER_ERROR = "provider_error"
    UNREADABLE = "provider_unreadable"
    CANCELLED = "provider_cancelled"


MAX_ID = 500
MAX_URL = 8000


RETRYABLE = frozenset({ErrorCode.TRANSIENT, ErrorCode.RATE_LIMITED, ErrorCode.UNREADABLE})


class ProviderError(Exception):
    """A refusal or failure reported by a provider, or by the way to it.

    Args:
        code: the taxonomy's word.
        message: one sentence for people, without secrets, at most 500 characters.
        retry_after: seconds the provider asked us to wait, if it did.
        provider_code: the provider's own code, if it gave one.
        http_status: the status line's number, if there was an answer.
        retryable: whether the same *idempotent* call may succeed later; from the code unless given.
        billed: what is known about the charge: True, False, or None for unknown.
        resubmit: the adapter declares (with a dated source) that this final failure was not billed and may be
        submitted anew.
    """

    def __init__(
        self,
        code: ErrorCode,
        message: str,
        *,
        retry_after: float | None = None,
        provider_code: str | None = None,
        http_status: int | None = None,
        retryable: bool | None = None,
        billed: bool | None = None,
        resubmit: bool = False,
    ) -> None:
        self.message = clean(message)
        super().__init__(self.message)
        self.code = code
        self.retry_after = retry_after
        self.provider_code = None if provider_code is None else clean(provider_code)
        self.http_status = http_status
        self.retryable = code in RETRYABLE if retryable is None else retryable
        self.billed = billed
        self.resubmit = resubmit


@dataclass(frozen=True, slots=True)
class Media:
    """An input picture: either a URL that the provider fetches, or the bytes themselves."""

    url: str | None = None
    data: bytes | None = None
    mime_type: str | None = None


@dataclass(frozen=True, slots=True)
class VideoRequest:
    """What is asked of a provider. `duration` in seconds, `seed` 0..2**32-1, `image` is the first frame, `extra` is
    merged last into the provider's JSON body, member by member."""

    prompt: str
    model: str | None = None
    duration: int | None = None
    aspect_ratio: str | None = None
    resolution: str | None = None
    seed: int | None = None
    audio: bool | None = None
    negative_prompt: str | None = None
    image: Media | None = None
    last_image: Media | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SubmitContext:
    """What travels beside the request: our token for this one paid call, and where the provider may call back."""

    token: str
    callback_url: str | None = None


@dataclass(frozen=True, slots=True)
class Operation:
    """The provider's unit of work. `data` is the adapter's own JSON: whatever it needs to poll, cancel and download.

    Of an operation that only a callback or a person named, `data` is {"model": ...}: adapters must be able to poll by
    the id and the model alone.
    What an answer put into `data` is not kept where it is too long (MAX_DATA in all) or no decent text: an address with
    a control character in it would be of no use.
    Raises ValueError for an id that is no decent text: then the answer that held it is unreadable.
    """

    id: str
    data: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 < len(self.id) <= MAX_ID or not self.id.isprintable():
            raise ValueError("an operation's id is 1 to 500 printable characters")
        kept = decent_members(self.data)
        if len(kept) < len(self.data):
            object.__setattr__(self, "data", kept)


@dataclass(frozen=True, slots=True)
class Accepted:
    """The provider took the work: from here on it may be charged."""

    operation: Operation


@dataclass(frozen=True, slots=True)
class Rejected:
    """The provider surely did not take the work (or nothing of the request left this machine)."""

    error: ProviderError


@dataclass(frozen=True, slots=True)
class Unknown:
    """Nobody can say whether the provider took the work. Never a reason to send it again."""

    error: ProviderError


SubmitResult = Accepted | Rejected | Unknown


class Phase(StrEnum):
    """Where an operation stands at the provider."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Output:
    """A produced file. `expires_at` is Unix seconds; `authenticated` means the provider's key is needed to fetch it; a
    `mime_type` that is none is None.

    Raises ValueError for a URL that no request could be made of.
    """

    url: str
    authenticated: bool = False
    mime_type: str | None = None
    expires_at: float | None = None

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")) or not self.url.isprintable() or len(self.url) > MAX_URL:
            raise ValueError("an output's url is http(s), printable and at most 8,000 characters long")
        if self.mime_type is not None and not is_media_type(self.mime_type):
            object.__setattr__(self, "mime_type", None)


@dataclass(frozen=True, slots=True)
class ProviderStatus:
    """A poll's answer. `progress` is 0..1; `cost_micros` is micro-USD as the provider reports it; `unknown_status` is
    cleaned as errors' words are."""

    phase: Phase
    progress: float | None = None
    outputs: Sequence[Output] = ()
    error: ProviderError | None = None
    cost_micros: int | None = None
    retry_after: float | None = None
    unknown_status: str | None = None

    def __post_init__(self) -> None:
        if self.unknown_status is not None:
            object.__setattr__(self, "unknown_status", clean(self.unknown_status))


@dataclass(frozen=True, slots=True)
class Callback:
    """A provider's doorbell. `event_id` is unique per provider event; nothing else in it is believed."""

    event_id: str
    operation_id: str | None = None


@dataclass(frozen=True, slots=True)
class Stop:
    """What came of asking a provider to stop.

    Args:
        stopped: the provider says that nothing more comes of the work: it was cancelled, or has failed. False where it
            goes on, where nobody can say, and where it has been completed, whose video is there to be fetched.
        billed: whether it is charged all the same: True, False, or None for unknown.
    """

    stopped: bool
    billed: bool | None = None


@dataclass(frozen=True, slots=True)
class Recovery:
    """How an unknown submit can be cleared up, in the order it is tried. All None or False: it cannot.

    Args:
        idempotency_seconds: the same token may be sent again for so long and is charged once.
        lookup_quiet_seconds: work can be listed by token; after so long without a find it surely was not taken.
        callback_seconds: a callback that carries our token can still come for so long.
    """

    idempotency_seconds: float | None = None
    lookup_quiet_seconds: float | None = None
    callback_seconds: float | None = None


class Audio(StrEnum):
    """Whether a model's videos have sound: never, always, or as the request says."""

    NEVER = "never"
    ALWAYS = "always"
    OPTIONAL = "optional"


@dataclass(frozen=True, slots=True)
class Model:
    """What one model can be asked for, so that the rest is refused before anything is paid.

    Args:
        durations: allowed lengths in seconds; empty: none can be chosen.
        aspect_ratios, resolutions: allowed words; empty: none can be chosen.
        default_duration, default_resolution: what is asked for where the request says nothing; None: the model decides.
        max_prompt: characters of a prompt at most.
        image_url, image_data: whether a first frame can be given by address, and as bytes; `last_image` a last one too.
        needs_image: whether nothing can be made without a first frame.
        prices: list price in micro-USD per second of video by resolution; the key `*` is for all others.
        per_image: what is charged beside that for each input picture, in micro-USD.
        typical_seconds: how long a generation usually takes, until our own history tells.
    """

    id: str
    durations: Sequence[int] = ()
    aspect_ratios: Sequence[str] = ()
    resolutions: Sequence[str] = ()
    default_duration: int | None = None
    default_resolution: str | None = None
    max_prompt: int = 4000
    seed: bool = False
    audio: Audio = Audio.NEVER
    negative_prompt: bool = False
    image_url: bool = False
    image_data: bool = False
    last_image: bool = False
    needs_image: bool = False
    prices: Mapping[str, int] = field(default_factory=dict)
    per_image: int = 0
    typical_seconds: float = 60.0


@dataclass(frozen=True, slots=True)
class Retired:
    """A model that a provider has shut down: since when (a date in words), and what to ask for instead."""

    on: str
    successor: str


@dataclass(frozen=True, slots=True)
class Catalogue:
    """What a provider's models can do and cost, as of `date` (ISO 8601). Comes from a data file, never from code.

    Args:
        default_model: the one that is meant where a request names none; a key of `models`.
        retired: models that are refused, by id.
        poll_seconds: the provider's minimum interval between polls.
        play_money: nothing real is ever charged (the mock).
    """

    date: str
    default_model: str
    models: Mapping[str, Model]
    retired: Mapping[str, Retired] = field(default_factory=dict)
    poll_seconds: float = 5.0
    play_money: bool = False


class Signed(StrEnum):
    """How a provider's callbacks can be told from forged ones: not offered at all, by our token in the URL alone, or
    signed as well."""

    NONE = "none"
    TOKEN = "token"  # noqa: S105 - a word, no secret
    SIGNED = "signed"


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a provider offers.

    Args:
        cancel: whether it can be asked to stop.
        callbacks: whether it rings when the work ends, and how that is verified.
        recovery: how an unknown submit can be cleared up.
        reserved: members of the provider's body, as dotted paths (`input.prompt`), that `extra` may not set in any
            spelling, since Dailies does: what is checked and priced is what is sent. What no provider's `extra` may
            set is in `providers.reserved`.
    """

    catalogue: Catalogue
    cancel: bool = False
    callbacks: Signed = Signed.NONE
    recovery: Recovery = Recovery()
    reserved: frozenset[str] = frozenset()


class Download(Protocol):
    """An open body. `length` is the announced size in bytes, if any; `chunks` may raise ProviderError."""

    length: int | None
    content_type: str | None

    def chunks(self) -> AsyncIterator[bytes]:
        """The bytes, as they come."""
        ...


class Provider(Protocol):
    """A video provider over HTTP.

    Every method but `submit` is free of charge and may be repeated; they raise ProviderError.
    """

    name: str
    capabilities: Capabilities

    async def submit(self, request: VideoRequest, context: SubmitContext) -> SubmitResult:
        """Make the one possibly-paid call: one POST, no retry, no redirect. Never raises for what the wire did.

        The request comes settled (`providers.checks.settled`): its model is named, and what that leaves open is filled
        in from the catalogue. Of a model that the catalogue does not know nothing is filled in: what is None is left
        out of the body.
        """
        ...

    async def poll(self, operation: Operation) -> ProviderStatus:
        """Where the operation stands. An unknown status word counts as running and is named in the answer."""
        ...

    async def cancel(self, operation: Operation) -> Stop:
        """Ask the provider to stop. Only called where `capabilities.cancel` is set."""
        ...

    async def lookup(self, token: str) -> Operation | None:
        """Find work by our token. Only called where `recovery.lookup_quiet_seconds` is set."""
        ...

    def download(self, output: Output) -> AbstractAsyncContextManager[Download]:
        """Open a produced file. NOT_FOUND means that the link has expired: poll again for a fresh one."""
        ...

    async def read_callback(self, headers: Mapping[str, str], body: bytes, now: float) -> Callback:
        """Verify and read a doorbell; `now` in Unix seconds bounds its age.

        Raises ProviderError: INVALID_REQUEST when it is not what this provider sends, AUTH when its signature is wrong
        or too old, TRANSIENT when the keys to verify it cannot be had just now (the provider rings again).
        """
        ...
