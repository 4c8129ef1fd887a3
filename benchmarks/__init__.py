"""Benchmarks: each measures us and what one would write without us, in the same minutes, in turn."""
