"""The command line on a host whose clock is wrong by SKEW seconds: `python -m tests.skewed worker`."""

import os
import time

_SKEW = float(os.environ["SKEW"])
_TRUE, _TRUE_NS = time.time, time.time_ns


def _wrong() -> float:
    return _TRUE() + _SKEW


def _wrong_ns() -> int:
    return _TRUE_NS() + int(_SKEW * 1e9)


if __name__ == "__main__":
    # Before anything of ours is imported: many take `time.time` as a default.
    time.time, time.time_ns = _wrong, _wrong_ns
    from pipeline.cli import main

    main()
