"""The clock of leases: it goes on while the machine is suspended."""

from __future__ import annotations

import sys
import time

_CLOCK: int | None = getattr(time, "CLOCK_BOOTTIME", None)
if sys.platform == "darwin":  # here this one counts suspended time, and time.monotonic() does not
    _CLOCK = time.CLOCK_MONOTONIC


def lease_clock() -> float:
    """Return seconds since some moment, suspended time included where the system counts it."""
    return time.monotonic() if _CLOCK is None else time.clock_gettime(_CLOCK)
