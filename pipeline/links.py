"""Links that we hand out: to a generation, and to its video for as long as it is kept. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from urllib.parse import quote, urlsplit

from pipeline.db import Row
from pipeline.keys import Signer
from pipeline.lifecycle import Stage


def has_video(row: Row) -> bool:
    """Whether a video was stored for a generation that has ended: completed, or kept although it came late."""
    late = row["video_key"] is not None and row["finished_at"] is not None
    return row["status"] == "completed" or (late and row["status"] in {"cancelled", "failed"})


class Links:
    """Args:
    base_url: how the outside reaches the API, without a trailing slash.
    files_url: where the bucket is published (R2_PUBLIC_URL), if it is.
    secrets: SECRET_KEY; the first signs.
    lifetime: seconds after its end for which a video's link works.
    now: Unix seconds; a video whose time has come counts as expired before its file is gone.
    expected: a generation's usual and long time at its provider, in seconds, from memory, for any thread to ask.
    """

    def __init__(
        self,
        base_url: str,
        files_url: str | None,
        secrets: Sequence[str],
        lifetime: float,
        now: Callable[[], float] = lambda: 0.0,
        expected: Callable[[Row], tuple[float, float]] | None = None,
    ) -> None:
        self._now = now
        self._expected = expected
        self._base = base_url
        self._files = files_url.rstrip("/") if files_url else None
        self._videos = Signer(secrets, "content")
        self._readers = Signer(secrets, "read")
        self._lifetime = lifetime

    def of(self, row: Row) -> dict[str, str | None]:
        """A generation's own links."""
        here = f"{self._base}/api/generations/{row['id']}"
        content = f"{here}/content" if has_video(row) and not self.expired(row) else None
        return {"self": here, "events": f"{here}/events", "cancel": f"{here}/cancel", "content": content}

    def expired(self, row: Row) -> bool:
        """Whether a generation's video has ended, or should have by now."""
        due = row["expires_at"] is not None and row["expires_at"] <= self._now() * 1000
        return row["expired_at"] is not None or due

    def eta(self, row: Row) -> tuple[int, int] | None:
        """When a generation's provider should have finished, and should surely have, in milliseconds since 1970; None
        for what no provider works at."""
        if self._expected is None or row["stage"] != Stage.GENERATING or row["accepted_at"] is None:
            return None
        usual, long = self._expected(row)
        return row["accepted_at"] + int(usual * 1000), row["accepted_at"] + int(long * 1000)

    @property
    def host(self) -> str:
        """The name under which the outside reaches the API, in lower case."""
        return urlsplit(self._base).hostname or ""

    def location(self, row: Row) -> str:
        """The path of a generation, for the `Location` header."""
        return f"/api/generations/{row['id']}"

    def video(self, row: Row) -> str | None:
        """A link that plays without a key: the public bucket, or our own `/content` with a token; None once the video
        has expired.

        It is the same however often it is asked for, and outlives the last retry of a webhook, unless the video ends
        before. Then it ends at that time, too.
        """
        if self.expired(row):
            return None
        if self._files:
            return f"{self._files}/{quote(row['video_key'])}"
        ends = row["expires_at"] or row["finished_at"] + self._lifetime * 1000
        expires = int(ends / 1000)
        return f"{self._base}/api/generations/{row['id']}/content?token={self._videos.sign(row['id'], expires)}"

    def may_play(self, generation_id: str, token: str, now: float) -> bool:
        """Whether a token that came with a request opens this generation's video."""
        return self._videos.verify(generation_id, token, now) or self.may_watch(generation_id, token, now)

    def may_watch(self, generation_id: str, token: str, now: float) -> bool:
        """Whether a token opens everything about this one generation: a read token, made for a browser."""
        return self._readers.verify(generation_id, token, now)

    def token_ends(self, token: str) -> int:
        """When a token that opened something ends (Unix seconds)."""
        return self._readers.ends(token)

    def read_token(self, generation_id: str, expires: int) -> str:
        """A token that opens this one generation until `expires` (Unix seconds)."""
        return self._readers.sign(generation_id, expires)
