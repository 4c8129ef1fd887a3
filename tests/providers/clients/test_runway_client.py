"""Runway's official client, unmodified and strict about the published schema, against the mock's dialect."""

import pytest

runwayml = pytest.importorskip("runwayml")
polling = pytest.importorskip("runwayml.lib.polling")
pytestmark = pytest.mark.anyio

ASKED = {"model": "gen4.5", "ratio": "1280:720", "duration": 5}


@pytest.fixture
async def official(server, monkeypatch):
    monkeypatch.setattr(polling, "POLL_TIME", 0.02)
    monkeypatch.setattr(polling, "POLL_JITTER", 0)
    async with runwayml.AsyncRunwayML(
        api_key="key_x", base_url=f"{server.url}/runway", max_retries=0, _strict_response_validation=True
    ) as client:
        yield client


async def totals(server, client):
    return (await client.get(f"{server.url}/ledger")).json()["totals"]


async def failed(official, prompt):
    task = await official.text_to_video.create(prompt_text=prompt, **ASKED)
    with pytest.raises(polling.TaskFailedError) as caught:
        await task.wait_for_task_output(timeout=10)
    return caught.value.task_details


async def test_text_to_video_from_order_to_file(official, server, client):
    task = await official.text_to_video.create(prompt_text="a fox", seed=7, **ASKED)
    assert task.estimated_cost.credits == 60
    done = await task.wait_for_task_output(timeout=10)
    assert (done.status, done.cost.credits) == ("SUCCEEDED", 60)
    assert (await client.get(done.output[0])).content[4:8] == b"ftyp"
    assert (await totals(server, client))["net_micros"] == 600_000


@pytest.mark.parametrize(
    "picture",
    [
        "https://pictures.test/a.png",
        "data:image/png;base64,iVBORw0KGgo=",
        [
            {"uri": "https://pictures.test/a.png", "position": "first"},
            {"uri": "data:image/png;base64,iVBORw0KGgo=", "position": "last"},
        ],
    ],
)
async def test_image_to_video(official, picture):
    task = await official.image_to_video.create(
        model="veo3.1", prompt_text="a fox", prompt_image=picture, ratio="1920:1080", duration=4, audio=True
    )
    done = await task.wait_for_task_output(timeout=10)
    assert (done.status, done.cost.credits) == ("SUCCEEDED", 160)


async def test_every_state_fits_the_schema(official):
    waiting = await official.text_to_video.create(prompt_text="a fox [[slow:3600]]", **ASKED)
    running = await official.text_to_video.create(prompt_text="a fox [[stuck]]", **ASKED)
    now = await official.tasks.retrieve(waiting.id)
    assert (now.status, now.estimated_cost.credits) == ("PENDING", 60)
    now = await official.tasks.retrieve(running.id)
    assert (now.status, now.progress, now.estimated_cost.credits) == ("RUNNING", 0.5, 60)


@pytest.mark.parametrize(("fault", "credits_left"), [("slow:3600", 0), ("stuck", 60)])
async def test_a_cancel_refunds_only_what_has_not_begun(official, server, client, fault, credits_left):
    task = await official.text_to_video.create(prompt_text=f"a fox [[{fault}]]", **ASKED)
    assert await official.tasks.delete(task.id) is None
    now = await official.tasks.retrieve(task.id)
    assert (now.status, now.cost.credits) == ("CANCELLED", credits_left)
    assert (await totals(server, client))["net_micros"] == credits_left * 10_000


async def test_what_was_made_can_be_deleted(official):
    task = await official.text_to_video.create(prompt_text="a fox", **ASKED)
    await task.wait_for_task_output(timeout=10)
    await official.tasks.delete(task.id)
    with pytest.raises(runwayml.NotFoundError):
        await official.tasks.retrieve(task.id)


@pytest.mark.parametrize(
    ("fault", "code", "spent"),
    [("moderation", "SAFETY.INPUT.TEXT", 60), ("transient", "INTERNAL", 0), ("final", "ASSET.INVALID", 0)],
)
async def test_failures_say_why_and_what_they_cost(official, fault, code, spent):
    details = await failed(official, f"a fox [[fail:{fault}]]")
    assert (details.status, details.failure_code, details.cost.credits) == ("FAILED", code, spent)


@pytest.mark.parametrize(
    ("fault", "error", "says"),
    [
        ("401", "AuthenticationError", "API key"),
        ("402", "BadRequestError", "credits"),
        ("429", "RateLimitError", "too many"),
        ("fail:invalid", "BadRequestError", "not valid"),
        ("refuse:moderation", "BadRequestError", "content policy"),
        ("503-submit", "InternalServerError", "not available"),
        ("500-submit", "InternalServerError", "wrong"),
    ],
)
async def test_refusals_are_the_clients_own_errors(official, fault, error, says):
    with pytest.raises(getattr(runwayml, error)) as caught:
        await official.text_to_video.create(prompt_text=f"a fox [[{fault}]]", **ASKED)
    assert says in caught.value.body["error"]


async def test_the_client_by_itself_would_pay_again(official, server, client):
    """Why we speak HTTP ourselves: one call, a lost answer, two charges."""
    eager = official.with_options(max_retries=1)
    task = await eager.text_to_video.create(prompt_text="a fox [[drop-submit:1]]", **ASKED)
    assert task.id
    assert (await totals(server, client))["accepted"] == 2
