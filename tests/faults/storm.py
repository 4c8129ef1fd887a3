"""Takes the lock of a SQLite file again and again: `python storm.py FILE SECONDS`. Prints how often it did."""

import random
import sqlite3
import sys
import time


def main(file: str, seconds: float) -> int:
    dice, taken, deadline = random.Random(1), 0, time.monotonic() + seconds
    connection = sqlite3.connect(file, timeout=10, isolation_level=None)
    while time.monotonic() < deadline:
        connection.execute("BEGIN IMMEDIATE")
        time.sleep(2.0 if taken == 0 else dice.choice([0.01, 0.1, 0.5, 1.0]))
        connection.execute("ROLLBACK")
        taken += 1
        time.sleep(0.005)
    return taken


if __name__ == "__main__":
    print(main(sys.argv[1], float(sys.argv[2])))
