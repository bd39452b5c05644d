"""The process that judges and computes what may take long: ``python -m memx_server.evaluation.worker``.

It takes tasks on standard input and answers on standard output, one after the other, and is killed
when it takes too long. Each message is its length in four bytes, and that many bytes.
"""

from __future__ import annotations

import sys
from functools import lru_cache
from typing import IO, Literal

import msgspec

from memx_sdk.protocol.errors import ProtocolError
from memx_server.domain.memory.computing import compute
from memx_server.domain.requests import Computed
from memx_server.domain.responses import boolean, to_json
from memx_server.domain.schema.schema import Schema, check_registration
from memx_server.domain.values import same_json
from memx_server.settings import Limits

_MEMORY = 2 * 1024**3
"""Bytes of address space; a judgement that needs more fails."""


class EvaluationTask(msgspec.Struct, array_like=True):
    """One task.

    Attributes:
        kind: Check a schema, judge a value by it, compute an update of it, or compare it.
        pattern: The pattern of the schema.
        text: The schema, the operation or the other value, as JSON text.
        value: The value, as JSON text; empty where there is none.
        limits: The server's limits.
    """

    kind: Literal["check", "judge", "compute", "compare"]
    pattern: str
    text: bytes
    value: bytes
    limits: dict[str, int]


class EvaluationResult(msgspec.Struct, array_like=True):
    """What came of a task, as JSON texts.

    Attributes:
        is_final: False where a better answer may follow.
        result: Violations (the first alone where it is not final), the new value, or whether two are the same.
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
    _limit_memory()
    tasks, answers = sys.stdin.buffer, sys.stdout.buffer
    while (message := receive(tasks)) is not None:
        task = decode_task(message)
        if task.kind == "judge":
            _judge(task, answers)
        else:
            send(answers, encode(_answer(task)))


def _answer(task: EvaluationTask) -> EvaluationResult:
    limits = Limits(**task.limits)
    try:
        match task.kind:
            case "compute":
                operation = _decode_operation(task.text)
                return EvaluationResult(True, compute(operation, task.value or None, limits))
            case "compare":
                return EvaluationResult(True, boolean(same_json(task.value, task.text)))
            case _:
                check_registration(task.text, limits)
    except ProtocolError as refusal:
        return EvaluationResult(is_final=True, refusal=to_json(refusal.as_dict()))
    return EvaluationResult(is_final=True)


def _judge(task: EvaluationTask, answers: IO[bytes]) -> None:
    schema = _schema(task.pattern, task.text)
    first = schema.first_violation(task.value)
    send(answers, encode(EvaluationResult(is_final=not first, result=to_json(first))))
    if first:
        every = schema.violations(task.value)
        send(answers, encode(EvaluationResult(is_final=True, result=to_json(every))))


@lru_cache(maxsize=64)
def _schema(pattern: str, text: bytes) -> Schema:
    return Schema(pattern, text)


def _limit_memory() -> None:
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))


if __name__ == "__main__":
    try:
        main()
    except (MemoryError, KeyboardInterrupt):
        sys.exit(1)
