"""Two tenants in one house, and random requests of one that reach for what is the other's."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import httpx
from sqlmodel import SQLModel

from pipeline import credentials
from pipeline.api.openapi import OPERATIONS, document
from pipeline.app import make_worker
from pipeline.credentials import Scope
from pipeline.db import Row, Tx
from pipeline.worker import run_until
from tests.house import House, eventually

RINGS = ((Scope.SUBMIT,), (Scope.READ,), (Scope.SUBMIT, Scope.READ), (Scope.ADMIN,))
GARBAGE = ("x", "gen_0", "dlv_0", "evt_0", "0", "default", "mock", "..", "%", "gen_" + "0" * 32)
KINDS = {"/deliveries/": "dlv_", "/endpoints/": "ep_"}
NOWHERE = "http://127.0.0.1:1/hook"
LONG_ENOUGH = 12
"""What is shorter could stand in an answer by chance."""

_COLUMNS = {table.name: {column.name for column in table.columns} for table in SQLModel.metadata.tables.values()}
_USERS = "substr(name, 1, length('user:' || :tenant || '/')) = 'user:' || :tenant || '/'"
_TABLES = {"lane": _USERS} | {
    name: "tenant_id = :tenant"
    if "tenant_id" in columns
    else "generation_id IN (SELECT id FROM generation WHERE tenant_id = :tenant)"
    for name, columns in _COLUMNS.items()
    if columns & {"tenant_id", "generation_id"} and name != "api_key"
}


@dataclass
class Tenant:
    """One tenant: its name, its keys by what they may do, and what it knows of its own."""

    name: str
    keys: dict[tuple[Scope, ...], str]
    api: httpx.AsyncClient
    tokens: dict[str, str] = field(default_factory=dict)
    etags: list[str] = field(default_factory=list)

    @property
    def secret(self) -> str:
        """A word of this tenant that nobody else ever sends."""
        return f"secret-of-{self.name}-{len(self.name)}"

    def headers(self, *scopes: Scope) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.keys[scopes]}"}

    async def call(self, method: str, path: str, **more: Any) -> httpx.Response:
        """As this tenant's admin."""
        return await self.api.request(method, path, headers=self.headers(Scope.ADMIN), **more)

    async def submit(self, prompt: str, number: object) -> str:
        """A generation that carries the secret in everything that can be shown; its id."""
        body = {
            "prompt": f"{prompt} {self.secret}",
            "userId": f"user-{self.secret}",
            "generationId": f"order-{self.name}-{number}",
            "metadata": {"about": f"note {self.secret}"},
        }
        headers = self.headers(Scope.ADMIN) | {"Idempotency-Key": f"key-{self.name}-{number}"}
        answer = await self.api.post("/api/generations", json=body, headers=headers)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])


async def found(house: House, name: str) -> Tenant:
    """A new tenant with a key of each kind."""
    keys = {}
    for scopes in RINGS:
        asked: Any = {"name": f"a key of {name}", "tenant": name, "scopes": scopes, "random": os.urandom}
        _, keys[scopes] = await house.plant.db.write(lambda tx, asked=asked: credentials.create(tx, **asked))
    return Tenant(name, keys, house.api)


async def settle(house: House, tenants: Sequence[Tenant]) -> None:
    """For each tenant something in every state: done (one webhook delivered, one dead), failed, cancelled, waiting."""
    stop = asyncio.Event()
    worker = asyncio.create_task(run_until(make_worker(house.plant), stop))
    done = [await tenant.submit("a fox", 1) for tenant in tenants]
    failed = [await tenant.submit("[[fail:invalid]] a fox", 3) for tenant in tenants]
    await _deliveries(house, "delivered", len(done + failed))
    house.answers[:] = [500] * len(house.plant.settings.webhook_schedule) * len(tenants)
    unheard = [await tenant.submit("another fox", 2) for tenant in tenants]
    await _deliveries(house, "dead", len(unheard))
    stop.set()
    await worker
    for tenant, first, second in zip(tenants, done, unheard, strict=True):
        answer = await tenant.call("POST", f"/api/generations/{first}/tokens", json={})
        tenant.tokens[answer.json()["token"]] = first
        body = (await tenant.call("GET", f"/api/generations/{second}")).json()
        tenant.tokens[httpx.URL(body["result"]["videoUrl"]).params["token"]] = second
        answer = await tenant.call(
            "POST", "/api/webhooks/endpoints", json={"url": NOWHERE, "description": tenant.secret}
        )
        tenant.etags.append(answer.json()["secret"])
        for number in range(4, 8):
            await tenant.submit("a fox that waits", number)
        await tenant.call("POST", f"/api/generations/order-{tenant.name}-7/cancel")


async def _deliveries(house: House, state: str, count: int) -> None:
    """Wait until so many deliveries have ended so."""
    sql = "SELECT count(*) FROM webhook_delivery WHERE state = :state"

    async def look() -> int:
        number: int = await house.plant.db.read(lambda tx: tx.value(sql, {"state": state}))
        return number

    await eventually(look, lambda number: number == count, 9)


# --- what belongs to whom --------------------------------------------------------------------------------------------


def belongings(tx: Tx, tenant: str) -> dict[str, list[Row]]:
    """Every row that is a tenant's, by table, except for its keys: using one changes its time of last use."""
    return {
        table: sorted(tx.all(f"SELECT * FROM {table} WHERE {condition}", {"tenant": tenant}), key=repr)
        for table, condition in _TABLES.items()
    }


def names(rows: Mapping[str, Sequence[Row]], tenant: Tenant) -> set[str]:
    """Every text by which something of the tenant's could be known in an answer."""
    ids = {"id", "video_key", "video_sha256", "operation_id", "token", "hash"}
    found = {row[column] for kept in rows.values() for row in kept for column in ids & set(row)}
    texts = {text for text in found if isinstance(text, str) and len(text) >= LONG_ENOUGH}
    return texts | {tenant.secret, *tenant.keys.values(), *tenant.tokens, *tenant.etags}


# --- requests --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Wish:
    """A request to send: with which key, and every text in it, since an answer may repeat what was sent."""

    method: str
    path: str
    params: dict[str, str]
    headers: dict[str, str]
    body: Any

    def sent(self) -> set[str]:
        texts = {self.path, *self.path.split("/"), *self.params.values(), *self.headers.values()}
        return texts | set(_texts(self.body))

    def __str__(self) -> str:
        return f"{self.method} {self.path} {self.params} {self.headers} {json.dumps(self.body)}"


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield name
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)


class Wisher:
    """Makes requests of one tenant, mostly about what is the other's. Random, but the same for the same seed."""

    def __init__(self, seed: random.Random, me: Tenant, other: Tenant, mine: Mapping, others: Mapping) -> None:
        self._random = seed
        self._me = me
        self._other = other
        self._own = {str(row["id"]) for row in mine["generation"]} | {row["client_id"] for row in mine["generation"]}
        self._mine = _handles(mine)
        self._others = _handles(others)

    def wish(self, method: str, path: str) -> Wish:
        """A request to a route; its parameters and body from the API's own description, with ids of all sorts."""
        about = next((o for o in OPERATIONS if (o.method, o.path) == (method, path)), None)
        told = [p for p in about.parameters if p.place != "path" and self._random.random() < 0.3] if about else []
        given = {p.name: _written(self._value(p.schema)) for p in told}
        places = {p.name: p.place for p in told}
        url, reference = self._fill(method, path)
        params = {name: value for name, value in given.items() if places[name] == "query"}
        headers = self._me.headers(*self._random.choices(RINGS, (1, 1, 1, 4))[0])
        headers |= {name: value for name, value in given.items() if places[name] == "header"}
        headers.pop("Prefer", None)
        if path.endswith("/events") and reference not in self._own and self._random.random() < 0.3:
            headers["Accept"] = "text/event-stream"
        if reference is not None and self._random.random() < 0.15:
            params["token"] = self._token(reference)
            headers.pop("Authorization", None)
        body = self._value(_schema(method, path)) if about is not None and about.body is not None else None
        if path == "/api/generations" and method == "POST":
            body = self._order(headers)
        elif path == "/api/queue/dead/redrive":
            body = self._dead()
        elif path.endswith(("/endpoints", "/endpoints/{id}")) and body is not None:
            body = self._endpoint(body)
        elif path.endswith("/recover") and "endpoint" in body:
            body["endpoint"] = self._random.choice([each for each in self._mine if each.startswith("ep_")])
        elif path.endswith("/disable"):
            body = {"reason": self._me.secret}
        elif path.endswith("/rotate-secret"):
            body = {"overlapSeconds": self._random.choice([0, 60])}
        elif path in {"/api/queue/pause", "/api/queue/resume"}:
            body = {"lane": f"user:{self._user(sets=True)}"} | self._random.choice([{}, {"tenant": self._other.name}])
        elif path.endswith("/resolve"):
            body = self._random.choice([{"as": "abandon"}, {"as": "not_taken"}, {"as": "accepted", "operation": "vid"}])
        return Wish(method, url, params, headers, body)

    def _fill(self, method: str, path: str) -> tuple[str, str | None]:
        reference = None
        for part in [part for part in path.split("/") if part.startswith("{")]:
            kinds = [kind for place, kind in KINDS.items() if place in path]
            chosen = "mock" if part == "{provider}" else self._handle(*kinds or ["gen_"])
            chosen = self._user(sets=method == "PUT") if part == "{user}" else chosen
            reference = chosen if part == "{id}" else reference
            path = path.replace(part, quote(chosen, safe=""))
        return path, reference

    def _handle(self, kind: str = "") -> str:
        """An id, mostly of the other's, and mostly of the kind that is asked for."""
        place = self._random.choices((self._others, self._mine, GARBAGE), (60, 30, 10))[0]
        fitting = [handle for handle in place if handle.startswith(kind)]
        return str(self._random.choice(fitting if fitting and self._random.random() < 0.7 else place))

    def _user(self, *, sets: bool) -> str:
        """A user of the other's, of mine, or one that each may have. What is set of one is shown to me ever after."""
        names = [f"user-{self._me.secret}", "alice"] + ([] if sets else [f"user-{self._other.secret}"])
        return self._random.choice(names)

    def _token(self, reference: str) -> str:
        """A token that was not issued for this generation: one that was may be used by whoever has it."""
        tokens = [*self._me.tokens.items(), *self._other.tokens.items(), ("x", "")]
        return self._random.choice([token for token, subject in tokens if not reference or subject != reference])

    def _order(self, headers: dict[str, str]) -> dict[str, Any]:
        """A generation that carries my secret and the other's keys and ids."""
        number = self._random.randrange(1, 6)
        body: dict[str, Any] = {"prompt": f"a fox {self._me.secret}", "metadata": {"about": self._me.secret}}
        if self._random.random() < 0.5:
            headers["Idempotency-Key"] = f"key-{self._other.name}-{number}"
        if self._random.random() < 0.5:
            body["generationId"] = f"order-{self._other.name}-{number}"
        if self._random.random() < 0.5:
            body["userId"] = f"user-of-{self._other.name}"
        return body

    def _endpoint(self, body: dict[str, Any]) -> dict[str, Any]:
        """A place where nobody listens, with words of mine, which are shown again."""
        body.pop("secret", None)
        if "events" in body:
            body["events"] = ["generation.failed"]
        for name in body.keys() & {"description", "headers"}:
            body[name] = {"X-Key": self._me.secret} if name == "headers" else self._me.secret
        return body | {"url": NOWHERE}

    def _dead(self) -> dict[str, Any]:
        """Dead letters by one of the ways to name them."""
        ways = ({"ids": [self._handle("dlv_"), self._handle("gen_")]}, {"all": True}, {"kind": "delivery"})
        return {**self._random.choice(ways), "allowRepay": self._random.random() < 0.5}

    def _value(self, schema: Mapping[str, Any]) -> Any:
        """Something that a schema takes, more or less; texts are ids of all sorts."""
        if "$ref" in schema:
            return self._value(document()["components"]["schemas"][schema["$ref"].rpartition("/")[2]])
        for choice in ("anyOf", "oneOf"):
            if choice in schema:
                return self._value(self._random.choice(schema[choice]))
        if "const" in schema or "enum" in schema:
            return self._random.choice(schema.get("enum") or [schema["const"]])
        return self._plain(schema)

    def _plain(self, schema: Mapping[str, Any]) -> Any:
        match schema.get("type"):
            case "object":
                members, needed = schema.get("properties", {}), schema.get("required", ())
                return {n: self._value(s) for n, s in members.items() if n in needed or self._random.random() < 0.3}
            case "array":
                return [self._value(schema.get("items", {})) for _ in range(self._random.randrange(1, 4))]
            case "integer" | "number":
                return self._random.choice([1, 2, 20, 60])
            case "boolean":
                return self._random.random() < 0.5
            case "null":
                return None
        return self._text(schema)

    def _text(self, schema: Mapping[str, Any]) -> str:
        match schema.get("format"):
            case "cursor":
                handle = self._handle().encode()
                return base64.urlsafe_b64encode(handle).decode().rstrip("=")
            case "date-time":
                return self._random.choice(["2020-01-01T00:00:00Z", "2100-01-01T00:00:00Z"])
        return self._handle()


def _handles(rows: Mapping[str, Sequence[Row]]) -> list[str]:
    """Ids of a tenant's things, its own names for them, and their tokens."""
    columns = (("generation", "id"), ("generation", "id"), ("generation", "client_id"), ("webhook_delivery", "id"))
    columns += (("webhook_event", "id"), ("submission", "token"), ("webhook_endpoint", "id"), ("webhook_secret", "id"))
    return [str(row[column]) for table, column in columns for row in rows[table] if row[column]]


def _written(value: Any) -> str:
    """As it stands in a query or header."""
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _schema(method: str, path: str) -> Mapping[str, Any]:
    told = document()["paths"][path][method.lower()]["requestBody"]["content"]
    schema: Mapping[str, Any] = next(iter(told.values()))["schema"]
    return schema
