"""A server with a path that blocks its event loop, to be run as a process: ``blocked_server.py PORT FOLDER HOW``."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from memx_server import serving, watchdog
from memx_server.app import create_app
from memx_server.settings import Settings


def block(how: str) -> None:
    """Never return: in instructions of Python's own, in a call that waits, or in one that keeps the interpreter."""
    if how == "holds":
        sum(range(10**15))
    while True:
        if how == "waits":
            time.sleep(60)


def main() -> None:
    port, folder, how = int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    if how == "holds":
        watchdog.KILL_SECONDS = 3.0
    app = create_app(Settings(store_url=f"sqlite:{folder / 'memx.db'}", owns_process=True))

    @app.get("/block")
    async def _() -> None:
        print("blocked", flush=True)
        block(how)

    serving.run(app, serving.listen("127.0.0.1", port), lambda: print("ready", flush=True))


main()
