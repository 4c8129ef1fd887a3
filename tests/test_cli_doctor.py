"""`dailies doctor` finds what was planted and names its mend; a house in order has nothing to mend."""

import json
import shutil
import sqlite3
import stat
import time
from base64 import b64encode
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import psycopg
import pytest
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response

from pipeline.cli.doctor.database import examine_database
from pipeline.cli.doctor.disk import filesystem
from pipeline.cli.doctor.hook import LOGIN_MEND, SIGNATURE_MEND, judged
from pipeline.cli.doctor.setup import weakness
from pipeline.cli.doctor.verdict import Check, Verdict, report_text
from pipeline.cli.ports import free_port
from pipeline.db.migrate import head
from tests.cli_place import dailies, neighbour, program
from tests.house import make_settings
from tests.pipeline.engines import start_postgres
from webhooks.sender import Reason, SendResult

SECRET = "q8Jm2vX0tR7wZ4kLb9Yc1nHs6DfGa3Ep"
QUIET = ("--skip", "webhook", "--skip", "address", "--skip", "provider")
HOOK_ONLY = tuple(f"--skip={name}" for name in ("storage", "provider", "address"))


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    with neighbour(tmp_path_factory.mktemp("doctor")) as place:
        place.completed()
        yield place


def checkup(*args, env=None):
    """Every check of a run, as (name, verdict, what was found, mend), and the exit code."""
    result = dailies("doctor", "--json", *args, env={"PROVIDER": "mock"} | (env or {}))
    assert result.exit_code in (0, 1), result.output
    body = json.loads(result.stdout)
    assert body["healthy"] == (result.exit_code == 0)
    return [Check(**check | {"verdict": Verdict(check["verdict"])}) for check in body["data"]]


def finding(checks, words):
    """The one check that found these words."""
    found = [check for check in checks if words in check.found]
    assert len(found) == 1, report_text(checks)
    return found[0]


# --- in order ---------------------------------------------------------------------------------------------------------


def test_a_house_in_order_has_nothing_to_mend(service):
    result = dailies("doctor", env=service.local)
    assert result.exit_code == 0, result.output
    assert "to mend" not in result.stdout
    assert "to look at" not in result.stdout
    for words in (f"schema {head()}", "1 alive", "took a signed test event", "the mock answers", "answers, version"):
        assert words in result.stdout


def test_the_webhook_of_the_test_is_signed_shaped_like_a_real_one_and_a_forged_one_follows(service):
    before = len(service.house.received)
    dailies("doctor", env=service.local)
    good, forged = service.house.received[before:]
    assert (good.valid, forged.valid) == (True, False)
    body, real = json.loads(good.body), json.loads(service.house.received[0].body)
    assert body["type"] == "webhook.test"
    assert set(body) == set(real)
    assert set(body["data"]) == set(real["data"])


def test_a_check_that_is_skipped_is_not_made(service):
    before = len(service.house.received)
    assert "webhook" not in {check.name for check in checkup("--skip", "webhook", env=service.local)}
    assert len(service.house.received) == before


def test_the_report_counts_and_every_finding_has_its_mend():
    checks = [Check("disk", Verdict.OK, "room"), Check("webhook", Verdict.FAILURE, "404", "deploy it")]
    assert report_text(checks).splitlines() == [
        "ok       disk     room",
        "failure  webhook  404",
        "                  mend: deploy it",
        "",
        "1 ok, 1 to mend",
    ]
    with pytest.raises(ValueError, match="needs its mend"):
        Check("disk", Verdict.FAILURE, "full")


# --- planted: settings ------------------------------------------------------------------------------------------------

SETTINGS = {
    "a value of the wrong kind": ({"PORT": "http"}, "PORT: ", "failure", "correct it"),
    "half of R2": ({"R2_BUCKET": "videos"}, "R2 is half set", "failure", "correct it"),
    "a name with a typo": ({"WEBHOOK_SECERT": "x"}, "WEBHOOK_SECERT (environment)", "warning", "mean WEBHOOK_SECRET?"),
    "a prefix": ({"DAILIES_PORT": "1"}, "DAILIES_PORT (environment)", "warning", "did you mean PORT?"),
    "an unknown event": ({"WEBHOOK_EVENTS": "generation.done"}, "WEBHOOK_EVENTS: unknown", "failure", "WEBHOOK_EVENTS"),
    "a short webhook secret": ({"WEBHOOK_SECRET": "whsec_c2hvcnQ="}, "WEBHOOK_SECRET", "failure", "openssl rand"),
    "a known webhook secret": (
        {"WEBHOOK_SECRET": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"},
        "WEBHOOK_SECRET is an example from a document",
        "warning",
        "openssl rand",
    ),
    "a weak key that others can try": (
        {"API_KEY": "changeme-changeme", "PUBLIC_URL": "https://videos.example"},
        "API_KEY looks like a placeholder",
        "failure",
        "openssl rand",
    ),
    "one secret for two things": ({"API_KEY": SECRET, "SECRET_KEY": SECRET}, "are the same", "warning", "for each"),
    "open to all without a key": ({"HOST": "0.0.0.0", "SECRET_KEY": SECRET}, "API_KEY must be set", "failure", "HOST="),
    "a proxy in front and no key": (
        {"PUBLIC_URL": "https://videos.example"},
        "lets others in and no key is asked for",
        "failure",
        "dailies keys create",
    ),
    "links that lead nowhere": (
        {"WEBHOOK_URL": "https://app.example/hook"},
        "links to http://localhost:8000",
        "warning",
        "set PUBLIC_URL",
    ),
    "keys in clear text": (
        {"PUBLIC_URL": "http://videos.example", "API_KEY": SECRET},
        "is not encrypted",
        "warning",
        "use https://",
    ),
    "a network as wide as the world": (
        {"ALLOWED_NETWORKS": "0.0.0.0/0"},
        "nearly every address",
        "failure",
        "smallest",
    ),
    "the cloud's metadata": ({"ALLOWED_NETWORKS": "169.254.0.0/16"}, "credentials", "failure", "smallest"),
    "no provider": ({"PROVIDER": ""}, "PROVIDER is not set", "failure", "set PROVIDER"),
    "an unknown provider": ({"PROVIDER": "fall"}, "none called 'fall'", "failure", "set PROVIDER"),
    "a spool below one video": ({"SPOOL_BYTES": "1000000"}, "SPOOL_BYTES=1000000 is below", "failure", "SPOOL_BYTES"),
    "a public bucket without a bucket": (
        {"R2_PUBLIC_URL": "https://v.example"},
        "R2 is not",
        "failure",
        "R2_PUBLIC_URL",
    ),
    "a webhook over plain http": ({"WEBHOOK_URL": "http://app.example/hook"}, "https://", "failure", "WEBHOOK_URL"),
    "a webhook that the guard blocks": ({}, "ALLOWED_NETWORKS does not allow that", "failure", "ALLOWED_NETWORKS=127"),
}


@pytest.mark.parametrize("planted", SETTINGS)
def test_a_mistake_in_the_settings_is_found_with_its_mend(planted):
    env, words, verdict, mend = SETTINGS[planted]
    asked = planted in {"no provider", "an unknown provider", "a webhook that the guard blocks"}
    checks = checkup(*(() if asked else QUIET), env=env)
    found = finding(checks, words)
    assert (found.verdict, mend in (found.mend or "")) == (verdict, True), found


def test_an_env_file_that_everyone_may_read_is_found(tmp_path):
    (tmp_path / ".env").write_text(f"SECRET_KEY={SECRET}\nWEBHOK_URL=x\n")
    (tmp_path / ".env").chmod(0o644)
    checks = checkup(*QUIET)
    assert finding(checks, "every user of this machine may read it").mend == "chmod 600 .env"
    assert "did you mean WEBHOOK_URL?" in finding(checks, "WEBHOK_URL (.env)").mend


@pytest.mark.parametrize(
    ("secret", "reason"),
    [
        (SECRET, None),
        ("0b1c2d3e4f5a69788796a5b4c3d2e1f0", None),
        ("sesame", "shorter"),
        ("a" * 40, "repeats"),
        ("my-secret-key-of-today", "placeholder"),
    ],
)
def test_secrets_are_weak_for_a_reason(secret, reason):
    assert (weakness(secret) is None) if reason is None else (reason in weakness(secret))


# --- planted: disk and database ---------------------------------------------------------------------------------------


def test_a_data_dir_that_is_no_directory_is_found(tmp_path):
    (tmp_path / "taken").write_text("")
    found = [check for check in checkup(*QUIET, env={"DATA_DIR": str(tmp_path / "taken")}) if check.name == "disk"]
    assert "cannot be written to" in found[0].found
    assert "choose another DATA_DIR" in found[0].mend


@pytest.mark.parametrize(
    ("env", "words", "verdict"),
    [
        ({"SPOOL_BYTES": str(10**18)}, "less than SPOOL_BYTES", "warning"),
        ({"SPOOL_BYTES": str(10**18), "MAX_VIDEO_BYTES": str(10**18)}, "a video of MAX_VIDEO_BYTES", "failure"),
    ],
)
def test_a_disk_that_is_too_small_is_found(env, words, verdict):
    found = finding(checkup(*QUIET, env=env), words)
    assert (found.name, found.verdict) == ("disk", verdict)
    assert "free the disk" in found.mend


def test_secrets_that_others_may_read_are_found(tmp_path):
    checkup(*QUIET)
    (tmp_path / "data" / "secrets").chmod(0o644)
    assert "chmod 600 data/secrets" in finding(checkup(*QUIET), "may be read by others").mend
    assert stat.S_IMODE((tmp_path / "data" / "secrets").stat().st_mode) == 0o644


def test_a_database_that_is_not_there_yet_is_left_so(tmp_path):
    assert "dailies migrate" in finding(checkup(*QUIET), "is not there yet").mend
    assert not (tmp_path / "data" / "dailies.db").exists()


def test_a_file_that_is_no_database_is_found(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "dailies.db").write_bytes(b"not a database at all " * 400)
    assert "restore the newest backup" in finding(checkup(*QUIET), "file is not a database").mend


def migrated(tmp_path):
    """The file of a database that is as it should be, opened beside."""
    assert dailies("migrate").exit_code == 0
    return sqlite3.connect(tmp_path / "data" / "dailies.db", isolation_level=None)


@pytest.mark.parametrize(
    ("revision", "words", "mend"), [("9999", "a newer version", "newer version here"), ("0001", "needs", "migrate")]
)
def test_a_schema_of_another_version_is_found(tmp_path, revision, words, mend):
    connection = migrated(tmp_path)
    connection.execute("UPDATE alembic_version SET version_num = ?", (revision,))
    connection.close()
    assert mend in finding(checkup(*QUIET), words).mend


def test_a_locked_database_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.db.engine.BUSY_MS", 100)
    connection = migrated(tmp_path)
    connection.execute("BEGIN IMMEDIATE")
    found = finding(checkup(*QUIET), "database is locked")
    connection.close()
    assert found.verdict == "failure"


def test_work_without_a_worker_is_a_failure_and_no_worker_alone_a_warning(tmp_path):
    with neighbour(tmp_path / "data", work=False) as place:
        assert finding(checkup(*QUIET, env=place.local), "none was seen").verdict == "warning"
        place.call(place.house.submit, "a red fox")
        found = finding(checkup(*QUIET, env=place.local), "1 jobs wait")
    assert (found.verdict, "dailies worker" in found.mend) == ("failure", True)


def test_a_server_that_is_not_there_is_found():
    url = f"postgresql://ann:hush@127.0.0.1:{free_port()}/dailies"
    checks = checkup(*QUIET, env={"DATABASE_URL": url, "SECRET_KEY": SECRET, "WEBHOOK_SECRET": SECRET + "AAAA"})
    found = next(check for check in checks if check.name == "database")
    assert "start the database" in found.mend
    assert "hush" not in report_text(checks)


def test_sqlite_on_a_network_disk_is_found(tmp_path):
    mounts = f"/dev/sda1 / ext4 rw 0 0\nserver:/export {tmp_path} nfs4 rw 0 0\n"
    assert filesystem(tmp_path / "data" / "dailies.db", mounts).name == "nfs4"
    assert filesystem(tmp_path.parent, mounts).name == "ext4"
    found = examine_database(make_settings(tmp_path / "data"), mounts=mounts).checks
    assert "use PostgreSQL" in finding(found, "network filesystem (nfs4)").mend


# --- planted: the webhook's target ------------------------------------------------------------------------------------

LOGIN = HTMLResponse("<!doctype html><title>Authentication Required</title>", 401)
ANSWERS = {
    "no route": (PlainTextResponse("", 404), "404: nothing is at this path", "deploy the route"),
    "another secret": (PlainTextResponse("signature: does not match", 401), "401: ", SIGNATURE_MEND),
    "a login in front": (LOGIN, "401: ", LOGIN_MEND),
    "a firewall in front": (PlainTextResponse("", 403), "403: ", LOGIN_MEND),
    "GET only": (PlainTextResponse("", 405), "405: ", "take POST"),
    "a redirect": (RedirectResponse("/hook/", 308), "redirects to", "the address that it redirects to"),
    "a crash": (PlainTextResponse("", 500), "500: ", "receiver's log"),
    "a farewell": (PlainTextResponse("", 410), "410: ", "switches the endpoint off"),
    "no check of signatures": (PlainTextResponse("", 204), "an event with a wrong signature", "verify the signature"),
}


@pytest.mark.parametrize("planted", ANSWERS)
def test_a_receiver_that_is_not_right_is_found_with_its_mend(planted):
    answer, words, mend = ANSWERS[planted]
    with program(lambda request, body: answer) as url:
        env = {"WEBHOOK_URL": f"{url}/hook", "ALLOWED_NETWORKS": "127.0.0.0/8"}
        found = finding(checkup(*HOOK_ONLY, env=env), words)
    assert (found.name, found.verdict) == ("webhook", "failure")
    assert mend in found.mend


@pytest.mark.parametrize(
    ("url", "words", "mend"),
    [
        ("http://127.0.0.1:1/hook", "nothing listens on that port", "dailies receive"),
        ("https://app.invalid/hook", "host name was not found", "correct the host"),
        ("https://10.0.0.1/hook", "10.0.0.1 is refused", "ALLOWED_NETWORKS"),
        ("", "WEBHOOK_URL is not set", "set WEBHOOK_URL"),
    ],
)
def test_a_receiver_that_cannot_be_reached_is_found(url, words, mend):
    checks = checkup(*HOOK_ONLY, env={"WEBHOOK_URL": url, "ALLOWED_NETWORKS": "127.0.0.0/8"})
    found = [check for check in checks if check.name in {"webhook", "settings"} and words in check.found]
    assert any(mend in (check.mend or "") for check in found), report_text(checks)


def test_a_slow_receiver_is_found():
    quick, slow = (SendResult(204, Reason.ANSWERED, ms) for ms in (100, 9_000))
    assert judged("https://app.example/hook", quick, timeout=15.0).verdict == "ok"
    found = judged("https://app.example/hook", slow, timeout=15.0)
    assert (found.verdict, "work afterwards" in found.mend) == ("warning", True)


# --- planted: the others ----------------------------------------------------------------------------------------------

AROUND = {
    "another program": (JSONResponse({"hello": 1}), "answered by something else", "correct PUBLIC_URL"),
    "a login": (HTMLResponse("<html>", 401), "asks for a login", "let /healthz"),
    "a redirect": (
        RedirectResponse("https://videos.example/"),
        "redirects to https://videos.example/",
        "where it leads",
    ),
    "a proxy without us": (PlainTextResponse("", 502), "the proxy in front does not reach", "HOST and PORT"),
    "another version": (JSONResponse({"status": "ok", "version": "0.0.1"}), "runs version 0.0.1", "with this version"),
}


@pytest.mark.parametrize("planted", AROUND)
def test_a_public_url_that_is_not_ours_is_found(planted):
    answer, words, mend = AROUND[planted]
    with program(lambda request, body: answer) as url:
        skip = ("--skip", "webhook", "--skip", "provider", "--skip", "storage")
        found = finding(checkup(*skip, env={"PUBLIC_URL": url}), words)
    assert (found.name, mend in found.mend) == ("address", True)


def test_what_is_no_mock_at_the_mocks_address_is_found():
    with program(lambda request, body: PlainTextResponse("hello")) as url:
        found = finding(checkup("--skip", "webhook", env={"MOCK_URL": url}), "no mock provider")
    assert (found.verdict, "MOCK_URL" in found.mend) == ("failure", True)


# --- planted: a bucket ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bucket():
    """Settings of a bucket in a real S3 server that asks for no permission to read."""
    moto = pytest.importorskip("moto.server", reason="moto is not there: install the dev dependencies")
    import boto3

    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    url = "http://{}:{}".format(*server.get_host_and_port())
    client = boto3.client(
        "s3", endpoint_url=url, aws_access_key_id="a", aws_secret_access_key="b", region_name="us-east-1"
    )
    client.create_bucket(Bucket="doctor")

    def public(request, body):
        """What a public bucket's domain does."""
        try:
            return Response(client.get_object(Bucket="doctor", Key=request.path_params["path"])["Body"].read())
        except client.exceptions.NoSuchKey:
            return Response(status_code=404)

    private = {
        "R2_ENDPOINT_URL": url,
        "R2_ACCESS_KEY_ID": "a",
        "R2_SECRET_ACCESS_KEY": "b",
        "R2_BUCKET": "doctor",
    }
    with program(public) as domain:
        yield private | {"R2_PUBLIC_URL": domain}
    assert client.list_objects_v2(Bucket="doctor")["KeyCount"] == 0, "doctor leaves nothing behind"
    client.close()
    server.stop()


def test_a_bucket_in_order_is_written_read_fetched_and_left_empty(bucket):
    checks = checkup(*QUIET, env=bucket)
    assert finding(checks, "writes, reads and deletes in bucket doctor").verdict == "ok"
    assert finding(checks, "R2_PUBLIC_URL gives what was stored").verdict == "ok"
    assert finding(checks, "s from the storage's").verdict == "ok"
    private = {name: value for name, value in bucket.items() if name != "R2_PUBLIC_URL"}
    assert finding(checkup(*QUIET, env=private), "a signed link gives what was stored").verdict == "ok"


def test_a_bucket_that_does_not_exist_is_found(bucket):
    found = finding(checkup(*QUIET, env=bucket | {"R2_BUCKET": "video"}), "there is no such bucket")
    assert (found.name, found.verdict) == ("storage", "failure")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (PlainTextResponse("", 404), "answers 404 to what was just stored"),
        (PlainTextResponse("", 403), "the bucket is not public"),
        (PlainTextResponse("hello"), "something else than was stored"),
    ],
)
def test_a_public_url_of_another_bucket_is_found(bucket, answer, words):
    with program(lambda request, body: answer) as url:
        found = finding(checkup(*QUIET, env=bucket | {"R2_PUBLIC_URL": url}), words)
    assert (found.name, "R2_PUBLIC_URL" in found.mend) == ("storage", True)


@contextmanager
def late_server(off):
    """A server whose clock is `off` seconds from ours; it stores nothing."""

    class Late(BaseHTTPRequestHandler):
        def answer(self):
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_HEAD = do_GET = do_PUT = do_DELETE = answer  # noqa: N815 - names of the standard library

        def date_time_string(self, timestamp=None):
            return formatdate(time.time() + off, usegmt=True)

        def log_message(self, *args):
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Late) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(("off", "verdict"), [(-120, "warning"), (7200, "failure")])
def test_a_clock_that_is_wrong_is_found(bucket, off, verdict):
    with late_server(off) as url:
        found = finding(checkup(*QUIET, env=bucket | {"R2_ENDPOINT_URL": url}), "the storage's clock")
    assert (found.name, found.verdict) == ("clock", verdict)
    assert "NTP" in found.mend


# --- PostgreSQL -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server():
    started = start_postgres()
    yield started
    started.stop()
    shutil.rmtree(started.folder)


def test_a_postgres_server_in_order_and_out_of_order(server):
    both = {"SECRET_KEY": SECRET, "WEBHOOK_SECRET": f"whsec_{b64encode(SECRET.encode()).decode()}"}
    with server.new() as place:
        checks = checkup(*QUIET, env=both | {"DATABASE_URL": place.url})
        assert finding(checks, "schema ").verdict == "ok"
        assert finding(checks, "s from the database's").verdict == "ok"
        ahead = examine_database(make_settings(Path("data"), database_url=place.url), clock=lambda: time.time() + 60)
        assert "NTP" in finding(ahead.checks, "this machine is 60 s ahead of the database's clock").mend
        with psycopg.connect(place.url, autocommit=True) as connection:
            connection.execute("ALTER ROLE postgres SET default_transaction_read_only = on")
        assert "standby" in finding(checkup(*QUIET, env=both | {"DATABASE_URL": place.url}), "read-only").mend
        with psycopg.connect(place.url, autocommit=True) as connection:
            connection.execute("SET transaction_read_only = off")
            connection.execute("SET default_transaction_read_only = off")
            connection.execute("ALTER ROLE postgres RESET default_transaction_read_only")
    empty = checkup(*QUIET, env=both | {"DATABASE_URL": server.url(server.create())})
    assert finding(empty, "is empty").mend == "dailies migrate"
    missing = checkup(*QUIET, env=both | {"DATABASE_URL": server.url("nothing")})
    assert "createdb" in finding(missing, "does not exist").mend
