"""Drill: prove on real processes, under kills and stops, that nothing is paid twice, lost or told twice."""
