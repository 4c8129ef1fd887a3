"""Held generations: what is known of a paid call whose outcome nobody knows, and what a person says of it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, StringConstraints, model_validator

from pipeline.schemas.requests import Body
from pipeline.schemas.responses import Answer, Count, Status, Time

PRINTABLE = r"^[!-~]+$"
Operation = Annotated[
    str,
    StringConstraints(min_length=1, max_length=500, pattern=PRINTABLE),
    Field(description="the provider's name of its work; with `accepted` alone"),
]


class HeldCall(Answer):
    """A paid call whose outcome is unknown. Money in micro-USD."""

    id: Annotated[str, Field(description="of the generation")]
    object: Literal["held"]
    generation_id: Annotated[str, Field(description="the app's own id, or ours if it gave none")]
    tenant: str
    user_id: str | None
    status: Annotated[
        Status | Literal["gone"],
        Field(description="of the generation; one that has ended may still have such a call, even if it is gone"),
    ]
    stage: str | None
    provider: str
    model: str | None
    prompt_begins: Annotated[str | None, Field(description="its beginning, to know the work by; null if deleted")]
    since: Annotated[Time, Field(description="when the call was made")]
    at_stake_micros: Annotated[Count, Field(description="its list price")]
    candidate_operation: Annotated[str | None, Field(description="what a callback named, still unconfirmed")]
    waits_for_person: Annotated[bool, Field(description="whether nothing more happens by itself")]
    happened: str
    tried: str
    can_still_come: str
    until: Annotated[Time | None, Field(description="until when something can come by itself")]
    then: Annotated[str, Field(description="what happens after that (ON_UNKNOWN_SUBMIT)")]
    what_to_do: str
    where_token_is: Annotated[str | None, Field(description="for the operator alone: where our token stands")]


class HeldList(Answer):
    """A page of them, the oldest first."""

    object: Literal["list"]
    data: list[HeldCall]
    has_more: bool
    next_cursor: str | None


def _two_ways(schema: dict[str, Any]) -> None:
    """With an operation, or without."""
    said = {"as": {"const": "accepted"}, "operation": {"type": "string"}}
    others = {"as": {"enum": ["not_taken", "abandon"]}, "operation": {"type": "null"}}
    schema["oneOf"] = [
        {"title": "Accepted", "required": ["as", "operation"], "properties": said},
        {"title": "NotAccepted", "required": ["as"], "properties": others},
    ]


class Resolve(Body):
    """What became of a paid call: the provider has it as `operation`, surely never took it, or nobody will know."""

    model_config = ConfigDict(json_schema_extra=_two_ways)

    said: Annotated[Literal["accepted", "not_taken", "abandon"], Field(alias="as")]
    operation: Operation | None = None

    @model_validator(mode="after")
    def _fits(self) -> Resolve:
        if (self.said == "accepted") != (self.operation is not None):
            raise ValueError('operation goes with "as": "accepted", and with nothing else')
        return self
