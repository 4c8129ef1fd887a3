"""A video of a gigabyte passes through a real worker process with bounded memory."""

import asyncio
import os
import struct
import sys
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse
from starlette.routing import Route

from pipeline.server import HttpServer
from tests.house import FAST, House, open_house

pytestmark = pytest.mark.anyio

GIGABYTE = 1 << 30
GROWTH = 64 * 1024
"""kB, as /proc counts."""
SMALL = Path(__file__).parent / "videos" / "normal.mp4"


def pad(path: Path, size: int) -> None:
    """A real video followed by a box of free space, so that the file has the asked size (and no blocks on disk)."""
    video = SMALL.read_bytes()
    with path.open("wb") as file:
        file.write(video)
        file.write(struct.pack(">I4sQ", 1, b"free", size - len(video)))
        file.truncate(size)


def provider(folder: Path) -> Starlette:
    """Answers at once, in the mock's dialect; the prompt names the file."""
    names: list[str] = []

    async def submit(request: Request) -> JSONResponse:
        names.append((await request.json())["prompt"])
        return JSONResponse({"id": f"vid_{len(names) - 1}", "status": "queued"}, 202)

    async def poll(request: Request) -> JSONResponse:
        name = names[int(request.path_params["id"].removeprefix("vid_"))]
        output = {"url": str(request.url_for("file", name=name)), "mime_type": "video/mp4"}
        return JSONResponse({"id": request.path_params["id"], "status": "succeeded", "progress": 1, "output": output})

    async def file(request: Request) -> FileResponse:
        response = FileResponse(folder / request.path_params["name"])
        response.chunk_size = 1 << 20
        return response

    return Starlette(
        routes=[
            Route("/v1/videos", submit, methods=["POST"]),
            Route("/v1/videos/{id}", poll),
            Route("/{name}", file, name="file"),
        ]
    )


def peak(pid: int) -> int:
    """The largest resident size that a process has had, in kB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])


async def start_worker(house: House, folder: Path, url: str) -> asyncio.subprocess.Process:
    settings = FAST | {
        "data_dir": folder,
        "provider": "mock",
        "mock_url": url,
        "mock_speed": 1000,
        "webhook_url": house.plant.settings.webhook_url,
        "port": house.plant.settings.port,
    }
    environment = os.environ | {name.upper(): str(value) for name, value in settings.items()}
    return await asyncio.create_subprocess_exec(sys.executable, "-m", "pipeline", "worker", cwd=folder, env=environment)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc, to read a process's memory")
async def test_a_gigabyte_passes_through_store_with_bounded_memory(tmp_path):
    files = tmp_path / "provider"
    files.mkdir()
    pad(files / "small.mp4", 2_000_000)
    pad(files / "large.mp4", GIGABYTE)
    async with (
        HttpServer(provider(files), "127.0.0.1", 0) as server,
        open_house(tmp_path / "house", work=False) as house,
    ):
        worker = await start_worker(house, tmp_path / "house", f"http://127.0.0.1:{server.port}")
        try:
            small = await house.ended((await house.submit("small.mp4"))["id"])
            before = peak(worker.pid)
            large = await house.ended((await house.submit("large.mp4"))["id"], 60)
            growth = peak(worker.pid) - before
        finally:
            worker.terminate()
            await worker.wait()
    assert (small["status"], large["status"]) == ("completed", "completed")
    assert large["result"]["bytes"] == GIGABYTE
    assert growth < GROWTH
