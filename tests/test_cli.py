"""The `dailies` command, as real processes: what it prints, and how it ends."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner
from rich.console import Console

from pipeline.cli import main
from pipeline.cli.base import CommandError
from pipeline.cli.demo import DemoSettings, prepare
from pipeline.cli.ports import free_port
from pipeline.cli.watch import display
from pipeline.cli.words import problem_text, ranges
from pipeline.config import Settings
from pipeline.media import probe

ROOT = Path(__file__).parent.parent
COMMANDS = ["serve", "api", "worker", "work", "migrate", "submit", "show", "mock", "receive", "demo"]
COMMANDS += ["estimate", "models", "trigger", "verify", "sink", "drill"]
KEY = "sesame"
QUICK = {"MOCK_SPEED": "60", "POLL_INTERVAL": "0.2", "ALLOWED_NETWORKS": "127.0.0.0/8,::1/128", "LOG_FORMAT": "text"}


class Place:
    """A directory with its settings, and the commands that are run there: nothing else of the environment gets in."""

    def __init__(self, folder, **env):
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.port, self.hooks, self.mock = free_port(), free_port(), free_port()
        self.env = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "PYTHONPATH": str(ROOT),
            "PORT": str(self.port),
            "PROVIDER": "mock",
            "MOCK_URL": f"http://127.0.0.1:{self.mock}",
            "WEBHOOK_URL": f"http://127.0.0.1:{self.hooks}/api/webhooks/worker",
            "DATA_DIR": str(folder / "data"),
            **QUICK,
            **env,
        }
        self.url = f"http://127.0.0.1:{self.port}"

    def popen(self, *args, env=None, **options):
        command = [sys.executable, "-m", "pipeline", *args]
        return subprocess.Popen(command, cwd=self.folder, env=self.env | (env or {}), text=True, **options)

    def run(self, *args, env=None, seconds=30):
        """A command from start to end."""
        process = self.popen(*args, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            out, err = process.communicate(timeout=seconds)
        finally:
            end(process)
        return subprocess.CompletedProcess(args, process.returncode, out, err)

    @contextmanager
    def running(self, *args, env=None, until):
        """A command that stays, once `until` is in what it prints; ended by force if it is still there at the end."""
        log = self.folder / f"{args[0]}-{time.monotonic_ns()}.log"
        with log.open("w") as stream:
            process = self.popen(*args, env=env, stdout=stream, stderr=stream)
            process.printed = log.read_text
            try:
                eventually(lambda: until in log.read_text() or process.poll() is not None, log.read_text)
                assert process.poll() is None, log.read_text()
                yield process
            finally:
                end(process)


def end(process):
    if process.poll() is None:
        process.kill()
    process.wait(timeout=10)


def eventually(condition, explain=lambda: "", seconds=15.0):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, explain()
        time.sleep(0.02)
    return found


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    """`serve` with a key, and beside it `receive` in the same directory."""
    place = Place(tmp_path_factory.mktemp("service"), API_KEY=KEY)
    with place.running("serve", until="service.started") as serve:
        with place.running("receive", "--port", str(place.hooks), until="A page") as receive:
            place.serve, place.receive = serve, receive
            yield place
        serve.send_signal(signal.SIGINT)
        assert serve.wait(timeout=10) == 0, serve.printed()
        assert "Traceback" not in serve.printed()


# --- help ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_with_an_example(command):
    answer = CliRunner().invoke(main, [command, "--help"], prog_name="dailies")
    assert answer.exit_code == 0
    assert f"Usage: dailies {command}" in answer.stdout
    assert f"Example:\n    dailies {command}" in answer.stdout


def test_help_lists_every_command_and_imports_nothing_heavy(tmp_path):
    answer = Place(tmp_path).run("--help")
    assert set(COMMANDS) <= set(re.findall(r"^  ([a-z]+)  +[A-Z]", answer.stdout, re.MULTILINE))
    check = (
        "import sys, pipeline.cli; print({'sqlalchemy', 'httpx', 'pydantic', 'starlette', 'rich'} & set(sys.modules))"
    )
    shown = subprocess.run([sys.executable, "-c", check], cwd=ROOT, capture_output=True, text=True, check=True)
    assert shown.stdout == "set()\n"


# --- a service and its clients ---------------------------------------------------------------------------------------


def test_submit_wait_prints_the_url_and_show_tells_the_story(service):
    asked = ("--duration", "5", "--aspect-ratio", "9:16", "--seed", "7", "--metadata", "scene=12", "--user", "ann")
    answer = service.run("submit", "a red fox", "--wait", "--generation-id", "fox-1", *asked)
    assert answer.returncode == 0, answer.stderr
    video = httpx.get(answer.stdout.strip())
    assert (video.status_code, video.headers["content-type"]) == (200, "video/mp4")
    assert re.search(r"^ +[\d.]+ s  storing +took [\d.]+ s$", answer.stderr, re.MULTILINE)

    eventually(lambda: "signature valid" in service.receive.printed(), service.receive.printed)
    eventually(lambda: "generation.completed to ep_default: delivered" in service.run("show", "fox-1").stdout)
    story = service.run("show", "fox-1").stdout
    for words in ("completed  'a red fox'", "generationId  fox-1", "submit.accepted", "took: waiting", "attempt 1 at"):
        assert words in story
    whole = json.loads(service.run("show", "fox-1", "--json").stdout)
    assert whole["metadata"] == {"scene": "12"}
    assert whole["parameters"] == {"duration": 5, "aspectRatio": "9:16", "seed": 7}
    assert [line["event"] for line in whole["timeline"]][-1] == "completed"
    assert whole["deliveries"][0]["state"] == "delivered"


def test_one_key_is_taken_once(service):
    first, second = (service.run("submit", "the sea", "--idempotency-key", "sea-1") for _ in range(2))
    assert first.stdout.startswith("gen_")
    assert first.stdout == second.stdout
    other = service.run("submit", "the sea at night", "--idempotency-key", "sea-1")
    assert other.returncode == 2
    assert f"dailies show {first.stdout.strip()}" in other.stderr


def test_a_generation_that_fails_ends_with_1_and_its_reason(service):
    answer = service.run("submit", "x [[fail:moderation]]", "--wait")
    assert (answer.returncode, answer.stdout) == (1, "")
    assert "content_blocked" in answer.stderr


def test_a_wrong_duration_is_refused_with_what_is_allowed(service):
    answer = service.run("submit", "a red fox", "--duration", "99")
    assert answer.returncode == 2
    assert "--duration (/parameters/duration)" in answer.stderr
    assert "allowed: 1-60" in answer.stderr


def test_a_wrong_key_is_told_where_it_came_from(service):
    wrong = service.run("submit", "a red fox", "--key", "guess")
    assert wrong.returncode == 2
    assert "came from --key" in wrong.stderr
    none = service.run("submit", "a red fox", env={"API_KEY": ""})
    assert none.returncode == 2
    assert "no key was sent" in none.stderr


def test_an_unknown_generation_is_refused(service):
    answer = service.run("show", "gen_nothing")
    assert (answer.returncode, answer.stderr) == (2, "Error: there is no generation 'gen_nothing'\n")


def test_ctrl_c_leaves_the_generation_going_and_says_how_to_look(service):
    process = service.popen("submit", "x [[stuck]]", "--wait", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        assert "taken as gen_" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=10)
    finally:
        end(process)
    assert process.returncode == 130
    assert "the generation goes on; look at it with: dailies show gen_" in err
    assert "Traceback" not in err


def test_a_service_that_is_not_there_is_3_and_says_how_to_repeat(tmp_path):
    place = Place(tmp_path)
    answer = place.run("submit", "a red fox", "--retry-for", "0.3")
    assert answer.returncode == 3
    assert f"http://localhost:{place.port}" in answer.stderr
    assert "--idempotency-key" in answer.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--url", "localhost:8000"), "'localhost:8000' is not the URL of a service"),
        (("--key", "schlüssel"), "characters that cannot be sent"),
        (("--image", "/nowhere.png"), "--image /nowhere.png: No such file"),
        (("--image", __file__), "neither PNG, JPEG nor WebP"),
        (("--metadata", "scene"), "is written NAME=VALUE"),
        (("--priority", "11"), "1<=x<=10"),
    ],
)
def test_what_cannot_be_sent_is_refused_at_once(tmp_path, monkeypatch, options, words):
    monkeypatch.chdir(tmp_path)
    place = Place(tmp_path)
    answer = CliRunner(env=place.env).invoke(main, ["submit", "a red fox", *options])
    assert answer.exit_code == 2
    assert words in answer.stderr


# --- starting and stopping -------------------------------------------------------------------------------------------


def test_submit_waits_through_a_restart_that_sigterm_makes_gracefully(tmp_path):
    place = Place(tmp_path)
    with place.running("serve", until="service.started") as first:
        client = place.popen("submit", "x [[slow:1.5]]", "--wait", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            assert "taken as" in client.stderr.readline()
            first.send_signal(signal.SIGTERM)
            assert first.wait(timeout=10) == 0, first.printed()
            assert "service.stopped" in first.printed()
            with place.running("serve", until="service.started"):
                out, err = client.communicate(timeout=20)
        finally:
            end(client)
    assert client.returncode == 0, err
    assert out.startswith(f"http://localhost:{place.port}/api/generations/gen_")


def test_a_second_signal_ends_at_once(tmp_path):
    place = Place(tmp_path)
    with place.running("serve", until="service.started") as serve:
        place.run("submit", "x [[slow-submit:60]]")
        ledger = f"{place.env['MOCK_URL']}/ledger"
        eventually(lambda: httpx.get(ledger).json()["entries"], serve.printed)
        serve.send_signal(signal.SIGTERM)
        eventually(lambda: "service.stopping" in serve.printed(), serve.printed)
        serve.send_signal(signal.SIGTERM)
        assert serve.wait(timeout=5) == 128 + signal.SIGTERM


def test_serve_says_why_it_does_not_start(tmp_path):
    mistakes = {
        "API_KEY must be set, since HOST=0.0.0.0": {"HOST": "0.0.0.0"},
        "PORT: ": {"PORT": "http"},
        "name a file, such as sqlite:///": {"DATABASE_URL": "sqlite://"},
    }
    started = [
        Place(tmp_path / str(number), **env).popen("serve", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for number, env in enumerate(mistakes.values())
    ]
    try:
        for words, process in zip(mistakes, started, strict=True):
            _, err = process.communicate(timeout=20)
            assert process.returncode == 2
            assert words in err
            assert "Traceback" not in err
    finally:
        for process in started:
            end(process)


@pytest.mark.parametrize("command", [("serve",), ("api",), ("worker",), ("work", "--drain")])
@pytest.mark.parametrize("unset", [None, ""])
def test_no_provider_is_chosen_silently(tmp_path, command, unset):
    place = Place(tmp_path)
    del place.env["PROVIDER"]
    answer = place.run(*command, env={} if unset is None else {"PROVIDER": unset})
    assert answer.returncode == 2
    assert "PROVIDER is not set; for development `cp .env.example .env` chooses the mock" in answer.stderr
    assert "Traceback" not in answer.stderr


def test_what_asks_no_provider_needs_none(tmp_path):
    place = Place(tmp_path)
    del place.env["PROVIDER"]
    assert place.run("migrate").returncode == 0
    assert "drop-submit" in place.run("mock", "--faults").stdout
    for command, shown in ((("mock",), "Use it: PROVIDER=mock"), (("receive", "--port", "0"), "A page")):
        with place.running(*command, until=shown) as process:
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=10) == 0


def test_serve_names_a_port_that_is_taken(service, tmp_path):
    api = Place(tmp_path).run("serve", env={"PORT": str(service.port)})
    assert api.returncode == 2
    assert f"port {service.port} on 127.0.0.1 is taken" in api.stderr
    assert "(HOST and PORT)" in api.stderr
    mock = Place(tmp_path).run("serve", env={"MOCK_URL": f"http://127.0.0.1:{service.hooks}"})
    assert mock.returncode == 2
    assert "no mock provider" in mock.stderr


def test_serve_uses_a_mock_that_is_there_and_warns_of_a_blocked_webhook(service, tmp_path):
    place = Place(tmp_path, MOCK_URL=service.env["MOCK_URL"], ALLOWED_NETWORKS="", PORT="0")
    with place.running("serve", until="service.started") as serve:
        eventually(lambda: "no webhook will be sent" in serve.printed(), serve.printed)
        assert "answers at" in serve.printed()
        assert re.search(r"url=http://127.0.0.1:[1-9]\d+", serve.printed())


# --- the other commands ----------------------------------------------------------------------------------------------


def test_api_and_mock_run_alone_and_work_drain_takes_what_is_due(tmp_path):
    place = Place(tmp_path, MOCK_SPEED="1")
    with (
        place.running("mock", until="Use it"),
        place.running("api", until="service.started"),
    ):
        generation = place.run("submit", "a red fox").stdout.strip()
        drained = place.run("work", "--drain")
        assert (drained.returncode, drained.stdout) == (0, "1 turn\n"), drained.stderr
        assert "stage         generating" in place.run("show", generation).stdout
    assert place.run("work").returncode == 2


def test_mock_lists_its_faults(tmp_path):
    faults = Place(tmp_path).run("mock", "--faults").stdout
    assert re.search(r"^  drop-submit +The submit is accepted", faults, re.MULTILINE)


def test_receive_says_what_is_wrong(tmp_path):
    place = Place(tmp_path)
    with place.running("receive", "--port", str(place.hooks), "--path", "/hook", until="A page") as receive:
        url = f"http://127.0.0.1:{place.hooks}"
        assert httpx.post(f"{url}/hook", content=b"{}").status_code == 401
        assert httpx.post(f"{url}/other", content=b"{}").status_code == 404
        assert "NOT VERIFIED: webhook-id" in receive.printed()
        receive.send_signal(signal.SIGTERM)
        assert receive.wait(timeout=10) == 0


def test_migrate_says_what_it_did(tmp_path):
    place = Place(tmp_path)
    first, second = place.run("migrate"), place.run("migrate")
    assert re.search(r"schema (\d+), from empty to \1$", first.stdout.strip())
    assert second.stdout.strip().endswith("nothing to do")


def test_demo_proves_itself_and_takes_nothing_from_the_environment(tmp_path):
    elsewhere = {
        "DATABASE_URL": "postgresql://nobody@192.0.2.1/none",
        "HOST": "0.0.0.0",
        "API_KEY": "theirs",
        "WEBHOOK_URL": "https://example.invalid/hook",
        "R2_BUCKET": "theirs",
        "PROVIDER": "none",
    }
    place = Place(tmp_path, **elsewhere)
    (tmp_path / ".env").write_text("WEBHOOK_SECRET=nonsense\nDATA_DIR=/nowhere\n")
    answer = place.run("demo", "the sea at night")
    assert answer.returncode == 0, answer.stderr
    shown = answer.stdout
    for words in ("signature valid", "webhook-signature: v1,", '"type": "generation.completed"', "Try next", "submit "):
        assert words in shown
    assert re.findall(r"^  (\w+) +[\d.]+ s", shown, re.MULTILINE) == [
        *("waiting", "submitting", "generating", "storing", "webhook", "all")
    ]
    path = tmp_path / re.search(r"^  (\S+\.mp4)  ", shown, re.MULTILINE).group(1)
    assert probe(path).duration == pytest.approx(8, abs=0.1)
    assert "turn.done" in (tmp_path / "data/demo/service.log").read_text()
    assert sorted(item.name for item in tmp_path.iterdir()) == [".env", "data"]


def test_demo_deletes_no_directory_but_its_own(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter").write_text("dear")
    with pytest.raises(CommandError, match="holds files"):
        prepare(tmp_path / "mine")
    assert (tmp_path / "mine" / "letter").read_text() == "dear"


def test_settings_of_the_demo_read_no_environment(monkeypatch):
    for name in Settings.model_fields:
        monkeypatch.setenv(name.upper(), "elsewhere")
    assert DemoSettings() == DemoSettings.model_construct(**{n: f.default for n, f in Settings.model_fields.items()})


# --- words -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([*range(1, 61)], "1-60"),
        ([4, 6, 8], "4, 6, 8"),
        ([5, 6], "5, 6"),
        ([1, 2, 3, 8, 10, 11, 12], "1-3, 8, 10-12"),
        (["16:9", "9:16"], "16:9, 9:16"),
        ([], ""),
    ],
)
def test_ranges_are_short(values, words):
    assert ranges(values) == words


def test_a_terminal_gets_a_bar_and_the_finished_stages_above_it():
    console = Console(file=io.StringIO(), force_terminal=True, width=80)
    with display(console) as shown:
        shown.show({"status": "queued", "stage": "waiting", "progress": None})
        shown.note("waiting took 0.04 s")
        shown.show({"status": "processing", "stage": "generating", "progress": 43}, 34.4)
    printed = console.file.getvalue()
    for words in ("waiting took 0.04 s", "generating", " 43%", "0:00:0", "about 34 s left"):
        assert words in printed


def test_an_error_of_the_service_names_the_line_in_its_log():
    text = problem_text(500, {"detail": "the error is in the log", "requestId": "req_1"}, key_from=None)
    assert "look for req_1 in the service's log" in text
