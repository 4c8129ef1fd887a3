"""The answer to an array of requests, as models; see `responses`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, RootModel

from pipeline.schemas.responses import Answer, Generation, ProblemBody


class KeptItem(Answer):
    """One that was kept, just now (202) or before (200)."""

    status: Literal[200, 202]
    generation: Generation


class RefusedItem(Answer):
    """One that was refused, as if it had come alone."""

    status: Annotated[int, Field(ge=400, le=599)]
    problem: ProblemBody


class Batch(Answer):
    """An answer to each request, in their order."""

    object: Literal["batch"]
    data: list[KeptItem | RefusedItem]


class GenerationOrBatch(RootModel[Generation | Batch]):
    """A generation, or for an array an answer to each."""
