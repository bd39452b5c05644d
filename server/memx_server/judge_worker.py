"""The process that judges what may take long: ``python -m memx_server.judge_worker``.

It takes tasks on standard input and answers on standard output, one after the other, and is killed
when it takes too long. Each message is its length in four bytes, and that many bytes.
"""

from __future__ import annotations

import sys
from functools import lru_cache
from typing import IO, Literal

import msgspec

from memx_sdk.protocol.errors import ProtocolError
from memx_server.domain.answers import to_json
from memx_server.domain.schema_registration import check_registration
from memx_server.domain.schema_rules import Schema
from memx_server.settings import Limits

_MEMORY = 2 * 1024**3
"""Bytes of address space; a judgement that needs more fails."""


class Task(msgspec.Struct, array_like=True):
    """One task: check a schema, or judge a value by it."""

    kind: Literal["check", "judge"]
    pattern: str
    schema: bytes
    value: bytes
    limits: dict[str, int]


class Answer(msgspec.Struct, array_like=True):
    """What came of a task, as JSON texts; one that is not final holds the first violation alone."""

    is_final: bool
    violations: bytes = b"[]"
    refusal: bytes | None = None


encode = msgspec.msgpack.Encoder().encode
decode_task = msgspec.msgpack.Decoder(Task).decode
decode_answer = msgspec.msgpack.Decoder(Answer).decode


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
        if task.kind == "check":
            send(answers, encode(_check(task)))
        else:
            _judge(task, answers)


def _check(task: Task) -> Answer:
    try:
        check_registration(task.schema, Limits(**task.limits))
    except ProtocolError as refusal:
        return Answer(is_final=True, refusal=to_json(refusal.as_dict()))
    return Answer(is_final=True)


def _judge(task: Task, answers: IO[bytes]) -> None:
    schema = _schema(task.pattern, task.schema)
    first = schema.first_violation(task.value)
    send(answers, encode(Answer(is_final=not first, violations=to_json(first))))
    if first:
        every = schema.violations(task.value)
        send(answers, encode(Answer(is_final=True, violations=to_json(every))))


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
