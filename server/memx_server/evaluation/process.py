"""One evaluation process, seen from the server: started, given tasks, killed."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from contextlib import suppress

from memx_server.evaluation.worker import (
    EvaluationResult,
    decode_answer,
    receive,
    send,
)


class WorkerProcess:
    """A process that runs ``memx_server.evaluation.worker``.

    ``start`` and ``ask`` block and belong to a thread; ``kill`` may be called from any other meanwhile, and
    makes them return.

    Attributes:
        is_dead: Whether it was killed, or ended by itself; it takes no further task.
    """

    def __init__(self) -> None:
        self.is_dead = False
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def start(self) -> bool:
        """Start it and wait until it is ready for a task; return whether that went well."""
        try:
            with self._lock:  # a kill comes before, and nothing is started, or after
                if not self.is_dead:
                    self._process = subprocess.Popen(
                        [sys.executable, "-P", "-m", "memx_server.evaluation.worker"],
                        stdin=subprocess.PIPE,
                        stdout=subprocess.PIPE,
                        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                        # Ctrl-C reaches the whole group of the terminal. The server ends its workers itself,
                        # and one that still imports would answer with a traceback. If the server dies, the
                        # end of its standard input ends the worker.
                        process_group=None if sys.platform == "win32" else 0,
                    )
        except OSError:
            self.is_dead = True
        if self.is_dead or self._receive() is None:
            self._bury()
        return not self.is_dead

    def ask(self, message: bytes) -> EvaluationResult | None:
        """Have a task done.

        Returns:
            The final answer, or the last one before the process was killed or died; None where there
            was none.
        """
        answer: EvaluationResult | None = None
        assert self._process is not None
        assert self._process.stdin is not None
        with suppress(OSError):  # it has ended; what it answered before still counts
            send(self._process.stdin, message)
            while answer is None or not answer.is_final:
                reply = self._receive()
                if reply is None:
                    break
                answer = decode_answer(reply)
        if answer is None or not answer.is_final:
            self._bury()
        return answer

    def kill(self) -> None:
        """End it at once."""
        with self._lock:
            self.is_dead = True
            if self._process is not None:
                self._process.kill()

    def _receive(self) -> bytes | None:
        assert self._process is not None
        assert self._process.stdout is not None
        return receive(self._process.stdout)

    def _bury(self) -> None:
        """Leave no zombie and no open pipe of a process that is of no more use."""
        self.kill()
        if self._process is not None:
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    with suppress(OSError):  # what was not written any more cannot be
                        pipe.close()
