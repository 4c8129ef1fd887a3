"""Commands that speak to a service: what they print, what they ask, and how they end."""

import json
import os
import pty
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse

from pipeline.cli.client import Client
from pipeline.cli.delivery import advice_for
from pipeline.cli.follow import EventParser
from pipeline.cli.redriving import dead_text, plan_text
from pipeline.cli.stats import status_text
from pipeline.cli.tables import table
from pipeline.cli.watch import time_left
from pipeline.cli.words import span_text
from tests.cli_place import dailies, neighbour, printed_json, program

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    with neighbour(tmp_path_factory.mktemp("service"), mock_recovery="none") as place:
        yield place


def eventually(look, good, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not good(seen := look()):
        assert time.monotonic() < deadline, seen
        time.sleep(0.02)
    return seen


# --- watch ------------------------------------------------------------------------------------------------------------


def test_watch_tells_every_stage_and_ends_with_the_url(service):
    taken = service.call(service.house.submit, "x [[slow:0.5]]", generationId="watched")
    result = service.run("watch", "watched")
    assert result.exit_code == 0, result.output
    assert result.stdout.strip() == service.call(service.house.get, taken["id"])["result"]["videoUrl"]
    for stage in ("submitting", "generating", "storing"):
        assert f"{stage:<12} took" in result.stderr


def test_watch_of_one_that_has_ended_ends_at_once(service):
    assert service.run("watch", service.completed()).stdout.startswith("http")
    failed = service.run("watch", service.failed())
    assert (failed.exit_code, failed.stdout) == (1, "")
    assert "content_blocked" in failed.stderr


def test_watch_as_json_is_a_line_for_each_change(service):
    taken = service.call(service.house.submit, "x [[slow:0.3]]")
    result = service.run("watch", taken["id"], "--json")
    assert result.exit_code == 0, result.output
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert lines[-1]["status"] == "completed"
    assert len(lines) > 1
    assert all(before != after for before, after in pairwise(lines))


def test_watch_of_nothing_is_2_and_of_nobody_is_3(service):
    missing = service.run("watch", "gen_nothing")
    assert (missing.exit_code, missing.stderr) == (2, "Error: there is no generation 'gen_nothing'\n")
    away = dailies("watch", "x", "--url", "http://127.0.0.1:1", "--retry-for", "0.2")
    assert away.exit_code == 3
    assert "cannot be reached" in away.stderr


def generation(status, **members):
    shown = {"id": "gen_1", "status": status, "stage": None, "progress": None, "provider": "mock", "model": None}
    return shown | {"startedAt": None, "completedAt": None, "error": None, "result": None} | members


def scripted(events, polls):
    """A service that answers streams with `events` (bytes, or None for none) and reads with each of `polls`, the last
    again and again."""

    def answer(request, body):
        if request.url.path == "/api/generations":
            return JSONResponse({"object": "list", "data": [], "hasMore": False, "nextCursor": None})
        if "text/event-stream" in request.headers.get("accept", ""):
            seen.append(request.headers.get("last-event-id"))
            if not events:
                return JSONResponse({"data": [], "deliveries": []})
            return StreamingResponse(iter([events.pop(0)]), media_type="text/event-stream")
        if request.url.path.endswith("/events"):
            return JSONResponse({"data": [], "deliveries": []})
        return JSONResponse(polls.pop(0) if len(polls) > 1 else polls[0])

    seen = []
    return answer, seen


DONE = generation("completed", result={"videoUrl": "https://cdn.example/v.mp4"})


def frame(name, data, event_id=None):
    head = f"id: {event_id}\n" if event_id else ""
    return f"{head}event: {name}\ndata: {json.dumps(data)}\n\n".encode()


def test_watch_takes_a_stream_where_there_is_one_and_goes_on_behind_its_last_event():
    running = generation("processing", stage="generating")
    cut = frame("generating", {}, "7") + frame("generation", running)
    end = frame("generation", DONE) + frame("end", {"status": "completed"}, "9-end")
    answer, seen = scripted([cut, end], [running])
    with program(answer) as url:
        result = dailies("watch", "gen_1", "--url", url, "--key", "k")
    assert (result.exit_code, result.stdout) == (0, "https://cdn.example/v.mp4\n"), result.output
    assert seen == [None, "7"]


def test_watch_polls_where_there_is_no_stream():
    answer, seen = scripted([], [generation("queued"), generation("queued"), generation("processing"), DONE])
    with program(answer) as url:
        result = dailies("watch", "gen_1", "--url", url, "--key", "k")
    assert (result.exit_code, len(seen)) == (0, 1), result.output


def test_events_are_read_however_the_bytes_are_cut():
    stream = (
        b": hello\r\n\r\nid: 4\r\nevent: a\r\ndata: 1\r\ndata: 2\r\n\r\n" + 'data: "ü\u2028"\n\ndata: lost'.encode()
    )
    for size in (1, 2, 7, len(stream)):
        parser = EventParser()
        found = [e for at in range(0, len(stream), size) for e in parser.feed(stream[at : at + size])]
        assert found == [("a", "1\n2"), ("message", '"ü\u2028"')]
        assert parser.last_id == "4"


def test_time_left_comes_from_what_others_took_and_how_far_it_is():
    started = generation("processing", startedAt="2026-11-22T14:00:00Z")
    at = 1795356000.0
    assert time_left(started, None, at) is None
    assert time_left(started, 60.0, at + 20) == 40
    assert time_left(started | {"progress": 10}, 60.0, at + 59) == 54
    assert time_left(started, 60.0, at + 90) == 0
    assert time_left(DONE, 60.0, at) is None
    assert [span_text(seconds) for seconds in (8.2, 119, 150, 7200, 90_000, 800_000)] == [
        *("8 s", "119 s", "2 min", "2.0 h", "25 h", "9 d")
    ]


# --- list -------------------------------------------------------------------------------------------------------------


def test_list_is_a_table_narrowed_by_filters(service):
    blocked, fine = service.failed(userId="ann"), service.completed("the sea", userId="bob", metadata={"scene": "12"})
    shown = service.run("list", "--user", "ann").stdout.splitlines()
    assert shown[0].split() == ["ID", "STATE", "PROVIDER", "USER", "AGE", "TOOK", "PROMPT"]
    assert shown[1].startswith(f"{blocked}  failed")
    assert "content_blocked" in shown[1]
    for filters in (
        ("--metadata", "scene=12"),
        ("--user", "bob", "--since", "1h"),
        ("--user", "bob", "--status", "completed"),
    ):
        assert [g["id"] for g in printed_json("list", *filters, env=service.env)["data"]] == [fine]
    assert printed_json("list", "--user", "ann", "--until", "1h", env=service.env)["data"] == []
    assert printed_json("list", "--user", "ann", "--error", "other", env=service.env)["data"] == []


def test_list_says_that_there_is_more_and_all_reads_every_page(service):
    made = [service.call(service.house.submit, "x", userId="carl")["id"] for _ in range(3)]
    assert "there are more" in service.run("list", "--user", "carl", "--limit", "2").stdout
    whole = printed_json("list", "--user", "carl", "--all", "--oldest", env=service.env)
    assert [g["id"] for g in whole["data"]] == sorted(made)
    assert whole["hasMore"] is False


@pytest.mark.anyio
async def test_pages_are_put_together_until_there_are_enough():
    class Pages(Client):
        def __init__(self):
            self.asked = []

        async def get(self, path, query=None):
            self.asked.append((query["after"], query["limit"]))
            first = int(query["after"] or 0)
            last = min(250, first + query["limit"])
            return {"data": list(range(first, last)), "hasMore": last < 250, "nextCursor": str(last)}

    pages = Pages()
    assert len((await pages.pages("/x", {}, 120))["data"]) == 120
    assert pages.asked == [(None, 100), ("100", 20)]
    assert len((await pages.pages("/x", {}, None))["data"]) == 250


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--since", "yesterday"), "neither an age"),
        (("--status", "done"), "is none of queued"),
        (("--limit", "0"), "is not in the range"),
    ],
)
def test_a_filter_that_cannot_be_is_refused(service, options, words):
    result = service.run("list", *options)
    assert (result.exit_code, words in result.stderr) == (2, True), result.output


def test_a_table_fits_and_prints_nothing_that_steers_a_terminal():
    lines = table(("A", "TEXT"), [("1", "x\x1b[2J" + "y" * 40), (None, "z")], 30).splitlines()
    assert lines == ["A  TEXT", f"1  x [2J{'y' * 21}…", "-  z"]


# --- cancel, delete ---------------------------------------------------------------------------------------------------


def test_cancel_takes_several_and_tells_what_it_could_not(service):
    ids = [service.call(service.house.submit, "x [[stuck]]")["id"] for _ in range(2)]
    result = service.run("cancel", ids[0], "gen_nothing", ids[1])
    assert result.exit_code == 2
    assert [line.split()[0] for line in result.stdout.splitlines()] == ids
    assert "gen_nothing: there is no generation" in result.stderr
    for each in ids:
        assert service.call(service.house.ended, each)["status"] == "cancelled"
    assert service.run("cancel", ids[0]).stdout.startswith(f"{ids[0]}  cancelled, billed: ")


def test_delete_asks_for_a_yes_and_leaves_nothing_to_show(service):
    made = service.completed()
    unasked = service.run("delete", made)
    assert (unasked.exit_code, "say --yes" in unasked.stderr) == (2, True)
    assert printed_json("delete", made, "--yes", env=service.env)["data"][0]["deleted"] is True
    gone = service.run("show", made)
    assert (gone.exit_code, "deleted" in gone.stderr) == (2, True)


def test_what_runs_is_not_deleted_and_the_way_is_told(service):
    running = service.call(service.house.submit, "x [[stuck]]")["id"]
    result = service.run("delete", running, "--yes")
    assert (result.exit_code, "cancel it first" in result.stderr) == (2, True)
    service.run("cancel", running)


# --- redrive ----------------------------------------------------------------------------------------------------------


def test_redrive_says_what_it_costs_first_and_then_goes_on(service):
    failed = service.failed()
    looked = service.run("redrive", failed, "--dry-run")
    assert "submits anew; about " in looked.stdout
    assert service.call(service.house.get, failed)["run"] == 1
    went = service.run("redrive", failed)
    assert went.exit_code == 0, went.output
    assert "about" in went.stderr
    assert f"{failed}  run 2" in went.stdout
    assert service.call(service.house.ended, failed)["run"] == 2


def test_nothing_is_paid_twice_unless_that_is_allowed(service):
    failed = service.failed("x [[drop-submit:1]]")
    refused = service.run("redrive", failed, "--yes")
    assert refused.exit_code == 2
    assert "earlier submissions cost, or may have cost" in refused.stderr
    assert "what to do: --allow-repay" in refused.stderr
    assert service.call(service.house.get, failed)["run"] == 1
    assert service.run("redrive", failed, "--allow-repay", "--json").exit_code == 0
    assert service.call(service.house.ended, failed)["run"] == 2


def test_what_has_not_failed_is_not_redriven(service):
    result = service.run("redrive", service.completed())
    assert (result.exit_code, "it is completed" in result.stderr) == (2, True)


def at_terminal(service, *args, answer):
    """A command at a real terminal, whose question is answered: exit code and what was printed."""
    ours, theirs = pty.openpty()
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "TERM": "dumb", **service.env}
    command = [sys.executable, "-m", "pipeline", *args]
    process = subprocess.Popen(
        command, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env, text=True
    )
    os.write(ours, f"{answer}\n".encode())
    printed, _ = process.communicate(timeout=20)
    os.close(ours)
    os.close(theirs)
    return process.returncode, printed


def test_at_a_terminal_it_asks_before_it_pays(service):
    failed = service.failed()
    assert at_terminal(service, "redrive", failed, answer="n")[0] == 2
    assert service.call(service.house.get, failed)["run"] == 1
    twice = service.failed("y [[drop-submit:1]]")
    code, printed = at_terminal(service, "redrive", twice, answer="y")
    assert (code, "Pay again?" in printed) == (0, True), printed
    assert service.call(service.house.ended, twice)["run"] == 2


def test_a_plan_in_words():
    plan = {"from": "store", "estimatedCostMicros": 0, "possiblyPaidMicros": 400_000, "needsAllowRepay": False}
    assert plan_text({"id": "gen_1", "redrive": plan}).endswith("storing the video that was made; nothing is paid")
    counts = {"generation": 1, "delivery": 2}
    done = {"dryRun": False, "redriven": counts, "estimatedCostMicros": 400_000, "refused": {}}
    assert dead_text(done) == "1 generation and 2 deliveries go on, about 0.40 USD"


# --- dead, deliveries -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def troubled(tmp_path_factory):
    """A house whose receiver never takes anything, so that deliveries die."""
    with neighbour(tmp_path_factory.mktemp("troubled"), webhook_schedule="0,0.01", store_attempts=1) as place:
        place.house.answers[:] = [500] * 6
        made = [place.completed(), place.failed("x [[truncated:1]]"), place.completed()]
        eventually(lambda: place.run("dead", "--json").stdout, lambda text: len(json.loads(text)["data"]) >= 3)
        yield place, made


def test_dead_letters_are_listed_grouped_and_narrowed(troubled):
    place, _ = troubled
    shown = place.run("dead").stdout
    assert shown.splitlines()[0].split() == ["ID", "ERROR", "DIED", "TRIES", "LANE", "MESSAGE"]
    assert "500: the receiver's handler failed" in shown
    groups = printed_json("dead", "--group", env=place.env)["data"]
    assert groups[0]["kind"] == "delivery"
    assert f"\n{groups[0]['count']}" in place.run("dead", "--group").stdout
    assert printed_json("dead", "--error", "nothing", env=place.env)["data"] == []
    kinds = {letter["kind"] for letter in printed_json("dead", "--kind", "delivery", env=place.env)["data"]}
    assert kinds == {"delivery"}


def test_deliveries_are_listed_shown_with_their_attempts_and_sent_again(troubled):
    place, made = troubled
    listed = printed_json("deliveries", "--generation", made[0], "--state", "dead", "--since", "1h", env=place.env)
    delivery = listed["data"][0]
    assert delivery["id"] in place.run("deliveries", "--state", "dead").stdout
    story = place.run("deliveries", delivery["id"]).stdout
    assert story.count("\n  attempt ") == 2
    assert f"of {made[0]}" in story
    assert "why           500: the receiver's handler failed" in story
    assert f"`dailies redeliver {delivery['id']}`" in story
    assert "to 127.0.0.1 over a " in story
    assert "> webhook-signature: v1," in place.run("delivery", delivery["id"], "--headers").stdout
    assert delivery["id"] in place.run("delivery", made[0]).stdout
    assert printed_json("delivery", made[0], env=place.env)[0]["attempts"][0]["requestHeaders"]
    assert place.run("delivery", "dlv_nothing").exit_code == place.run("delivery", "nothing").exit_code == 2
    sent = place.run("redeliver", delivery["id"])
    assert (sent.exit_code, sent.stdout.startswith("dlv_")) == (0, True), sent.output
    again = sent.stdout.split()[0]
    eventually(lambda: printed_json("deliveries", again, env=place.env), lambda found: found["state"] == "delivered")
    assert place.run("redeliver", "dlv_nothing").exit_code == 2


TOLD = {"id": "dlv_1", "attempts": [], "errorCode": None}


@pytest.mark.parametrize(
    ("delivery", "words"),
    [
        ({"state": "delivered"}, "the receiver said 2xx"),
        ({"state": "pending"}, None),
        ({"state": "cancelled"}, None),
        ({"state": "pending", "errorCode": "webhook_answered"}, "wait for the next attempt"),
        ({"state": "pending", "errorCode": "webhook_proxy_failed"}, "EGRESS_PROXY"),
        ({"state": "dead", "errorCode": "webhook_refused"}, "mend what is said above"),
        ({"state": "dead", "errorCode": "endpoint_disabled"}, "opens it again"),
        ({"state": "dead", "errorCode": "webhook_answered", "attempts": [{"status": 410}]}, "opens it again"),
        ({"state": "dead", "errorCode": "webhook_answered", "attempts": [{"status": 500}]}, "mend what is said above"),
    ],
)
def test_what_to_do_about_a_delivery_is_said(delivery, words):
    told = advice_for(TOLD | delivery)
    assert told is None if words is None else words in told


def test_dead_letters_are_set_going_again(troubled):
    place, made = troubled
    assert place.run("dead", "redrive").exit_code == 2
    assert place.run("dead", "redrive", "--all", "--error", "x").exit_code == 2
    looked = place.run("dead", "redrive", "--all", "--dry-run")
    assert "would go on" in looked.stdout
    nothing = place.run("dead", "redrive", "gen_nothing")
    assert (nothing.exit_code, "1 are not dead" in nothing.stderr) == (1, True), nothing.output
    went = place.run("dead", "redrive", "--all")
    assert went.exit_code == 0, went.output
    assert "deliver" in went.stdout
    eventually(lambda: printed_json("dead", env=place.env)["data"], lambda dead: not dead)
    assert place.call(place.house.ended, made[1])["status"] == "completed"


# --- pause, stats -----------------------------------------------------------------------------------------------------


def test_a_lane_is_paused_by_its_providers_name_and_opened_again(service):
    paused = service.run("pause", "mock", "--seconds", "600", "--reason", "a test")
    assert paused.stdout.startswith("provider:mock is paused until 2"), paused.output
    assert paused.stdout.endswith(": a test\n")
    assert "paused until" in service.run("stats").stdout
    assert service.run("resume", "mock").stdout == "provider:mock is open\n"
    unknown = service.run("pause", "other")
    assert (unknown.exit_code, "allowed: " in unknown.stderr) == (2, True)


def test_the_whole_service_is_paused(service):
    assert service.run("pause").stdout == "the whole service is paused until it is resumed: paused by hand\n"
    assert printed_json("resume", env=service.env)["paused"] is False


def test_stats_show_the_queue(service):
    service.completed()
    shown = service.run("stats").stdout
    for words in ("WAITING", "generations", "provider:mock", "workers alive: 1", "In the last hour"):
        assert words in shown
    assert printed_json("stats", env=service.env)["object"] == "queue"


def test_stats_of_a_tenant_have_no_lanes_and_no_workers():
    counted = {"byStatus": {"waiting": 3, "pending": 0, "processing": 1, "dead": 0}, "byStep": {"poll": 1}}
    status = {"at": "now", "generations": counted, "deliveries": counted, "oldestWaitingSeconds": 150.0, "held": 1}
    shown = status_text(status)
    assert "the oldest waits for 2 min" in shown
    assert "1 held" in shown
    assert "workers" not in shown


def test_stats_go_on_until_ctrl_c(service):
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **service.env}
    command = [sys.executable, "-m", "pipeline", "stats", "--watch", "--every", "0.2", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env, text=True) as process:
        assert [json.loads(process.stdout.readline())["object"] for _ in range(2)] == ["queue", "queue"]
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=10)
    assert (process.returncode, "Traceback" in err) == (130, False)


# --- errors -----------------------------------------------------------------------------------------------------------


def test_what_is_done_once_is_not_repeated_when_its_answer_is_lost():
    asked = []

    def hung_up(request, body):
        asked.append(request.url.path)
        return StreamingResponse(iter(()), headers={"content-length": "10"})

    with program(hung_up) as url:
        result = dailies("redeliver", "dlv_1", "--url", url, "--key", "k", "--retry-for", "2")
    assert result.exit_code == 3
    assert "whether it was done is not known" in result.stderr
    assert len(asked) == 1


def test_a_page_of_another_program_is_told_from_the_service():
    with program(lambda request, body: PlainTextResponse("hello", 404)) as url:
        result = dailies("stats", "--url", url, "--key", "k")
    assert (result.exit_code, "is it this service?" in result.stderr) == (2, True)


def test_a_key_without_the_scope_is_told_where_to_get_one():
    problem = {"code": "forbidden", "detail": "this needs a key with the scope 'admin'"}
    with program(lambda request, body: JSONResponse(problem, 403)) as url:
        result = dailies("dead", "--url", url, env={"DAILIES_KEY": "dk_x"})
    assert "dailies keys create" in result.stderr


def test_nothing_of_this_machines_settings_is_needed_with_url_and_key(tmp_path):
    (tmp_path / ".env").write_text("PORT=http\n")
    with program(lambda request, body: JSONResponse({"object": "list", "data": [], "hasMore": False})) as url:
        assert dailies("list", "--url", url, "--key", "k").exit_code == 0
    assert dailies("list", "--url", url).exit_code == 2
