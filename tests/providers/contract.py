"""What every provider must do, whatever its dialect. A test module subclasses `ProviderContract` and gives a `stage`.

The mock server speaks the dialect, so faults are asked for in the prompt and its ledger tells what was charged.
"""

import asyncio
import contextlib
import socket
from dataclasses import dataclass

import httpx
import pytest

from providers.base import (
    Accepted,
    Audio,
    ErrorCode,
    Media,
    Operation,
    Phase,
    Provider,
    ProviderError,
    Rejected,
    SubmitContext,
    Unknown,
    VideoRequest,
)
from providers.checks import list_price, settled
from providers.registry import create_provider
from providers.wire import Clients

SPEED = 600


@dataclass
class Stage:
    """A provider, and the mock that it talks to. `speed` is high: a video takes some hundredths of a second."""

    provider: Provider
    mock_url: str
    client: httpx.AsyncClient

    async def submit(self, prompt, token="tok_1", **asked):
        request = settled(VideoRequest(prompt, **asked), self.provider.capabilities.catalogue)
        return await self.provider.submit(request, SubmitContext(token))

    async def accepted(self, prompt, **asked):
        result = await self.submit(prompt, **asked)
        assert isinstance(result, Accepted)
        return result.operation

    async def charges(self):
        return (await self.client.get(self.mock_url + "/ledger")).json()["totals"]

    async def poll_until(self, operation, done=lambda status: status.phase not in {Phase.QUEUED, Phase.RUNNING}):
        """The first poll's answer that is `done`, of at most ten seconds."""
        async with asyncio.timeout(10):
            while not done(status := await self.provider.poll(operation)):  # noqa: ASYNC110 - no event to await
                await asyncio.sleep(0.005)
        return status

    async def download(self, operation):
        status = await self.poll_until(operation)
        async with self.provider.download(status.outputs[0]) as file:
            return file.length, b"".join([chunk async for chunk in file.chunks()])


def whole_requests(model):
    """Requests that together use all that a model offers: no picture, one by URL, one as bytes, a last one."""
    asked = {"model": model.id}
    asked |= {"duration": model.durations[0]} if model.durations else {}
    asked |= {"aspect_ratio": model.aspect_ratios[0]} if model.aspect_ratios else {}
    asked |= {"resolution": model.resolutions[0]} if model.resolutions else {}
    asked |= {"seed": 2**32 - 1} if model.seed else {}
    asked |= {"audio": model.audio is not Audio.NEVER}
    asked |= {"negative_prompt": "blur"} if model.negative_prompt else {}
    url, data = Media(url="https://pictures.test/a.png"), Media(data=b"\x89PNG", mime_type="image/png")
    if not model.needs_image:
        yield asked
    pictures = [url] * model.image_url + [data] * model.image_data
    for picture in pictures:
        yield asked | {"image": picture}
        if model.last_image:
            yield asked | {"image": picture, "last_image": picture}


class ProviderContract:
    """The shared suite, against the mock in the provider's dialect.

    A subclass names its `provider`; `options` are what makes one that talks to the mock at `url`. `status_words` is
    False where its wire has none: work is done or it is not.
    """

    provider: str
    status_words = True

    def options(self, url):
        return {"api_key": "test-key", "url": f"{url}/{self.provider}"}

    def stage_at(self, url, client):
        return Stage(create_provider(self.provider, Clients(client, client, client), self.options(url)), url, client)

    @pytest.fixture
    async def stage(self, server, client):
        return self.stage_at(server.url, client)

    @pytest.fixture
    def closed_port_stage(self, client):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
        return self.stage_at(f"http://127.0.0.1:{port}", client)

    async def test_a_video_is_made_fetched_and_charged_once(self, stage):
        operation = await stage.accepted("a fox")
        status = await stage.poll_until(operation)
        assert status.phase is Phase.SUCCEEDED
        assert status.outputs
        length, data = await stage.download(operation)
        assert data[4:8] == b"ftyp"
        assert length in {None, len(data)}
        assert (await stage.charges())["accepted"] == 1

    async def test_an_operation_survives_being_stored_as_json(self, stage):
        operation = await stage.accepted("a fox")
        stored = Operation(operation.id, dict(operation.data))
        assert (await stage.poll_until(stored)).phase is Phase.SUCCEEDED

    async def test_progress_stays_within_its_bounds(self, stage):
        status = await stage.provider.poll(await stage.accepted("a fox [[stuck]]"))
        assert status.phase in {Phase.QUEUED, Phase.RUNNING}
        assert status.progress is None or 0 <= status.progress <= 1

    async def test_every_offered_parameter_of_every_model_is_taken(self, stage):
        models = stage.provider.capabilities.catalogue.models.values()
        for number, asked in enumerate(asked for model in models for asked in whole_requests(model)):
            await stage.accepted("a fox", token=f"tok_{number}", **asked)

    async def test_what_is_charged_is_the_list_price_of_what_was_asked(self, stage):
        catalogue = stage.provider.capabilities.catalogue
        asked = [asked for model in catalogue.models.values() for asked in whole_requests(model)]
        for number, each in enumerate(asked):
            await stage.accepted("a fox", token=f"tok_{number}", **each)
        priced = sum(list_price(VideoRequest("a fox", **each), catalogue) for each in asked)
        assert (await stage.charges())["charged_micros"] == priced

    async def test_a_cost_that_is_reported_is_what_was_charged(self, stage):
        status = await stage.poll_until(await stage.accepted("a fox"))
        assert status.cost_micros in {None, (await stage.charges())["net_micros"]}

    async def test_extra_is_taken_and_reserved_members_are_named(self, stage):
        extra = {"dailies_test": {"x": 1}}
        await stage.accepted("a fox", extra=extra)
        reserved = stage.provider.capabilities.reserved
        assert reserved
        assert not any(place.startswith("dailies_test") for place in reserved)

    async def test_a_running_video_is_cancelled_or_said_to_go_on(self, stage):
        operation = await stage.accepted("a fox [[stuck]]")
        if not stage.provider.capabilities.cancel:
            with contextlib.suppress(ProviderError):
                assert not (await stage.provider.cancel(operation)).stopped
            assert (await stage.provider.poll(operation)).phase in {Phase.QUEUED, Phase.RUNNING}
            return
        stop = await stage.provider.cancel(operation)
        assert stop.stopped
        assert (await stage.provider.poll(operation)).phase is Phase.CANCELLED
        net = (await stage.charges())["net_micros"]
        assert stop.billed in {None, bool(net)}

    async def test_a_stop_says_whether_anything_more_comes_of_the_work(self, stage):
        if not stage.provider.capabilities.cancel:
            return
        for prompt, phase in (("a fox", Phase.SUCCEEDED), ("a fox [[fail:final]]", Phase.FAILED)):
            operation = await stage.accepted(prompt, token=phase)
            assert (await stage.poll_until(operation)).phase is phase
            assert (await stage.provider.cancel(operation)).stopped is (phase is Phase.FAILED)

    @pytest.mark.parametrize(("fault", "code"), [("401", ErrorCode.AUTH), ("402", ErrorCode.QUOTA)])
    async def test_a_bad_key_and_an_empty_account_are_told_apart(self, stage, fault, code):
        result = await stage.submit(f"a fox [[{fault}:1]]")
        assert isinstance(result, Rejected)
        assert (result.error.code, result.error.retryable) == (code, False)
        assert (await stage.charges())["accepted"] == 0

    async def test_a_prompt_that_is_refused_at_once_is_moderation(self, stage):
        result = await stage.submit("a fox [[refuse:moderation]]")
        assert isinstance(result, Rejected)
        assert result.error.code is ErrorCode.MODERATION
        assert (await stage.charges())["accepted"] == 0

    async def test_an_invalid_request_is_rejected_and_not_charged(self, stage):
        result = await stage.submit("a fox [[fail:invalid]]")
        assert isinstance(result, Rejected)
        assert (result.error.code, result.error.retryable) == (ErrorCode.INVALID_REQUEST, False)
        assert (await stage.charges())["accepted"] == 0

    async def test_a_rate_limit_is_rejected_with_its_wait(self, stage):
        result = await stage.submit("a fox [[429:1]]")
        assert isinstance(result, Rejected)
        assert result.error.code is ErrorCode.RATE_LIMITED
        assert result.error.retry_after is not None
        assert isinstance(await stage.submit("a fox [[429:1]]"), Accepted)
        assert (await stage.charges())["accepted"] == 1

    @pytest.mark.parametrize(
        ("fault", "accepted"),
        [
            ("503-submit", 0),
            ("cut-submit", 0),
            ("redirect-submit", 0),
            ("500-submit", 1),
            ("drop-submit", 1),
            ("garbage-submit", 1),
        ],
    )
    async def test_a_submit_without_a_clear_answer_is_unknown_whatever_became_of_it(self, stage, fault, accepted):
        result = await stage.submit(f"a fox [[{fault}:1]]")
        assert isinstance(result, Unknown)
        assert result.error.billed is None
        assert (await stage.charges())["accepted"] == accepted

    async def test_an_unknown_submit_is_cleared_up_by_what_is_offered(self, stage):
        recovery = stage.provider.capabilities.recovery
        prompt = "a fox [[drop-submit:1]]"
        assert isinstance(await stage.submit(prompt, token="tok_9"), Unknown)
        if recovery.idempotency_seconds is not None:
            operation = await stage.accepted(prompt, token="tok_9")
        elif recovery.lookup_quiet_seconds is not None:
            operation = await stage.provider.lookup("tok_9")
            assert await stage.provider.lookup("tok_unheard") is None
        else:
            await stage.accepted(prompt, token="tok_9")
            assert (await stage.charges())["accepted"] == 2, "sent again it is paid again: so it is never sent again"
            return
        assert (await stage.poll_until(operation)).phase is Phase.SUCCEEDED
        assert (await stage.charges())["accepted"] == 1

    async def test_a_refused_prompt_fails_as_moderation_and_is_not_for_resubmission(self, stage):
        status = await stage.poll_until(await stage.accepted("a fox [[fail:moderation]]"))
        assert status.phase is Phase.FAILED
        assert (status.error.code, status.error.resubmit) == (ErrorCode.MODERATION, False)

    async def test_a_failed_video_says_why(self, stage):
        status = await stage.poll_until(await stage.accepted("a fox [[fail:transient]]"))
        assert status.phase is Phase.FAILED
        assert status.error.code in {ErrorCode.TRANSIENT, ErrorCode.PROVIDER_ERROR}
        charges = await stage.charges()
        assert not status.error.resubmit or charges["net_micros"] == 0

    async def test_an_unknown_status_counts_as_running_and_is_named(self, stage):
        operation = await stage.accepted("a fox [[unknown-status]] [[stuck]]")
        if not self.status_words:
            assert (await stage.provider.poll(operation)).phase in {Phase.QUEUED, Phase.RUNNING}
            return
        status = await stage.poll_until(operation, lambda status: status.unknown_status)
        assert (status.phase, status.unknown_status) == (Phase.RUNNING, "warming_up")

    async def test_a_malformed_poll_is_unreadable_and_the_next_one_works(self, stage):
        operation = await stage.accepted("a fox [[garbage-json:1]]")
        with pytest.raises(ProviderError) as caught:
            await stage.provider.poll(operation)
        assert (caught.value.code, caught.value.retryable) == (ErrorCode.UNREADABLE, True)
        assert (await stage.poll_until(operation)).phase is Phase.SUCCEEDED

    async def test_a_poll_rides_out_a_short_outage(self, stage):
        operation = await stage.accepted("a fox [[503-poll:1]]")
        assert (await stage.poll_until(operation)).phase is Phase.SUCCEEDED

    async def test_an_operation_that_nobody_knows_is_not_found(self, stage):
        operation = await stage.accepted("a fox")
        with pytest.raises(ProviderError) as caught:
            await stage.provider.poll(Operation(operation.id + "x", operation.data))
        assert caught.value.code is ErrorCode.NOT_FOUND

    async def test_an_expired_link_says_poll_again_and_the_fresh_one_works(self, stage):
        operation = await stage.accepted("a fox [[expired-url:1]]")
        with pytest.raises(ProviderError) as caught:
            await stage.download(operation)
        assert caught.value.code is ErrorCode.NOT_FOUND
        assert (await stage.download(operation))[1][4:8] == b"ftyp"

    async def test_a_truncated_file_is_noticed_and_can_be_fetched_again(self, stage):
        operation = await stage.accepted("a fox [[truncated:1]]")
        with pytest.raises(ProviderError) as caught:
            await stage.download(operation)
        assert (caught.value.code, caught.value.retryable) == (ErrorCode.TRANSIENT, True)
        assert (await stage.download(operation))[1][4:8] == b"ftyp"

    @pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'"x"', b'{"event_id": 1, "id": 2}', b"\xff"])
    async def test_a_callback_of_another_form_is_refused(self, stage, body):
        with pytest.raises(ProviderError) as caught:
            await stage.provider.read_callback({}, body, 1_700_000_000.0)
        assert caught.value.code in {ErrorCode.INVALID_REQUEST, ErrorCode.AUTH}

    async def test_a_provider_that_is_away_rejects_submits_and_fails_polls_for_now(self, stage, closed_port_stage):
        assert isinstance(await closed_port_stage.submit("a fox"), Rejected)
        with pytest.raises(ProviderError) as caught:
            await closed_port_stage.provider.poll(Operation("op"))
        assert caught.value.retryable
