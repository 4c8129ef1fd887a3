"""Veo on Google Cloud (Vertex AI), with a service account.

    POST {url}/v1/projects/P/locations/L/publishers/google/models/M:predictLongRunning   -> {"name": operation}
    POST {url}/v1/.../models/M:fetchPredictOperation  {"operationName"}   -> {"done", "error": {"code", "message"},
                     "response": {"videos": [{"gcsUri" | "bytesBase64Encoded"}], "raiMediaFilteredReasons"}}
    GET  {storage_url}/storage/v1/b/{bucket}/o/{object}?alt=media          the file, with the same token

Sources: google-genai 3.4.0 (2026-11-16; requests measured 2026-11-24, under /v1beta1), Google Cloud's REST reference
(/v1) and its page on responsible AI (2026-11). There is no idempotency key, no callback, no list that shows labels and
no cancel that the SDK knows of: an unknown submit cannot be cleared up by itself. Whether it charges what failed or
was filtered, Google does not say.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from urllib.parse import quote, unquote

from providers.base import (
    Callback,
    Capabilities,
    Download,
    ErrorCode,
    Operation,
    Output,
    ProviderError,
    ProviderStatus,
    Rejected,
    Stop,
    SubmitContext,
    SubmitResult,
    VideoRequest,
)
from providers.catalogue import load_catalogue
from providers.google_token import ServiceAccount
from providers.google_veo_wire import (
    INLINE,
    RESERVED,
    build_body,
    explained_refusal,
    model_path,
    operation_name,
    read_status,
    read_submitted,
)
from providers.google_wire import read_error
from providers.options import address, only, required
from providers.wire import Call, Clients, call_json, download, open_inline, submit_once

NAME = "google_veo"
STORAGE_URL = "https://storage.googleapis.com"
POLL_DEADLINE = 120.0
"""Seconds for a poll's answer, which may have a whole video in it."""

_PROJECT = re.compile(r"[a-z0-9][a-z0-9.:-]{0,99}")
_LOCATION = re.compile(r"[a-z0-9-]{1,40}")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,221}[a-z0-9](/[^?#]*)?")
_INLINE_OUTPUT = re.compile(r"(.*)#inline=(\d{1,9})")


class GoogleVeo:
    """Veo over HTTP.

    Args:
        clients: the HTTP clients.
        project, location: of Google Cloud; `us-central1` and the like, or `global`.
        account: makes the tokens.
        bucket: where results go, `gs://bucket/folder`; None: they come inside the poll's answer.
        url: the API's address; follows from the location unless given.
        storage_url: Cloud Storage's address.
    """

    name = NAME

    def __init__(
        self,
        clients: Clients,
        *,
        project: str,
        account: ServiceAccount,
        location: str = "us-central1",
        bucket: str | None = None,
        url: str | None = None,
        storage_url: str = STORAGE_URL,
    ) -> None:
        self._clients, self._account, self._bucket, self._storage = clients, account, bucket, storage_url
        self._parent = f"projects/{project}/locations/{location}"
        self._base = f"{url or default_url(location)}/v1"
        self.capabilities = Capabilities(catalogue=load_catalogue(NAME), reserved=RESERVED)

    @classmethod
    def from_options(cls, clients: Clients, options: Mapping[str, str]) -> GoogleVeo:
        """Make one from texts: `project` and `credentials` (the path of a service account's key file, read when it is
        needed), and perhaps `location`, `bucket`, `url`, `storage_url`.

        Raises NotConfigured without the first two, ValueError for an option that is unknown or wrong.
        """
        only(NAME, options, "project", "location", "credentials", "bucket", "url", "storage_url")
        project, credentials = required(NAME, options, "project", "credentials")
        location = options.get("location") or "us-central1"
        if not _PROJECT.fullmatch(project) or not _LOCATION.fullmatch(location):
            raise ValueError("google_veo's project and location are words such as my-project and us-central1")
        return cls(
            clients,
            project=project,
            location=location,
            account=ServiceAccount(clients.calls, Path(credentials), clock=clients.clock),
            bucket=_bucket(options.get("bucket")),
            url=address(NAME, options, "url", default_url(location)),
            storage_url=address(NAME, options, "storage_url", STORAGE_URL),
        )

    async def submit(self, request: VideoRequest, context: SubmitContext) -> SubmitResult:
        """See `Provider.submit`. Without a token nothing is sent."""
        model = request.model or self.capabilities.catalogue.default_model
        try:
            body = build_body(request, context, self._bucket)
            token = await self._account.token()
        except ValueError as error:
            return Rejected(ProviderError(ErrorCode.INVALID_REQUEST, str(error), billed=False))
        except ProviderError as error:
            error.billed = False
            return Rejected(error)
        call = self._call(f"{model_path(self._parent, model)}:predictLongRunning", token, body)
        result = await submit_once(self._clients.submit, call, read=read_submitted, read_error=_read_error)
        if isinstance(result, Rejected) and result.error.http_status == 401:
            self._account.forget(token)
        return result

    async def poll(self, operation: Operation) -> ProviderStatus:
        """See `Provider.poll`."""
        name = operation_name(operation, self._parent, self.capabilities.catalogue.default_model)
        token = await self._account.token()
        try:
            answer = await call_json(
                self._clients.calls,
                self._fetch(name, token),
                read_error=_read_error,
                deadline=POLL_DEADLINE,
                inline=INLINE,
            )
        except ProviderError as error:
            if error.http_status == 401:
                self._account.forget(token)
            raise
        return read_status(answer.document(), self._address(name), self._storage)

    async def cancel(self, operation: Operation) -> Stop:
        """Never called: Veo's operations cannot be cancelled (no method in google-genai 3.4.0)."""
        return Stop(stopped=False)

    async def lookup(self, token: str) -> Operation | None:
        """Never called: operations cannot be listed by a label."""
        raise ProviderError(ErrorCode.INVALID_REQUEST, "Veo lists no operations")

    def download(self, output: Output) -> AbstractAsyncContextManager[Download]:
        """See `Provider.download`. A file inside a poll's answer is asked for by that poll again."""
        return self._open(output)

    async def read_callback(self, headers: Mapping[str, str], body: bytes, now: float) -> Callback:
        """Veo rings nobody."""
        raise ProviderError(ErrorCode.INVALID_REQUEST, "Veo on Google Cloud has no callbacks")

    @contextlib.asynccontextmanager
    async def _open(self, output: Output) -> AsyncIterator[Download]:
        token = await self._account.token()
        inline = _INLINE_OUTPUT.fullmatch(output.url)
        if inline and inline[1].startswith(f"{self._base}/projects/"):
            call = self._fetch(unquote(inline[1].removeprefix(f"{self._base}/")), token)
            opened = open_inline(self._clients.calls, call, INLINE, int(inline[2]), read_error=_read_error)
        else:
            headers = {self._storage: _bearer(token)}
            opened = download(self._clients.fetch, output.url, headers_for_origin=headers)
        async with opened as file:
            yield file

    def _fetch(self, name: str, token: str) -> Call:
        path = name.rpartition("/operations/")[0]
        return self._call(f"{path}:fetchPredictOperation", token, {"operationName": name})

    def _call(self, path: str, token: str, body: object) -> Call:
        return Call("POST", self._address(path), _bearer(token), body)

    def _address(self, path: str) -> str:
        return f"{self._base}/{quote(path, safe='/:')}"


def default_url(location: str) -> str:
    """The API's address in a location."""
    return f"https://{'' if location == 'global' else location + '-'}aiplatform.googleapis.com"


def _bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def _bucket(given: str | None) -> str | None:
    if not given:
        return None
    bucket = given.removeprefix("gs://").rstrip("/")
    if not _BUCKET.fullmatch(bucket) or not bucket.isprintable():
        raise ValueError("google_veo's bucket is gs://bucket or gs://bucket/folder")
    return f"gs://{bucket}"


def _read_error(status: int, headers: Mapping[str, str], body: object) -> ProviderError:
    return explained_refusal(read_error(status, headers, body))
