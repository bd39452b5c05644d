"""A clock of memX servers that jumps, where libfaketime is installed (Debian: ``apt install libfaketime``)."""

from __future__ import annotations

import tempfile
from pathlib import Path


def faketime_library() -> Path | None:
    """Find the library that shows a process another time."""
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
    return found[0] if found else None


class Clock:
    """What time of day a server takes it for: the machine's, and an offset that may change at any moment.

    Time that passes is the machine's own: a real jump of a clock moves the time of day and no timer.
    """

    def __init__(self) -> None:
        self._file = tempfile.NamedTemporaryFile("w", prefix="memx-clock-")  # noqa: SIM115 - lives as long as the clock
        self.jump(0)

    @property
    def environ(self) -> dict[str, str]:
        """What a process needs to go by this clock; nothing where there is no library for it."""
        library = faketime_library()
        if library is None:
            return {}
        return {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": self._file.name,
            # The file is read once a second, since it would cost at every look at the time.
            "FAKETIME_CACHE_DURATION": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }

    def jump(self, seconds: float) -> None:
        """Stand ``seconds`` beside the machine's clock from now on."""
        Path(self._file.name).write_text(f"{seconds:+.0f}s\n")
