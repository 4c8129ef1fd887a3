"""The document says what the service does: the same operations, the same shapes, nothing beside them."""

import asyncio
import json
import re
import shutil
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator
from starlette.routing import Route

from pipeline.api.openapi import OPERATIONS, WEBHOOKS, document, page
from pipeline.api.openapi.build import codes_of
from pipeline.api.openapi.common import STATUS
from pipeline.api.openapi.page import render
from pipeline.api.problems import TITLES
from pipeline.app import make_api
from pipeline.schemas.responses import WebhookEvent
from tests.contract import check
from tests.house import House, open_house
from webhooks.events import EventType

pytestmark = pytest.mark.anyio

API = Path(__file__).parent.parent / "pipeline"
GENERAL = {"method_not_allowed", "http_error"}
"""What no operation answers, but a wrong method or the server itself."""


def test_the_document_is_openapi_3_1():
    OpenAPIV31SpecValidator(document()).validate()


async def test_every_route_has_its_operation_and_the_reverse(tmp_path):
    async with open_house(tmp_path, work=False) as house:
        routes = [route for route in make_api(house.plant).routes if isinstance(route, Route)]
    offered = {(method, route.path) for route in routes for method in (route.methods or ()) if method != "HEAD"}
    assert offered == {(operation.method, operation.path) for operation in OPERATIONS}


def test_every_problem_is_one_of_some_operation():
    told = {code for operation in OPERATIONS for codes in codes_of(operation).values() for code in codes}
    assert told | GENERAL == set(TITLES)


def test_problems_are_raised_with_the_status_that_the_document_gives():
    source = "\n".join(path.read_text() for path in API.rglob("*.py"))
    raised = {
        (code, int(status)) for status, code in re.findall(r'Problem\(\s*(\d{3}),\s*"(\w+)"', source, re.MULTILINE)
    }
    assert len(raised) > 20
    assert {(code, STATUS[code]) for code, _ in raised} == raised


def test_links_lead_to_operations_and_name_their_parameters():
    by_id = {operation.id: operation for operation in OPERATIONS}
    assert len(by_id) == len(OPERATIONS)
    links = [link for o in OPERATIONS for reply in o.replies.values() for link in reply.links.values()]
    assert len(links) > 10
    for link in links:
        known = {parameter.name for parameter in by_id[link.operation_id].parameters}
        assert set(link.parameters) <= known


def test_operations_that_need_a_key_say_so():
    for operation in OPERATIONS:
        made = document()["paths"][operation.path][operation.method.lower()]
        assert ("security" in made) == ("401" in made["responses"]) == (operation.scope is not None)


def test_every_event_has_its_webhook():
    assert {name.value for name in WEBHOOKS} == set(EventType) - {EventType.TEST}


async def test_webhooks_are_what_the_document_says(tmp_path):
    async with open_house(tmp_path) as house:
        await house.submit("a fox", parameters={"duration": 4, "image": {"url": "https://images.example/fox.png"}})
        await house.submit("[[fail:moderation]] a fox", metadata={"a": "b"})
        for hook in await house.webhooks(2):
            WebhookEvent.model_validate_json(hook.body)


def test_a_wrong_answer_is_found():
    headers = {"x-request-id": "req_1"}
    check("GET", "/healthz", 200, "application/json", headers, {"status": "ok", "version": "1"})
    for status, body in [
        (200, {"status": "ok", "version": "1", "more": 1}),
        (200, {"status": "ok"}),
        (201, {"status": "ok", "version": "1"}),
    ]:
        with pytest.raises((AssertionError, ValueError)):
            check("GET", "/healthz", status, "application/json", headers, body)


async def test_it_is_served(tmp_path):
    async with open_house(tmp_path, work=False) as house:
        answer = await house.api.get("/openapi.json")
        shown = await house.api.get("/docs")
    assert answer.json() == document()
    assert shown.text == page()
    assert shown.headers["content-security-policy"].startswith("default-src 'none'")


# --- the page ---------------------------------------------------------------------------------------------------------


class Reader(HTMLParser):
    """Anchors, links to them, and whatever would be loaded or run."""

    VOID = frozenset({"meta", "br"})

    def __init__(self) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: set[str] = set()
        self.loaded: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.ids |= {given["id"] or ""} if "id" in given else set()
        self.links |= {given["href"] or ""} if "href" in given else set()
        if "src" in given or tag in {"script", "link", "iframe", "object"} or any(n.startswith("on") for n in given):
            self.loaded.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_has_an_anchor_for_everything_and_loads_nothing():
    reader = Reader()
    reader.feed(page())
    assert reader.open == []
    assert reader.loaded == []
    assert {operation.id for operation in OPERATIONS} <= reader.ids
    assert {f"schema-{name}" for name in document()["components"]["schemas"]} <= reader.ids
    assert {link.removeprefix("#") for link in reader.links if link.startswith("#")} <= reader.ids
    assert reader.links - {link for link in reader.links if link.startswith("#")} == {"openapi.json"}


def test_the_page_escapes_what_the_document_says():
    evil = "<script>alert(1)</script>"

    def poisoned(value: object) -> object:
        if isinstance(value, dict):
            return {name: poisoned(member) for name, member in value.items()}
        if isinstance(value, list):
            return [poisoned(member) for member in value]
        return value + evil if isinstance(value, str) and not value.startswith(("#", "/")) else value

    made = render(poisoned(json.loads(json.dumps(document()))))  # type: ignore[arg-type]
    assert evil not in made
    assert "&lt;script&gt;" in made


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl: apt-get install curl")
async def test_the_pages_curl_lines_work(tmp_path):
    commands = [unescape(block) for block in re.findall(r"<pre>(.*?)</pre>", page(), re.DOTALL)]
    reading = [command for command in commands if "-X" not in command]
    (creating,) = [command for command in commands if "the sea at night" in command]
    async with open_house(tmp_path, work=False) as house:
        assert (await run_curl(creating, house)).startswith("HTTP/1.1 202 ")
        for command in reading:
            answer = await run_curl(command.replace("/ID", "/order-17"), house)
            assert re.match(r"HTTP/1\.1 (200|404|409|503) ", answer), command


async def run_curl(command: str, house: House) -> str:
    here = command.replace("http://localhost:8000", str(house.api.base_url).rstrip("/"))
    run = await asyncio.create_subprocess_shell(f"{here} -sm 5", stdout=asyncio.subprocess.PIPE)
    return (await run.communicate())[0].decode(errors="replace")
