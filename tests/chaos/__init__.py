"""Proof by destruction: `make chaos` runs drills against the code as it is, and against saboteurs that must be
caught."""
