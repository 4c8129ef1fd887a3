"""Why a generation waits to be started, where it stands, and when its turn should come. Pure.

The expected start goes by the pace of its road: so many places, each taken for as long as a generation usually takes,
and so many calls a minute. Who comes meanwhile and goes before it, or fails early, is not foreseen.
"""

from __future__ import annotations

from typing import Any

from pipeline.admission import Standing, Why
from pipeline.api.explain.facts import Facts
from pipeline.api.explain.told import Told, clock, sentence, span
from pipeline.queue import FAR_FUTURE
from pipeline.schemas import iso

MINUTE_MS = 60_000
UNFORESEEN = frozenset({Why.USER_PAUSED, Why.SPEND, Why.LANE_PROBING})
"""What ends by others' work or money: no pace says when its own turn comes."""
SOON = "Nothing: it starts by itself."


def expected_start(standing: Standing, now: int, seconds: float) -> int | None:
    """When it should start, in milliseconds; None where nobody can tell. `seconds` is how long a place is taken."""
    opens = standing.retry_at
    if opens is not None and opens >= FAR_FUTURE:
        return None
    if standing.reason in UNFORESEEN:
        return opens
    if standing.reason is Why.USER_FULL:
        places = standing.user_places or 0
        return now + int((standing.ahead + 1) * seconds / places * 1000) if places else None
    if standing.reason is Why.NEXT:
        return now
    begins = max(now, opens or 0)
    position, free = standing.position or 1, max(0, standing.lane_places - standing.lane_in_flight)
    if standing.reason in {Why.SERVICE_PAUSED, Why.LANE_PAUSED} and opens is None:
        return None
    if standing.lane_places <= 0:
        return None
    by_places = max(0, position - free) * seconds / standing.lane_places * 1000
    by_rate = (position - 1) / standing.per_minute * MINUTE_MS if standing.per_minute else 0.0
    return begins + int(max(by_places, by_rate))


def tell_waiting(facts: Facts, standing: Standing, seconds: float, *, operator: bool) -> Told:
    """A generation that admission has not started yet."""
    if facts.workers.alive == 0:
        return _nobody(facts, operator=operator)
    summary, to_do = _why(standing, facts, operator=operator)
    starts = expected_start(standing, facts.now, seconds)
    place = _place(standing)
    if place and standing.reason not in {Why.NEXT, Why.BEHIND}:
        summary += f" {place}"
    if starts is not None and standing.reason is not Why.NEXT and starts > facts.now:
        summary += f" It should start about {clock(starts)} (in {span(starts - facts.now)})."
    return Told(standing.reason.value, summary, to_do, _facts(standing, starts, operator=operator))


def _nobody(facts: Facts, *, operator: bool) -> Told:
    seen = facts.workers.seen_at
    last = f"the last one was seen at {clock(seen)}" if seen is not None else "none that did not sign out is known"
    what = "Start one: `dailies worker` (or `dailies serve`), with the service's settings. Nothing is lost meanwhile."
    to_do = what if operator else "Tell whoever runs the service. Nothing is lost meanwhile."
    return Told("no_worker", f"It waits, and no worker is alive to start it: {last}.", to_do)


def _place(standing: Standing) -> str:
    if standing.position is None:
        return ""
    least = "" if standing.exact else "at least "
    return f"It is {least}number {standing.position} in line."


def _why(standing: Standing, facts: Facts, *, operator: bool) -> tuple[str, str]:
    """The sentence, and what to do."""
    provider = standing.lane.partition(":")[2]
    match standing.reason:
        case Why.SERVICE_PAUSED:
            return _paused("The whole service", standing, "`dailies resume` starts it again.", operator)
        case Why.LANE_PAUSED:
            how = f"`dailies resume {provider}` opens it at once, if what closed it is mended."
            return _paused(f"The road to {provider}", standing, how, operator)
        case Why.USER_PAUSED:
            how = f"`dailies resume user:{facts.row['user_id']}` lets this user go on{_of(facts)}."
            return _paused("Its user", standing, how, operator=True)
        case Why.SPEND:
            return _spend(standing)
        case Why.USER_FULL:
            return _user_full(standing, facts)
        case Why.LANE_PROBING:
            return (
                f"The provider {provider} closed its road, and is probed with one call at a time until it works again.",
                f"Nothing; or `dailies resume {provider}`, if it works again." if operator else SOON,
            )
    return _in_line(standing, provider, operator=operator)


def _in_line(standing: Standing, provider: str, *, operator: bool) -> tuple[str, str]:
    match standing.reason:
        case Why.LANE_FULL:
            taken = f": {standing.lane_in_flight} of {standing.lane_places} are in flight" if operator else ""
            more = "raise MAX_IN_FLIGHT or PROVIDER_MAX_IN_FLIGHT if the provider allows more"
            return f"All places at {provider} are taken{taken}.", f"Nothing; or {more}." if operator else SOON
        case Why.MINUTE_USED:
            rate = f" ({standing.per_minute}, REQUESTS_PER_MINUTE)" if operator else ""
            return f"The calls of this minute to {provider} are used up{rate}.", SOON
        case Why.BEHIND:
            ahead = f", {standing.ahead} of them of its own user" if standing.ahead else ""
            least = "" if standing.exact else "at least "
            number = (standing.position or 1) - 1
            return f"There are places at {provider}, and {least}{number} generations go before it{ahead}.", SOON
    return f"Nothing is in its way: it starts with the next look at what waits for {provider}.", SOON


def _paused(what: str, standing: Standing, how: str, operator: bool) -> tuple[str, str]:
    until = standing.retry_at
    ends = f"until {clock(until)}" if until is not None and until < FAR_FUTURE else "until it is resumed"
    to_do = how if operator else "Nothing, or ask whoever runs the service."
    return f"{what} is paused {ends}: {sentence(standing.detail)}", to_do


def _of(facts: Facts) -> str:
    tenant = facts.row["tenant_id"]
    return "" if tenant == "default" else f" (--tenant {tenant}, for the operator)"


def _spend(standing: Standing) -> tuple[str, str]:
    again = "" if standing.retry_at is None else f" It is looked at again at {clock(standing.retry_at)} at the latest."
    return (
        f"There is no money for it today: {sentence(standing.detail)}{again}",
        "Nothing: it starts when there is money again. Or raise the cap (SPEND_PER_...) on purpose, or cancel it.",
    )


def _user_full(standing: Standing, facts: Facts) -> tuple[str, str]:
    user, ahead = facts.row["user_id"], standing.ahead
    before = f", and {ahead} more of the same user go before it" if ahead else ""
    name = "requests without a userId have" if user is None else f"the user {user} has"
    more = "raise USER_MAX_IN_FLIGHT" if user is None else f"`dailies users set {user} --max-in-flight N`"
    if standing.user_places == 0:
        whose = "Requests without a userId" if user is None else f"The user {user}"
        return f"{whose} may have nothing in flight: the bound is 0{before}.", f"To let it start: {more}."
    return (
        f"Of at most {standing.user_places} generations at once {name} {standing.user_total} in flight{before}.",
        f"Nothing: the next starts when one of them ends; or {more}.",
    )


def _facts(standing: Standing, starts: int | None, *, operator: bool) -> dict[str, Any]:
    until = standing.retry_at
    return {
        "position": standing.position,
        "positionExact": standing.exact if standing.position is not None else None,
        "retryAt": None if until is None or until >= FAR_FUTURE else iso(until),
        "expectedStart": iso(starts),
        "waiting": {
            "lane": standing.lane,
            "detail": standing.detail,
            "laneInFlight": standing.lane_in_flight if operator else None,
            "lanePlaces": standing.lane_places if operator else None,
            "requestsPerMinute": standing.per_minute if operator else None,
            "userInFlight": standing.user_total,
            "userMaxInFlight": standing.user_places,
            "userAhead": standing.ahead,
            "userWeight": float(standing.weight),
        },
    }
