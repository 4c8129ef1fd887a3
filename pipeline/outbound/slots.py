"""How many requests may be under way to one host. The next wait their turn, and hosts never wait for each other."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import httpx


@dataclass(slots=True)
class _Place:
    free: asyncio.Semaphore
    users: int = 0


class Slots:
    """Counted places per host. Nothing is kept for a host that nobody uses."""

    def __init__(self, per_host: int) -> None:
        self._per_host = per_host
        self._places: dict[str, _Place] = {}

    async def take(self, host: str, timeout: float | None) -> None:
        """Wait for a place, at most `timeout` seconds, then raise httpx.PoolTimeout. Each `take` needs one `give`."""
        place = self._places.get(host)
        if place is None:
            place = self._places[host] = _Place(asyncio.Semaphore(self._per_host))
        place.users += 1
        if not place.free.locked():
            await place.free.acquire()  # does not wait
            return
        try:
            async with asyncio.timeout(timeout):
                await place.free.acquire()
        except TimeoutError:
            self._leave(host, place)
            raise httpx.PoolTimeout(f"all {self._per_host} connections to {host} stayed busy") from None
        except BaseException:
            self._leave(host, place)
            raise

    def give(self, host: str) -> None:
        """Hand a place to the next in line."""
        place = self._places[host]
        place.free.release()
        self._leave(host, place)

    def _leave(self, host: str, place: _Place) -> None:
        place.users -= 1
        if not place.users:
            del self._places[host]
