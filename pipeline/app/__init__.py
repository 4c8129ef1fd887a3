"""The composition root: the only files that wire. Everything else is handed what it needs.

::

    plant      what every process has, opened and closed
    parts      those of it that need more than their settings
    serving    the API
    working    the worker
"""

from pipeline.app.parts import make_spans
from pipeline.app.plant import Plant, open_plant
from pipeline.app.serving import announce, make_api
from pipeline.app.working import make_maintenance, make_worker, make_workflow

__all__ = [
    "Plant",
    "announce",
    "make_api",
    "make_maintenance",
    "make_spans",
    "make_worker",
    "make_workflow",
    "open_plant",
]
