"""What became of a generation that has ended, and how its webhooks fare. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.api.explain.facts import Facts
from pipeline.api.explain.told import Told, clock, sentence
from pipeline.api.redrive import plan_view
from pipeline.db import Row
from pipeline.generations import From, NotRedrivable, Plan, plan
from pipeline.lifecycle import GenerationStatus, JobStatus, Step
from pipeline.money import usd

NOTHING = "Nothing."


def tell_ended(facts: Facts, deliveries: Sequence[Row], price: int | None, held: Mapping[str, Any] | None) -> Told:
    """A generation that has ended. `deliveries` as the reader may see them, `price` of a new submission in micro-USD,
    None if it cannot be made here; `held` explains a paid call that is still unclear."""
    told = _end(facts, price)
    webhooks, to_do = _webhooks(deliveries)
    what = " ".join(part for part in (told.summary, _late(facts.job), _unclear(held), webhooks) if part)
    parts = [part for part in (told.to_do, held and str(held["whatToDo"]), to_do) if part and part != NOTHING]
    shown = None if held is None else dict(held)
    return Told(told.state, what, " ".join(parts) or NOTHING, {**told.facts, "held": shown})


def _late(job: Row | None) -> str:
    asked = job is not None and job["step"] == Step.LATE and job["finished_at"] is None
    return "Its provider is asked on quietly whether it finishes it after all." if asked else ""


def _unclear(held: Mapping[str, Any] | None) -> str:
    return "" if held is None else f"A paid call of it is still unclear. {held['happened']}"


def _end(facts: Facts, price: int | None) -> Told:
    row = facts.row
    at = clock(row["finished_at"]) if row["finished_at"] is not None else "some time"
    match GenerationStatus(row["status"]):
        case GenerationStatus.COMPLETED:
            gone = row["expired_at"] is not None
            kept = "the video was removed since" if gone else "the video is stored"
            return Told("completed", f"It was completed at {at}, and {kept}.", NOTHING)
        case GenerationStatus.CANCELLED:
            charged = {"no": "nothing was charged", "yes": "it was charged"}.get(row["billed"], "it may be charged")
            return Told("cancelled", f"It was cancelled at {at}; {charged}.", NOTHING)
    return _failed(facts, at, price)


def _failed(facts: Facts, at: str, price: int | None) -> Told:
    row = facts.row
    dead = facts.job is not None and facts.job["status"] == JobStatus.DEAD
    why = f"{sentence(row['error_message'])[:-1]} ({row['error_code']})."
    state, how = ("dead", "It was given up") if dead else ("failed", "It failed")
    try:
        planned = plan(row, facts.submissions, None, price)
    except NotRedrivable as reason:
        return Told(state, f"{how} at {at}: {why}", f"It cannot be set going again: {sentence(str(reason))}")
    return Told(state, f"{how} at {at}: {why}", _again(row, planned), {"redrive": plan_view(planned)})


_GOES_ON = {
    From.STORE: "stores the video that was made, at no charge",
    From.POLL: "waits on for the work that the provider took, at no charge",
    From.RESOLVE: "finds out first what became of the paid call",
}


def _again(row: Row, planned: Plan) -> str:
    command = f"`dailies redrive {row['id']}`"
    if planned.start is not From.SUBMIT:
        return f"{command} {_GOES_ON[planned.start]}."
    likely = "" if row["error_retryable"] else "The same request is likely to end the same: change it and ask anew, or "
    if planned.repays:
        paid = usd(planned.paid_micros or 0)
        return f"{likely}`dailies redrive {row['id']} --allow-repay` pays again ({paid} may have been paid already)."
    return f"{likely}{command} asks anew, for about {usd(planned.estimate_micros)}."


def _webhooks(deliveries: Sequence[Row]) -> tuple[str, str]:
    """How they fare, in a sentence each, and what to do about those that were given up."""
    if not deliveries:
        return "No webhook tells of it: no endpoint wanted its events.", ""
    dead = [each["id"] for each in deliveries if each["state"] == "dead"]
    to_do = f"To send it again once the receiver is mended: `dailies redeliver {' '.join(dead)}`." if dead else ""
    return " ".join(_one(each) for each in deliveries), to_do


def _one(delivery: Row) -> str:
    where = delivery["endpoint_id"] or "its own url"
    what = f"{delivery['type']} to {where}"
    error = "" if delivery["last_error"] is None else f" ({delivery['last_error']})"
    match delivery["state"]:
        case "delivered":
            return f"{what} was delivered."
        case "dead":
            return f"{what} was given up{error}."
        case "cancelled":
            return f"{what} was cancelled."
    at = "as soon as it may" if delivery["next_at"] is None else f"at {clock(delivery['next_at'])}"
    return f"{what} is tried {'again ' if delivery['last_error'] else ''}{at}{error}."
