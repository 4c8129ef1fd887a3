"""Bodies of the operator's and the app's operations: redrive, dead letters, pauses."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, StringConstraints, model_validator

from pipeline.schemas.requests import Body, LaneName, Short, Whole

MAX_IDS = 100
YEAR = 366 * 86_400
Cursor = Annotated[
    str, StringConstraints(min_length=1, max_length=200), Field(json_schema_extra={"format": "dead-cursor"})
]


class Redrive(Body):
    """How a failed generation goes on. `auto` is where it failed; only `submit` may pay again, and only if allowed."""

    start: Annotated[Literal["auto", "store", "poll", "resolve", "submit"], Field(alias="from")] = "auto"
    allow_repay: bool = False
    dry_run: bool = False


def _one_way_of_three(schema: dict[str, Any]) -> None:
    """By their ids, by what they have in common, or all."""
    names = ("kind", "errorCode", "lane")
    nothing: dict[str, Any] = {name: {"type": "null"} for name in (*names, "ids")} | {"all": {"const": False}}
    some = [{"required": [name], "properties": {name: {"type": "string"}}} for name in names]
    unset = {"ids": {"type": "null"}, "all": {"const": False}}
    schema["oneOf"] = [
        {"title": "ByIds", "required": ["ids"], "properties": nothing | {"ids": {"type": "array"}}},
        {"title": "ByWhatTheyShare", "properties": unset, "anyOf": some},
        {"title": "All", "required": ["all"], "properties": nothing | {"all": {"const": True}}},
    ]


class DeadRedrive(Body):
    """Which dead letters go on: by `ids`, by what they have in common, or `all`; `after` goes on behind a cursor."""

    model_config = ConfigDict(json_schema_extra=_one_way_of_three)

    ids: Annotated[list[Short], Field(min_length=1, max_length=MAX_IDS)] | None = None
    kind: Literal["generation", "delivery"] | None = None
    error_code: Short | None = None
    lane: Short | None = None
    all: bool = False
    allow_repay: bool = False
    dry_run: bool = False
    after: Cursor | None = None

    @model_validator(mode="after")
    def _one_way(self) -> DeadRedrive:
        group = any(value is not None for value in (self.kind, self.error_code, self.lane))
        if [self.ids is not None, group, self.all].count(True) != 1:
            raise ValueError('give either ids, or errorCode, lane and kind, or "all": true')
        return self


_LANE = Field(
    description="`provider:NAME` (or NAME), `endpoint:ID`, `user:ID`; `*`, `everything` or nothing is the whole service"
)
_TENANT = Field(description="of a user, if it is not that of the key; for the operator")


class Pause(Body):
    """What is closed: the road to one provider or endpoint, one user, or the whole service; for how long, if not until
    it is resumed."""

    lane: Annotated[LaneName, _LANE] | None = None
    tenant: Annotated[Short, _TENANT] | None = None
    seconds: Annotated[int, Field(ge=1, le=YEAR), Whole] | None = None
    reason: Annotated[Short, Field(description="for people")] | None = None


class Resume(Body):
    """What is opened again, by the same names."""

    lane: Annotated[LaneName, _LANE] | None = None
    tenant: Annotated[Short, _TENANT] | None = None
