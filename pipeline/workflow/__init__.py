"""A generation's stages, one turn at a time: submit, resolve, poll, store; and what each turn leaves in the
database."""

from pipeline.workflow.handler import Workflow
from pipeline.workflow.parts import Parts
from pipeline.workflow.policy import Policies

__all__ = ["Parts", "Policies", "Workflow"]
