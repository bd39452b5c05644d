"""The worker that validates and computes what may take long: ``python -m memx_server.evaluation.worker``.

It takes tasks on standard input and answers on standard output, one after the other, and is killed
when it takes too long. Each message is its length in four bytes, and that many bytes; the first one, an
empty one, says that the worker is ready.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from functools import lru_cache
from typing import IO, Literal

import msgspec

from memx_sdk.protocol.errors import ProtocolError
from memx_server.domain.filters import Filter, parse_filter
from memx_server.domain.memory.computing import compute
from memx_server.domain.requests import Computed
from memx_server.domain.responses import boolean, to_json
from memx_server.domain.schema.schema import Schema, check_registration
from memx_server.domain.values import check_exact, same_json
from memx_server.settings import Limits

_MEMORY = 2 * 1024**3
"""Bytes of address space; a task that needs more fails."""
_NICENESS = 5
"""The event loop goes first where processors are scarce."""
_LONGEST_TASK = 60
"""Seconds after which a worker ends even if the server that should have killed it is gone."""


class EvaluationTask(msgspec.Struct, array_like=True):
    """One task.

    Attributes:
        kind: Read a request, check a schema, validate a value, compute an update of it, compare it, or
            filter entries.
        pattern: The pattern of the schema.
        text: The request, the schema, the operation, the other value or the filter, as JSON text.
        value: The value, as JSON text; empty where there is none.
        limits: The server's limits, where they are needed.
        entries: The entries to be filtered, as JSON texts.
    """

    kind: Literal["read", "check", "validate", "compute", "compare", "filter"]
    pattern: str = ""
    text: bytes = b""
    value: bytes = b""
    limits: dict[str, int] = {}
    entries: Sequence[bytes] = ()


class EvaluationResult(msgspec.Struct, array_like=True):
    """What came of a task, as JSON texts.

    Attributes:
        is_final: False where a better answer may follow.
        result: Violations (the first alone where it is not final), the new value, whether two are the same, or the
            places of the entries that match.
        refusal: The error object, where there is no result.
    """

    is_final: bool
    result: bytes = b"[]"
    refusal: bytes | None = None


encode = msgspec.msgpack.Encoder().encode
decode_task = msgspec.msgpack.Decoder(EvaluationTask).decode
decode_answer = msgspec.msgpack.Decoder(EvaluationResult).decode
_decode_operation = msgspec.json.Decoder(Computed).decode


def send(stream: IO[bytes], message: bytes) -> None:
    """Write a message."""
    stream.write(len(message).to_bytes(4, "big") + message)
    stream.flush()


def receive(stream: IO[bytes]) -> bytes | None:
    """Read a message; None at the end of the stream."""
    head = stream.read(4)
    if len(head) < 4:
        return None
    message = stream.read(int.from_bytes(head, "big"))
    return message if len(message) == int.from_bytes(head, "big") else None


def main() -> None:
    """Work until the standard input ends."""
    _limit()
    tasks, answers = sys.stdin.buffer, sys.stdout.buffer
    send(answers, b"")
    while (message := receive(tasks)) is not None:
        task = decode_task(message)
        _set_alarm(_LONGEST_TASK)
        try:
            if task.kind == "validate":
                _validate(task, answers)
            else:
                send(answers, encode(_answer(task)))
        except ProtocolError as refusal:
            text = to_json(refusal.as_dict())
            send(answers, encode(EvaluationResult(is_final=True, refusal=text)))
        _set_alarm(0)


def _answer(task: EvaluationTask) -> EvaluationResult:
    result = b"[]"
    match task.kind:
        case "read":
            check_exact(task.text)
        case "check":
            check_registration(task.text, Limits(**task.limits))
        case "compare":
            result = boolean(same_json(task.value, task.text))
        case "filter":
            filter = _filter(task.text)
            matches = (at for at, entry in enumerate(task.entries) if filter.matches_entry(entry))
            result = to_json(list(matches))
        case _:
            operation, limits = _decode_operation(task.text), Limits(**task.limits)
            result = compute(operation, task.value or None, limits)
    return EvaluationResult(True, result)


def _validate(task: EvaluationTask, answers: IO[bytes]) -> None:
    """Send the first violation as soon as it is known: to collect them all may take too long."""
    schema = _schema(task.pattern, task.text)
    first = schema.first_violation(task.value)
    send(answers, encode(EvaluationResult(is_final=not first, result=to_json(first))))
    if first:
        every = schema.violations(task.value)
        send(answers, encode(EvaluationResult(is_final=True, result=to_json(every))))


@lru_cache(maxsize=8)
def _filter(text: bytes) -> Filter:
    """Make the filter of a text that the server has checked."""
    found = parse_filter(text)
    assert found is not None, "a filter without conditions is never sent here"
    return found


@lru_cache(maxsize=64)
def _schema(pattern: str, text: bytes) -> Schema:
    return Schema(pattern, text)


def _limit() -> None:
    if sys.platform == "win32":  # it has none of these
        return
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    os.nice(_NICENESS)
    # A signal for the whole group, such as Ctrl-C, is the server's to answer.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _set_alarm(seconds: int) -> None:
    """End the process when so many seconds have passed; 0: after all not."""
    if sys.platform != "win32":
        signal.alarm(seconds)


if __name__ == "__main__":
    try:
        main()
    except (MemoryError, KeyboardInterrupt):
        sys.exit(1)
