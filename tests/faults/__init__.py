"""Database faults under a steady load, on real processes. Run it: `make faults`."""
