"""Processes that judge and compute what may take long, and are killed when it does."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import msgspec

from memx_sdk.protocol.errors import ProtocolError
from memx_server.domain.evaluator import EvaluationTimeout
from memx_server.domain.requests import Computed
from memx_server.domain.schema.schema import Schema, Violation
from memx_server.evaluation.worker import (
    EvaluationResult,
    EvaluationTask,
    decode_answer,
    encode,
    receive,
    send,
)
from memx_server.settings import Limits

_decode = msgspec.json.Decoder(float_hook=Decimal).decode
_encode = msgspec.json.Encoder().encode

_PROCESSES = 2
_CHECK_SECONDS = 10.0
"""How long the check of a heavy schema may take; who registers one can wait."""
_COMPUTE_SECONDS = 5.0
"""How long an update of a large value may take."""
_BANNED_SECONDS = 30.0
"""How long a schema that took too long is refused without another try."""
_BANNED_KEPT = 1000


class EvaluationPool:
    """A ``SlowJudge`` on a few processes, started when they are first needed.

    Args:
        deadline: Seconds that judging one value may take.
    """

    def __init__(self, deadline: float) -> None:
        self._deadline = deadline
        self._threads = ThreadPoolExecutor(_PROCESSES, thread_name_prefix="memx-judge")
        self._idle: list[_Process] = []
        self._banned: dict[bytes, float] = {}
        self._closed = False

    async def check(self, text: bytes, limits: Limits) -> None:
        """See ``SlowJudge.check``."""
        await self._result(EvaluationTask("check", "", text, b"", limits.as_dict()), _CHECK_SECONDS)

    async def violations(self, schema: Schema, value: bytes) -> list[Violation]:
        """See ``SlowJudge.violations``."""
        if self._banned.get(schema.text, 0.0) > time.monotonic():
            raise EvaluationTimeout
        task = EvaluationTask("judge", schema.pattern, schema.text, value, {})
        try:
            answer = await self._ask(task, self._deadline)
        except EvaluationTimeout:
            if len(self._banned) >= _BANNED_KEPT:
                self._banned.clear()
            self._banned[schema.text] = time.monotonic() + _BANNED_SECONDS
            raise
        violations: list[Violation] = _decode(answer.result)
        return violations

    async def compute(self, operation: Computed, present: bytes | None, limits: Limits) -> bytes:
        """See ``SlowJudge.compute``."""
        task = EvaluationTask("compute", "", _encode(operation), present or b"", limits.as_dict())
        return await self._result(task, _COMPUTE_SECONDS)

    async def same(self, one: bytes, other: bytes) -> bool:
        """See ``SlowJudge.same``."""
        return (
            await self._result(EvaluationTask("compare", "", one, other, {}), _COMPUTE_SECONDS)
            == b"true"
        )

    def close(self) -> None:
        """End all processes."""
        self._closed = True
        for process in self._idle:
            process.kill()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _result(self, task: EvaluationTask, deadline: float) -> bytes:
        answer = await self._ask(task, deadline)
        if answer.refusal is not None:
            refusal = _decode(answer.refusal)
            raise ProtocolError(refusal.pop("error"), refusal.pop("detail"), **refusal)
        return answer.result

    async def _ask(self, task: EvaluationTask, deadline: float) -> EvaluationResult:
        job = _Job(encode(task))
        future = self._threads.submit(self._work, job)
        answered = asyncio.wrap_future(future)
        try:
            await asyncio.wait({answered}, timeout=deadline)
        finally:
            if not future.done() and not future.cancel():
                job.kill()
        if future.cancelled():
            raise _busy()
        return await answered

    def _work(self, job: _Job) -> EvaluationResult:
        """Do a job, in a thread: it waits for the process."""
        process = self._idle.pop() if self._idle else _Process()
        answer = job.run(process)
        if answer.is_final and not self._closed:
            self._idle.append(process)
        else:
            process.kill()
        return answer


class _Job:
    """One task on its way through a process."""

    def __init__(self, message: bytes) -> None:
        self._message = message
        self._process: _Process | None = None
        self._lock = threading.Lock()
        self._killed = False

    def run(self, process: _Process) -> EvaluationResult:
        """Return the final answer, or the last one before the process was killed.

        Raises:
            TooSlow: It was killed, or died, before it answered.
        """
        with self._lock:
            self._process = process
            if self._killed:
                process.kill()
        answer: EvaluationResult | None = None
        try:
            process.send(self._message)
            while answer is None or not answer.is_final:
                message = process.receive()
                if message is None:
                    break
                answer = decode_answer(message)
        except OSError:
            process.kill()
        if answer is None:
            process.kill()
            raise EvaluationTimeout
        return answer

    def kill(self) -> None:
        """End the process that has the task."""
        with self._lock:
            self._killed = True
            if self._process is not None:
                self._process.kill()


class _Process:
    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "memx_server.evaluation.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )

    def send(self, message: bytes) -> None:
        assert self._process.stdin is not None
        send(self._process.stdin, message)

    def receive(self) -> bytes | None:
        assert self._process.stdout is not None
        return receive(self._process.stdout)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


def _busy() -> ProtocolError:
    return ProtocolError(
        "unavailable",
        "the server is busy judging other values; send the request again",
        retry_after=1,
    )
