"""A local memX server as a process."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self

_COMMAND: Final = (sys.executable, "-c", "from memx_sdk.cli import main; main()", "dev")
_URL: Final = re.compile(r"http://127\.0\.0\.1:\d+")
_START_SECONDS: Final = 30.0
_STOP_SECONDS: Final = 10.0


class LocalServer:
    """``memx dev`` on a free port, for as long as the ``with`` block.

    Args:
        folder: Keeps its memory and its API keys.

    Attributes:
        url: Where it answers.
        api_key: Opens everything.
    """

    def __init__(self, folder: Path) -> None:
        self.url = ""
        self.api_key = "local_dev_key"
        self._folder = folder
        self._output: list[str] = []
        self._url_known = threading.Event()
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        own = {name: value for name, value in os.environ.items() if not name.startswith("MEMX_")}
        self._process = subprocess.Popen(  # noqa: S603 - our own command, with a path of our own
            [*_COMMAND, "--port", "0", "--data", str(self._folder)],
            cwd=self._folder,  # so that no config/acl.json of the project is found
            env={**own, "NO_COLOR": "1", "COLUMNS": "200"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        threading.Thread(
            target=self._listen, args=(self._process.stdout,), name="memx-server", daemon=True
        ).start()
        self._url_known.wait(_START_SECONDS)
        if not self.url:
            self._stop()
            raise RuntimeError("memx dev did not start:\n" + "".join(self._output))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop()

    def _listen(self, output: IO[str]) -> None:
        for line in output:
            self._output.append(line)
            if not self.url and (match := _URL.search(line)):
                self.url = match[0]
                self._url_known.set()
        self._url_known.set()

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(_STOP_SECONDS)
