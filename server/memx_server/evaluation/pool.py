"""The evaluation processes: a few workers that serve the spaces in turns and are killed when they take too long."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import NamedTuple

import msgspec

from memx_sdk.protocol.errors import ProtocolError
from memx_server.domain.evaluator import EvaluationTimeout
from memx_server.domain.filters import Filter
from memx_server.domain.requests import Computed
from memx_server.domain.schema.schema import Schema, Violation
from memx_server.evaluation.process import WorkerProcess
from memx_server.evaluation.queue import FairQueue
from memx_server.evaluation.worker import EvaluationResult, EvaluationTask, encode
from memx_server.settings import Limits

_log = logging.getLogger("memx_server")

_decode = msgspec.json.Decoder(float_hook=Decimal).decode
_encode = msgspec.json.Encoder().encode

_PROCESSES = 2
_CHECK_SECONDS = 5.0
"""How long the check of a heavy schema may take; who registers one can wait."""
_COMPUTE_SECONDS = 2.0
"""How long an update of a large value, or the reading of a request in many parts, may take."""
_WAIT_SECONDS = 10.0
"""How long a job may wait for a process."""
_RESTART_SECONDS = 1.0
"""Pause before another process is started where one could not be."""
_REFUSED_SECONDS = 30.0
"""How long a value that took too long, or a longer one, is refused without another try."""
_REFUSALS_KEPT = 1000


class _Job:
    """One task that waits for a process, or has one.

    Attributes:
        message: The task, encoded.
        seconds: How long it may take, from the moment at which a process begins with it.
        answer: What came of it.
        has_begun: Whether a process has it.
    """

    def __init__(self, message: bytes, seconds: float) -> None:
        self.message = message
        self.seconds = seconds
        self.answer: asyncio.Future[EvaluationResult] = asyncio.get_running_loop().create_future()
        self.has_begun = False

    def end(self, answer: EvaluationResult | BaseException) -> None:
        """Give the caller the answer, unless the caller has left."""
        if self.answer.done():
            return
        if isinstance(answer, BaseException):
            self.answer.set_exception(answer)
        else:
            self.answer.set_result(answer)


class _TooSlow(NamedTuple):
    """What a key of a space was last found to be too slow with."""

    schema: bytes
    length: int
    until: float


class EvaluationPool:
    """The processes, and the jobs that wait for them.

    A job's deadline counts from the moment at which a process that is ready begins with it. One process
    is kept for the other spaces (see ``FairQueue``), so a space that keeps its own jobs running up to
    their deadlines delays nobody else's by as much.

    Args:
        deadline: Seconds that the validation of one value may take.
    """

    def __init__(self, deadline: float) -> None:
        self._deadline = deadline
        self._threads = ThreadPoolExecutor(_PROCESSES, thread_name_prefix="memx-evaluation")
        self._queue: FairQueue[_Job] = FairQueue()
        # None stands for a process that has not been started yet.
        self._free: list[WorkerProcess | None] = [None] * _PROCESSES
        self._processes: set[WorkerProcess] = set()
        self._serving: set[asyncio.Task[None]] = set()
        self._too_slow: OrderedDict[tuple[str, str], _TooSlow] = OrderedDict()
        self._is_closed = False

    async def start(self) -> None:
        """Start all processes and return when they are ready; without it each starts when it is first needed."""
        idle, self._free = self._free, []
        self._free += await asyncio.gather(
            *(self._start_process() if each is None else _itself(each) for each in idle)
        )

    async def read(self, space: str, text: bytes) -> None:
        """See ``EvaluationProcesses.read``."""
        await self._result(space, EvaluationTask("read", text=text), _COMPUTE_SECONDS)

    async def check(self, space: str, text: bytes, limits: Limits) -> None:
        """See ``EvaluationProcesses.check``."""
        task = EvaluationTask("check", text=text, limits=limits.as_dict())
        await self._result(space, task, _CHECK_SECONDS)

    async def violations(
        self, space: str, key: str, schema: Schema, value: bytes
    ) -> list[Violation]:
        """See ``EvaluationProcesses.violations``."""
        known = self._too_slow.get((space, key))
        if (
            known is not None
            and known.until > time.monotonic()
            and known.schema == schema.text
            and known.length <= len(value)
        ):
            raise EvaluationTimeout
        task = EvaluationTask("validate", schema.pattern, schema.text, value)
        try:
            result = await self._result(space, task, self._deadline)
        except EvaluationTimeout:
            self._note_too_slow(space, key, schema, value)
            raise
        violations: list[Violation] = _decode(result)
        return violations

    async def compute(
        self, space: str, operation: Computed, present: bytes | None, limits: Limits
    ) -> bytes:
        """See ``EvaluationProcesses.compute``."""
        task = EvaluationTask("compute", "", _encode(operation), present or b"", limits.as_dict())
        return await self._result(space, task, _COMPUTE_SECONDS)

    async def same(self, space: str, one: bytes, other: bytes) -> bool:
        """See ``EvaluationProcesses.same``."""
        task = EvaluationTask("compare", text=one, value=other)
        return await self._result(space, task, _COMPUTE_SECONDS) == b"true"

    async def matching(self, space: str, filter: Filter, entries: Sequence[bytes]) -> list[int]:
        """See ``EvaluationProcesses.matching``."""
        task = EvaluationTask("filter", text=filter.text, entries=entries)
        found: list[int] = _decode(await self._result(space, task, _COMPUTE_SECONDS))
        return found

    async def close(self) -> None:
        """End all processes; whoever still waits is told that the server is going."""
        self._is_closed = True
        for process in self._processes:
            process.kill()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _result(self, space: str, task: EvaluationTask, seconds: float) -> bytes:
        answer = await self._run(space, task, seconds)
        if answer.refusal is not None:
            refusal = _decode(answer.refusal)
            raise ProtocolError(refusal.pop("error"), refusal.pop("detail"), **refusal)
        return answer.result

    async def _run(self, space: str, task: EvaluationTask, seconds: float) -> EvaluationResult:
        """Let a task have its turn, and return what came of it.

        Raises:
            EvaluationTimeout: It took longer than ``seconds``.
            ProtocolError: ``unavailable`` where too many wait, or it waited too long itself.
        """
        job = _Job(encode(task), seconds)
        is_long = task.kind == "check"
        if self._is_closed or not self._queue.add(
            space, job, is_long=is_long, now=time.monotonic()
        ):
            raise _busy()
        self._dispatch()
        waiting = asyncio.get_running_loop().call_later(_WAIT_SECONDS, self._give_up, space, job)
        try:
            return await job.answer
        finally:
            # The caller may have left: then a job that has not begun is not begun any more.
            waiting.cancel()
            if not job.has_begun:
                self._queue.discard(space, job)

    def _give_up(self, space: str, job: _Job) -> None:
        if not job.has_begun:
            self._queue.discard(space, job)
            job.end(_busy())

    def _dispatch(self) -> None:
        """Give free processes to those whose turn it is."""
        while self._free and (found := self._queue.next(len(self._free), time.monotonic())):
            space, job = found
            job.has_begun = True
            # The one that ran last is the most likely to be in the processor's cache.
            task = asyncio.create_task(self._serve(self._free.pop(), space, job))
            self._serving.add(task)
            task.add_done_callback(self._serving.discard)

    async def _serve(self, process: WorkerProcess | None, space: str, job: _Job) -> None:
        try:
            process = process or await self._start_process()
            job.end(
                _busy()
                if process is None
                else await self._answer(process, job) or EvaluationTimeout()
            )
            # A killed process is replaced at the expense of the space that had it killed: until its
            # successor is ready, the space counts as served.
            if process is not None and process.is_dead:
                self._processes.discard(process)
                process = await self._start_process()
        finally:
            job.end(_busy())
            self._queue.done(space)
            self._free.append(process)
            if not self._is_closed:
                self._dispatch()

    async def _answer(self, process: WorkerProcess, job: _Job) -> EvaluationResult | None:
        """Return the final answer, or the last one before the deadline; None where there was none."""
        loop = asyncio.get_running_loop()
        # A thread waits for the process. It holds the interpreter for a few microseconds only.
        asking = loop.run_in_executor(self._threads, process.ask, job.message)
        try:
            await asyncio.wait({asking}, timeout=job.seconds)
        finally:
            if not asking.done():
                process.kill()  # which also ends the thread's waiting
        return await asking

    async def _start_process(self) -> WorkerProcess | None:
        """Start a process and wait until it is ready; None where that fails."""
        if self._is_closed:
            return None
        process = WorkerProcess()
        self._processes.add(process)
        loop = asyncio.get_running_loop()
        if await loop.run_in_executor(self._threads, process.start):
            return process
        self._processes.discard(process)
        if not self._is_closed:
            _log.error("an evaluation process cannot be started; trying again when it is needed")
            await asyncio.sleep(_RESTART_SECONDS)
        return None

    def _note_too_slow(self, space: str, key: str, schema: Schema, value: bytes) -> None:
        until = time.monotonic() + _REFUSED_SECONDS
        self._too_slow[space, key] = _TooSlow(schema.text, len(value), until)
        self._too_slow.move_to_end((space, key))
        if len(self._too_slow) > _REFUSALS_KEPT:
            self._too_slow.popitem(last=False)


async def _itself(process: WorkerProcess) -> WorkerProcess:
    return process


def _busy() -> ProtocolError:
    return ProtocolError(
        "unavailable",
        "the server's evaluation processes are busy with other values of this space; send the request "
        "again after the time that Retry-After names",
        retry_after=1,
    )
