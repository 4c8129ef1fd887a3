"""The video itself: who may read it, in which parts, and where it comes from."""

from __future__ import annotations

import boto3
import httpx
import pytest
from moto.server import ThreadedMotoServer

from pipeline.links import Links
from tests.house import House, open_house

pytestmark = pytest.mark.anyio


def local(url: str) -> str:
    """The path and query of a link of ours."""
    return url[url.index("/api/") :]


async def test_before_the_end_there_is_none(house):
    made = await house.submit("x")
    response = await house.api.get(f"/api/generations/{made['id']}/content")
    assert (response.status_code, response.json()["code"]) == (409, "not_ready")


async def test_the_whole_file_with_what_a_player_needs(house, complete, video):
    done = await complete(house)
    response = await house.api.get(local(done["links"]["content"]))
    assert response.content == video
    assert response.headers["content-type"] == "video/mp4"
    assert response.headers["accept-ranges"] == "bytes"
    assert response.headers["content-disposition"] == f'inline; filename="{done["id"]}.mp4"'
    assert response.headers["etag"] == f'"{done["result"]["sha256"]}"'
    assert response.headers["x-request-id"]
    head = await house.api.head(local(done["links"]["content"]))
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(len(video)))


@pytest.mark.parametrize(
    ("wanted", "first", "last"),
    [
        ("bytes=0-99", 0, 100),
        ("bytes=5-5", 5, 6),
        ("bytes=10000-", 10_000, None),
        ("bytes=-10", -10, None),
        ("bytes=-999999", 0, None),
        ("bytes=100-999999", 100, None),
        ("Bytes = 0-1", 0, 2),
        ("bytes=0-5,3-9", 0, 10),
    ],
)
async def test_one_range(house, complete, video, wanted, first, last):
    done = await complete(house)
    response = await house.api.get(local(done["links"]["content"]), headers={"Range": wanted})
    assert response.status_code == 206
    assert response.content == video[first:last]
    start, _, end = response.headers["content-range"].removeprefix("bytes ").partition("/")[0].partition("-")
    assert video[int(start) : int(end) + 1] == response.content


async def test_several_ranges(house, complete, video):
    done = await complete(house)
    response = await house.api.get(local(done["links"]["content"]), headers={"Range": "bytes=0-9, 100-109, -5"})
    assert response.status_code == 206
    assert response.headers["content-type"].startswith("multipart/byteranges")
    for part in (video[:10], video[100:110], video[-5:]):
        assert b"\r\n\r\n" + part + b"\r\n" in response.content


@pytest.mark.parametrize("wanted", ["bytes=10240-", "bytes=999999-9999999", "bytes=-0", "bytes=0-1,99999-"])
async def test_a_range_outside_the_file(house, complete, video, wanted):
    done = await complete(house)
    response = await house.api.get(local(done["links"]["content"]), headers={"Range": wanted})
    assert (response.status_code, response.json()["code"]) == (416, "range_not_satisfiable")
    assert response.headers["content-range"] == f"bytes */{len(video)}"


@pytest.mark.parametrize(
    "wanted", ["bytes", "bytes=", "bytes=-", "bytes=a-b", "bytes=9-3", "pages=1-2", "bytes=1-2;3", "bytes=--5"]
)
async def test_a_range_that_is_none_is_ignored(house, complete, video, wanted):
    done = await complete(house)
    response = await house.api.get(local(done["links"]["content"]), headers={"Range": wanted})
    assert (response.status_code, response.content) == (200, video)


async def test_a_reader_who_has_it_is_told_so(house, complete, video):
    done = await complete(house)
    url = local(done["links"]["content"])
    first = await house.api.get(url)
    etag, modified = first.headers["etag"], first.headers["last-modified"]
    for headers, status in (
        ({"If-None-Match": etag}, 304),
        ({"If-None-Match": f'"x", W/{etag}'}, 304),
        ({"If-None-Match": "*"}, 304),
        ({"If-None-Match": '"x"'}, 200),
        ({"If-None-Match": '"x"', "If-Modified-Since": modified}, 200),
        ({"If-Modified-Since": modified}, 304),
        ({"If-Modified-Since": "Sat, 01 Jan 2000 00:00:00 GMT"}, 200),
        ({"If-Modified-Since": "now"}, 200),
        ({"If-Range": etag, "Range": "bytes=0-1"}, 206),
        ({"If-Range": '"old"', "Range": "bytes=0-1"}, 200),
        ({"If-Range": '"old"', "Range": "bytes=99999-"}, 200),
    ):
        response = await house.api.get(url, headers=headers)
        assert response.status_code == status, headers
        assert response.content == {304: b"", 206: video[:2], 200: video}[status]
        assert response.headers["etag"] == etag


async def test_a_file_that_was_deleted_by_hand_is_gone(house, complete):
    done = await complete(house)
    house.plant.storage.local_path(f"default/{done['id']}/sub_1.mp4").unlink()
    response = await house.api.get(local(done["links"]["content"]))
    assert (response.status_code, response.json()["code"]) == (410, "video_gone")


async def test_a_token_opens_one_video_for_a_time(tmp_path, complete, video):
    async with open_house(tmp_path, work=False, api_key="old, new", secret_key="s1,s0") as house:
        bare = house.api
        house.api = httpx.AsyncClient(base_url=bare.base_url, headers={"Authorization": "Bearer new"})
        one, two = await complete(house), await complete(house)
        await house.api.aclose()
        link = local(one["result"]["videoUrl"])
        path, token = link.split("?token=")
        assert (await bare.get(link)).content == video
        assert (await bare.get(link, headers={"Range": "bytes=0-9"})).status_code == 206
        assert (await bare.get(path)).status_code == 401
        assert (await bare.get(path.removesuffix("/content"), params={"token": token})).status_code == 401

        ends, _, mac = token.partition("-")
        later = f"{int(ends, 16) + 1000:x}"
        for bad in (
            "",
            "x",
            f"{later}-{mac}",
            f"{ends}-{mac[:-1]}",
            f"{ends}-",
            f"-{mac}",
            "é",
            f"{'f' * 99}-{mac}",
            "0",
        ):
            response = await bare.get(path, params={"token": bad})
            assert response.status_code == 401, bad
            assert response.headers["www-authenticate"].startswith("Bearer")
            assert response.json()["code"] == "unauthorized"
        foreign = f"/api/generations/{two['id']}/content"
        assert (await bare.get(foreign, params={"token": token})).status_code == 401
        with_key = {"Authorization": "Bearer new"}
        assert (await bare.get(path, params={"token": "x"}, headers=with_key)).status_code == 401
        assert (await bare.get(path, headers=with_key)).status_code == 200


async def test_the_link_is_the_same_until_it_ends_and_follows_rotation():
    row = {"id": "gen_1", "finished_at": 1_000_000, "video_key": "default/gen_1/s.mp4", "status": "completed"}
    row |= {"expires_at": None, "expired_at": None}
    old = Links("https://x.example", None, ["first"], 100)
    link = old.video(row)
    token = link.split("token=")[1]
    assert old.video(row) == link
    assert old.may_play("gen_1", token, now=1100)
    assert not old.may_play("gen_1", token, now=1100.1)
    assert Links("https://x.example", None, ["second", "first"], 100).may_play("gen_1", token, now=1000)
    assert not Links("https://x.example", None, ["second"], 100).may_play("gen_1", token, now=1000)
    public = Links("https://x.example", "https://cdn.example/v/", ["first"], 100)
    assert public.video(row) == "https://cdn.example/v/default/gen_1/s.mp4"


async def test_a_bucket_is_entered_by_a_fresh_link(tmp_path, complete, video):
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    account = {"endpoint_url": f"http://{host}:{port}", "aws_access_key_id": "a", "aws_secret_access_key": "b"}
    client = boto3.client("s3", region_name="us-east-1", **account)
    client.create_bucket(Bucket="videos")
    client.close()
    r2 = {
        "r2_access_key_id": "a",
        "r2_secret_access_key": "b",
        "r2_bucket": "videos",
        "r2_endpoint_url": account["endpoint_url"],
    }
    try:
        async with open_house(tmp_path, work=False, **r2) as house:
            await _follow(house, await complete(house), video)
    finally:
        server.stop()


async def _follow(house: House, done: dict, video: bytes) -> None:
    assert "X-Amz" not in done["result"]["videoUrl"]
    response = await house.api.get(local(done["result"]["videoUrl"]))
    assert response.status_code == 302
    assert response.headers["cache-control"] == "no-store"
    async with httpx.AsyncClient() as anyone:
        seen = await anyone.get(response.headers["location"])
    assert (seen.status_code, seen.content) == (200, video)
