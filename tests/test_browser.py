"""A real browser without a key: it plays the link of a webhook, and watches a generation from another origin."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from tests.chromium import TELL, needs_chromium, site, visit
from tests.house import free_port, open_house

pytestmark = [pytest.mark.anyio, needs_chromium]

PLAY = """
const v = document.getElementById("v");
const played = () => new Promise((done) => {
  v.onerror = () => done({error: v.error.message});
  v.ontimeupdate = () => { if (v.currentTime > 0.3) { v.ontimeupdate = null;
    done({duration: v.duration, width: v.videoWidth, height: v.videoHeight}); } };
});
"""
LINKED = """<!doctype html><video id="v" muted autoplay src="{url}"></video><script>""" + "{script}</script>"
WATCHED = """<!doctype html><video id="v" muted autoplay></video><script>
{script}
const source = new EventSource({events});
const seen = {{names: [], ids: [], opened: 0}};
source.onopen = () => {{ seen.opened += 1; }};
const heard = (event) => {{ seen.names.push(event.type); seen.ids.push(event.lastEventId); }};
for (const name of {lines}) source.addEventListener(name, heard);
source.addEventListener("generation", (event) => {{ seen.last = JSON.parse(event.data); }});
source.addEventListener("end", async (event) => {{
  seen.end = JSON.parse(event.data);
  v.src = {video};
  seen.video = await played();
}});
source.onerror = () => {{ if (source.readyState === EventSource.CLOSED) tell(seen); }};
</script>"""
LINES = ["queued", "submit.intended", "submit.accepted", "generated", "stored", "completed"]


async def test_chromium_plays_the_video(tmp_path):
    async with open_house(tmp_path) as house, site() as page:
        asked = await house.submit("a fox in a browser", parameters={"duration": 3})
        url = (await house.ended(asked["id"]))["result"]["videoUrl"]
        script = f"{TELL}{PLAY}played().then(tell);"
        seen = await visit(page, LINKED.format(url=url, script=script), tmp_path / "profile")
    assert seen.get("error") is None
    assert seen["duration"] == pytest.approx(3, abs=0.1)
    assert (seen["width"], seen["height"]) == (640, 360)


class Relay:
    """What stands between the browser and the service, and cuts the first stream in the middle."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.cuts = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up, down = await asyncio.open_connection("127.0.0.1", self._port)
        sending = asyncio.create_task(self._copy(reader, down))
        with suppress(ConnectionError):
            while part := await up.read(1 << 16):
                writer.write(part)
                await writer.drain()
                if b"event: submit.intended" in part and not self.cuts:
                    self.cuts += 1
                    break
        sending.cancel()
        writer.close()
        down.close()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while part := await reader.read(1 << 16):
                writer.write(part)


@asynccontextmanager
async def relayed(port: int, service_port: int) -> AsyncIterator[Relay]:
    relay = Relay(service_port)
    server = await asyncio.start_server(relay.serve, "127.0.0.1", port)
    try:
        yield relay
    finally:
        server.close()


async def test_chromium_watches_from_another_origin_over_a_cut_and_plays_the_video(tmp_path):
    outside, inside = free_port(), free_port()
    async with site() as page:
        settings = {"api_key": "a-key", "cors_origins": page.origin, "public_url": f"http://127.0.0.1:{outside}"}
        async with open_house(tmp_path, speed=10, port=inside, **settings) as house, relayed(outside, inside) as relay:
            house.api.headers["Authorization"] = "Bearer a-key"
            asked = await house.submit("a fox on a page", parameters={"duration": 3})
            links = (await house.api.post(f"/api/generations/{asked['id']}/tokens", json={})).json()
            words = {"events": repr(links["eventsUrl"]), "video": repr(links["videoUrl"]), "lines": repr(LINES)}
            seen = await visit(page, WATCHED.format(script=TELL + PLAY, **words), tmp_path / "profile")
            history = (await house.api.get(f"/api/generations/{asked['id']}/events")).json()["data"]
            now = await house.get(asked["id"])
    told = [line for line in history if line["event"] in LINES]
    assert relay.cuts == 1
    assert seen["opened"] == 2  # the third time it is told 204, and stays away
    assert (seen["names"], seen["ids"]) == ([n["event"] for n in told], [str(n["id"]) for n in told])
    assert seen["last"] == now
    assert seen["end"] == {"id": asked["id"], "status": "completed"}
    assert seen["video"]["duration"] == pytest.approx(3, abs=0.1)
