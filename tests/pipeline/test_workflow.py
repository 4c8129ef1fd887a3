"""Every stage meets what providers, files and storages really do: faults of the mock over real HTTP, one outcome
each."""

import asyncio
import json
import shutil

import pytest

from pipeline import queue
from pipeline.lifecycle import JobKind
from tests.house import eventually, open_house

pytestmark = pytest.mark.anyio


async def end_of(tmp_path, prompt, **settings):
    """Submit a prompt, wait for the end, and return (generation, charges, timeline)."""
    async with open_house(tmp_path, **settings) as house:
        asked = await house.submit(prompt)
        ended = await house.ended(asked["id"])
        return ended, await house.ledger(), await house.timeline(asked["id"])


class TestSubmit:
    async def test_a_rate_limit_pauses_the_lane_and_costs_no_attempt(self, tmp_path):
        async with open_house(tmp_path, max_attempts=1) as house:
            asked = await house.submit("[[429:2]] a patient fox")
            await eventually(lambda: house.timeline(asked["id"]), lambda seen: "requeued" in seen, 10)
            assert (await house.get(asked["id"]))["stage"] == "waiting"
            lane = (await house.api.get("/api/queue/status")).json()["lanes"][0]
            assert lane["pausedUntil"] is not None
            assert "too many requests" in lane["pausedReason"]
            assert (await house.ended(asked["id"]))["status"] == "completed"
            assert (await house.timeline(asked["id"])).count("submit.rejected") == 2
            assert len(await house.ledger()) == 1

    @pytest.mark.parametrize("fault", ["500-submit:1", "drop-submit:1"])
    async def test_an_unclear_answer_is_cleared_up_by_the_idempotency_key(self, tmp_path, fault):
        ended, charges, timeline = await end_of(tmp_path, f"[[{fault}]] a fox", mock_recovery="key")
        assert (ended["status"], len(charges)) == ("completed", 1)
        assert "submit.unknown" in timeline
        assert "submit.resolved" in timeline

    async def test_an_unclear_answer_is_cleared_up_by_lookup(self, tmp_path):
        ended, charges, timeline = await end_of(tmp_path, "[[drop-submit:1]] a fox", mock_recovery="lookup")
        assert (ended["status"], len(charges)) == ("completed", 1)
        assert "submit.resolved" in timeline

    async def test_what_a_lookup_does_not_find_after_the_quiet_period_is_submitted_anew(self, tmp_path):
        ended, charges, timeline = await end_of(tmp_path, "[[cut-submit:1]] a fox", mock_recovery="lookup")
        assert (ended["status"], len(charges)) == ("completed", 1)
        assert timeline.count("submit.intended") == 2

    async def test_an_unclear_answer_is_cleared_up_by_the_callback(self, tmp_path):
        ended, charges, timeline = await end_of(tmp_path, "[[drop-submit:1]] a fox", mock_recovery="callback")
        assert (ended["status"], len(charges)) == ("completed", 1)
        assert "submit.resolved" in timeline

    @pytest.mark.parametrize(("fault", "paid"), [("drop-submit:1", 1), ("500-submit:1", 1), ("cut-submit:1", 0)])
    async def test_without_recovery_an_unclear_answer_fails_and_is_never_repeated(self, tmp_path, fault, paid):
        ended, charges, _ = await end_of(tmp_path, f"[[{fault}]] a fox", mock_recovery="none")
        assert ended["status"] == "failed"
        assert ended["error"]["code"] == "submit_unknown"
        assert not ended["error"]["retryable"]
        assert len(charges) == paid

    async def test_with_the_policy_hold_a_person_is_waited_for_and_a_cancel_still_ends_it(self, tmp_path):
        async with open_house(tmp_path, mock_recovery="none", on_unknown_submit="hold") as house:
            asked = await house.submit("[[drop-submit:1]] a fox")
            await house.reached(asked["id"], "held")
            status = (await house.api.get("/api/queue/status")).json()
            await eventually(lambda: parked(house), lambda n: n == 1, 5)
            assert status["held"] == 1
            assert (await house.api.post(f"/api/generations/{asked['id']}/cancel")).status_code == 202
            assert (await house.ended(asked["id"]))["status"] == "cancelled"
            assert len(await house.ledger()) == 1

    async def test_with_the_policy_resubmit_it_is_paid_anew_on_purpose(self, tmp_path):
        ended, charges, timeline = await end_of(
            tmp_path, "[[drop-submit:1]] a fox", mock_recovery="none", on_unknown_submit="resubmit"
        )
        assert (ended["status"], len(charges)) == ("completed", 2)
        assert "submit.resubmit" in timeline

    async def test_an_answer_later_than_the_timeout_is_unclear_not_failed(self, tmp_path):
        slow = "[[slow-submit:0.8]] a fox"
        ended, charges, _ = await end_of(tmp_path, slow, submit_timeout=0.3, mock_recovery="lookup")
        assert (ended["status"], len(charges)) == ("completed", 1)

    async def test_a_provider_that_is_not_there_is_tried_again_and_then_given_up_unpaid(self, tmp_path):
        nowhere = {"mock_url": "http://127.0.0.1:9", "queue_timeout": 1.0, "max_attempts": 1, "max_submissions": 1}
        ended, charges, timeline = await end_of(tmp_path, "a fox", **nowhere)
        assert (ended["error"]["code"], ended["error"]["retryable"]) == ("deadline_exceeded", True)
        assert timeline.count("submit.rejected") > 3
        assert charges == []

    async def test_three_unclear_answers_in_a_row_close_the_lane(self, tmp_path):
        async with open_house(tmp_path, mock_recovery="none", lane_pause=30, slots_submit=1) as house:
            for number in range(3):
                await house.ended((await house.submit(f"[[drop-submit]] fox {number}"))["id"])
            waiting = await house.submit("a fox that has to wait")
            lane = (await house.api.get("/api/queue/status")).json()["lanes"][0]
            assert "3 paid calls in a row" in lane["pausedReason"]
            assert (await house.get(waiting["id"]))["status"] == "queued"


async def parked(house):
    return await house.plant.db.read(lambda tx: tx.value("SELECT count(*) FROM job WHERE step = 'held'"))


class TestPoll:
    @pytest.mark.parametrize("fault", ["503-poll:2", "garbage-json:2", "unknown-status"])
    async def test_blips_and_strange_answers_are_lived_through(self, tmp_path, fault):
        ended, charges, _ = await end_of(tmp_path, f"[[{fault}]] a fox")
        assert (ended["status"], len(charges)) == ("completed", 1)

    async def test_a_refusal_is_final_and_shows_the_providers_reason(self, tmp_path):
        ended, charges, _ = await end_of(tmp_path, "[[fail:moderation]] a fox")
        assert ended["error"]["code"] == "content_blocked"
        assert len(charges) == 1

    async def test_a_failure_that_was_not_billed_is_submitted_anew(self, tmp_path):
        ended, charges, timeline = await end_of(tmp_path, "[[fail:transient:1]] a fox")
        assert ended["status"] == "completed"
        assert timeline.count("submit.intended") == 2
        assert sum(charge["charged_micros"] - charge["refunded_micros"] for charge in charges) == 400_000

    async def test_new_submissions_have_a_bound(self, tmp_path):
        ended, charges, _ = await end_of(tmp_path, "[[fail:transient]] a fox", max_submissions=2)
        assert ended["status"] == "failed"
        assert len(charges) == 2
        assert all(charge["charged_micros"] == charge["refunded_micros"] for charge in charges)

    async def test_a_stuck_operation_ends_at_the_deadline_and_is_stopped_at_the_provider(self, tmp_path):
        ended, charges, timeline = await end_of(tmp_path, "[[stuck]] a fox", generation_timeout=0.6)
        assert ended["error"]["code"] == "deadline_exceeded"
        assert charges[0]["state"] == "cancelled"
        assert timeline[-1] == "failed"

    async def test_a_callback_makes_the_poll_due_now(self, tmp_path):
        async with open_house(tmp_path, mock_recovery="callback", mock_speed=0.01) as house:
            asked = await house.submit("a fox that would be polled in forty minutes")
            ended = await house.ended(asked["id"], 10)
            assert ended["status"] == "completed"

    @pytest.mark.parametrize("when", ["twice", "early"])
    async def test_doubled_and_early_callbacks_change_nothing(self, tmp_path, when):
        ended, charges, timeline = await end_of(tmp_path, f"[[callback:{when}]] a fox", mock_recovery="callback")
        assert (ended["status"], len(charges)) == ("completed", 1)
        assert timeline.count("completed") == 1


class TestStore:
    async def test_an_expired_link_is_asked_for_anew(self, tmp_path):
        ended, charges, _ = await end_of(tmp_path, "[[expired-url:1]] a fox")
        assert (ended["status"], len(charges)) == ("completed", 1)

    async def test_a_cut_file_is_fetched_again(self, tmp_path):
        ended, charges, timeline = await end_of(tmp_path, "[[truncated:1]] a fox")
        assert (ended["status"], len(charges)) == ("completed", 1)
        assert "store.failed" in timeline

    @pytest.mark.parametrize("fault", ["truncated", "html"])
    async def test_a_file_that_is_no_video_fails_with_its_own_code_and_is_not_paid_again(self, tmp_path, fault):
        ended, charges, _ = await end_of(tmp_path, f"[[{fault}]] a fox", store_attempts=4)
        assert ended["status"] == "failed"
        assert ended["error"]["code"] in {"invalid_media", "download_failed"}
        assert len(charges) == 1
        assert not list((tmp_path / "spool").iterdir())

    async def test_a_file_above_the_limit_is_refused(self, tmp_path):
        ended, _, _ = await end_of(tmp_path, "a fox", max_video_bytes=1000)
        assert ended["error"]["code"] == "video_too_large"

    async def test_a_failed_upload_is_repeated_alone(self, tmp_path):
        async with open_house(tmp_path, store_attempts=100) as house:
            blocker = tmp_path / "files" / "default"
            shutil.rmtree(blocker, ignore_errors=True)
            blocker.parent.mkdir(exist_ok=True)
            blocker.write_text("a file where a folder must be")
            asked = await house.submit("a fox")
            await eventually(lambda: house.timeline(asked["id"]), lambda seen: "store.failed" in seen, 10)
            blocker.unlink()
            assert (await house.ended(asked["id"]))["status"] == "completed"
            assert len(await house.ledger()) == 1

    async def test_a_full_spool_is_waited_for(self, tmp_path):
        async with open_house(tmp_path, spool_bytes=2_000_000) as house:
            filler = tmp_path / "spool" / "somebody-elses.part"
            filler.write_bytes(bytes(2_000_000))
            asked = await house.submit("a fox")
            await eventually(lambda: house.timeline(asked["id"]), lambda seen: "store.waits" in seen, 10)
            filler.unlink()
            await house.plant.db.write(lambda tx: queue.wake(tx, JobKind.GENERATION, asked["id"]))
            house.plant.doorbell.ring()
            assert (await house.ended(asked["id"]))["status"] == "completed"


class TestCancel:
    async def test_while_generating_the_provider_is_stopped(self, tmp_path):
        async with open_house(tmp_path) as house:
            asked = await house.submit("[[stuck]] a fox")
            await house.reached(asked["id"], "generating")
            answer = await house.api.post(f"/api/generations/{asked['id']}/cancel")
            assert answer.status_code == 202
            assert answer.json()["cancelRequested"]
            assert (await house.ended(asked["id"]))["status"] == "cancelled"
            (hook,) = await house.webhooks(1)
            assert json.loads(hook.body)["type"] == "generation.cancelled"
            assert (await house.ledger())[0]["state"] == "cancelled"

    async def test_while_the_paid_call_is_under_way_it_is_kept_until_the_answer(self, tmp_path):
        async with open_house(tmp_path, speed=10.0) as house:
            asked = await house.submit("[[slow-submit:0.5]] a fox")
            await house.reached(asked["id"], "submitting")
            await house.api.post(f"/api/generations/{asked['id']}/cancel")
            assert (await house.ended(asked["id"]))["status"] == "cancelled"
            assert (await house.ledger())[0]["state"] == "cancelled"

    async def test_after_the_end_nothing_changes(self, tmp_path):
        async with open_house(tmp_path) as house:
            asked = await house.submit("a fox")
            await house.ended(asked["id"])
            answer = await house.api.post(f"/api/generations/{asked['id']}/cancel")
            assert (answer.status_code, answer.json()["status"]) == (200, "completed")


class TestEvents:
    async def test_opt_in_events_come_in_order_with_their_sequence(self, tmp_path):
        types = "generation.processing,generation.progress,generation.completed"
        async with open_house(tmp_path, webhook_events=types, speed=40.0) as house:
            asked = await house.submit("a fox")
            await house.ended(asked["id"])
            bodies = await eventually(
                lambda: arrived(house), lambda seen: any(b["type"] == "generation.completed" for b in seen), 10
            )
            kinds = [body["type"] for body in sorted(bodies, key=lambda body: body["data"]["sequence"])]
            assert kinds[0] == "generation.processing"
            assert kinds[-1] == "generation.completed"
            assert "generation.progress" in kinds
            sequences = sorted(body["data"]["sequence"] for body in bodies)
            assert sequences == list(range(1, len(bodies) + 1))

    async def test_a_webhook_that_never_arrives_is_dead_and_told(self, tmp_path):
        async with open_house(tmp_path) as house:
            house.answers[:] = [500] * 6
            asked = await house.submit("a fox")
            await house.webhooks(6)
            deliveries = await eventually(
                lambda: deliveries_of(house, asked["id"]), lambda seen: seen[0]["state"] == "dead", 5
            )
            assert [attempt["status"] for attempt in deliveries[0]["attempts"]] == [500] * 6
            status = (await house.api.get("/api/queue/status")).json()
            assert status["deliveries"]["byStatus"]["dead"] == 1

    async def test_410_switches_the_endpoint_off_and_what_comes_then_is_dead_at_once_and_listed(self, tmp_path):
        async with open_house(tmp_path) as house:
            house.answers[:] = [410]
            await house.ended((await house.submit("a fox"))["id"])
            await house.webhooks(1)
            reason = await eventually(lambda: disabled(house), bool, 5)
            another = await house.submit("another fox")
            await house.ended(another["id"])
            (delivery,) = await eventually(
                lambda: deliveries_of(house, another["id"]), lambda seen: seen and seen[0]["state"] == "dead", 5
            )
            assert (delivery["attempts"], delivery["lastError"]) == ([], reason)
            assert len(house.received) == 1

    async def test_a_request_may_name_its_own_receiver_on_an_allowed_host(self, tmp_path):
        async with open_house(tmp_path, webhook_hosts="127.0.0.1") as house:
            own = house.plant.settings.webhook_url.replace("/hook", "/own")
            await house.submit("a fox", webhook={"url": own})
            await house.webhooks(2)
            assert {hook.path for hook in house.received} == {"/hook", "/own"}


async def arrived(house):
    return [json.loads(hook.body) for hook in house.received]


async def deliveries_of(house, generation_id):
    return (await house.api.get(f"/api/generations/{generation_id}/events")).json()["deliveries"]


async def disabled(house):
    return await house.plant.db.read(
        lambda tx: tx.value("SELECT disabled_reason FROM webhook_endpoint WHERE disabled_at IS NOT NULL")
    )


async def test_many_generations_share_the_house(tmp_path):
    async with open_house(tmp_path, max_in_flight=5) as house:
        asked = await asyncio.gather(*(house.submit(f"fox {number}") for number in range(20)))
        ended = await asyncio.gather(*(house.ended(one["id"], 30) for one in asked))
        assert {one["status"] for one in ended} == {"completed"}
        assert len(await house.ledger()) == 20
        await house.webhooks(20)
        assert len({hook.headers["webhook-id"] for hook in house.received}) == 20
