"""The process that kills a server which does not end although it was told to.

Within one call into C that keeps the interpreter's lock, no handler of Python's and no thread of the server runs:
nothing inside the process can end it. Python's ``faulthandler`` acts at the signal itself, below the interpreter, and
writes where the threads are. Here it writes into a pipe to this process, which then waits for the server's end, and
kills it if need be.

The file is run as a script without any package, so that the process stays small.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time

KILL_SECONDS = 30.0
"""Seconds from the signal on. A server whose interpreter still runs ends itself before (see ``signals.py``)."""

_KEPT = 16 * 1024
"""Bytes kept of what ``faulthandler`` writes."""


def _read(timeout: float | None) -> bytes | None:
    """Read what the server's end of the pipe has got; None after the timeout, nothing where the server is gone."""
    ready, _, _ = select.select([0], [], [], timeout)
    return os.read(0, _KEPT) if ready else None


def main() -> None:
    """Wait for a signal to the server; kill it where it does not end in time."""
    server, patience = int(sys.argv[1]), float(sys.argv[2])
    # A Ctrl-C, or a manager of services that stops a whole group, is for the server. This process ends with it.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    where = _read(None)
    if not where:
        return
    deadline = time.monotonic() + patience
    while (left := deadline - time.monotonic()) > 0:
        further = _read(left)
        if further == b"":
            return
        where = (where + (further or b""))[:_KEPT]
    # Its number may have gone to another process only once it is no longer the parent.
    if os.getppid() == server:
        text = where.decode(errors="replace").rstrip()
        with contextlib.suppress(OSError):
            message = (
                f"the server has not ended {patience:g} s after a signal; killing it. It was here:"
            )
            os.write(2, f"{message}\n{text}\n".encode())
        os.kill(server, signal.SIGKILL)


if __name__ == "__main__":
    main()
