"""The `dailies` command with one protection taken away, or a place where it is hit: `python -m tests.chaos.start
worker`, with CHAOS_SABOTEUR and CHAOS_PLACE."""

from __future__ import annotations

import os

from pipeline.cli import main
from tests.chaos.places import Place, watch
from tests.chaos.saboteurs import SABOTEURS

if __name__ == "__main__":
    saboteur, place = os.environ.get("CHAOS_SABOTEUR"), os.environ.get("CHAOS_PLACE")
    if saboteur:
        SABOTEURS[saboteur]()
    if place:
        watch(Place(place))
    main()
