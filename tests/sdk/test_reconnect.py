"""The decisions about a broken stream: whether it is opened again, and how soon."""

from __future__ import annotations

import pytest

from memx_sdk.core.reconnect import Backoff, refusal
from memx_sdk.core.retry import RetryPolicy
from memx_sdk.errors import (
    BadAnswerError,
    ForbiddenError,
    InvalidRequestError,
    MemxClosedError,
    MemxConnectionError,
    MemxError,
    MemxTimeout,
    TakenOverError,
    TooLargeError,
    UnauthenticatedError,
    error_from,
)


@pytest.mark.parametrize(
    "error",
    [
        MemxConnectionError("connection", "refused"),
        MemxConnectionError("connection", "restarting", {"close_code": 1012}),
        MemxConnectionError("connection", "overloaded", {"close_code": 1013}),
        MemxConnectionError("connection", "pings unanswered", {"close_code": 1011}),
        MemxConnectionError("connection", "rate_limited: slower", {"close_code": 4429}),
        MemxTimeout("timeout", "no answer"),
        error_from({"error": "unavailable", "detail": "no store"}, status=503),
        error_from({"error": "internal", "detail": "a fault"}, status=500),
        error_from({"error": "rate_limited", "detail": "slower"}, status=429),
    ],
    ids=repr,
)
def test_what_may_pass_is_tried_again(error: MemxError) -> None:
    assert refusal(error, established=False) is None


@pytest.mark.parametrize(
    "error",
    [
        error_from({"error": "unauthenticated", "detail": "no key"}, status=401),
        error_from({"error": "forbidden", "detail": "unknown"}, status=403),
        error_from({"error": "invalid_cursor", "detail": "made up"}, status=400),
        error_from({"error": "too_large", "detail": "a snapshot of that size"}),
        error_from({"error": "quota_exceeded", "detail": "too many on this socket"}, status=409),
        error_from({"error": "taken_over", "detail": "another holds it"}),
        MemxClosedError("closed", "the context was closed"),
    ],
    ids=repr,
)
def test_what_stays_refused_is_not(error: MemxError) -> None:
    assert refusal(error, established=True) is error


@pytest.mark.parametrize(
    ("close_code", "reason", "kind", "code"),
    [
        (4401, "the API key has expired", UnauthenticatedError, "unauthenticated"),
        (4403, "", ForbiddenError, "forbidden"),
        (4400, "too_large: a snapshot of that size", TooLargeError, "too_large"),
        (4400, "no: such code", InvalidRequestError, "invalid_request"),
        (4409, "taken_over: by another", TakenOverError, "taken_over"),
    ],
)
def test_some_refusals_come_as_a_close_code(
    close_code: int, reason: str, kind: type[MemxError], code: str
) -> None:
    closed = MemxConnectionError("connection", reason, {"close_code": close_code})

    found = refusal(closed, established=True)

    assert isinstance(found, kind)
    assert found.code == code
    assert found.detail == reason.removeprefix(f"{code}: ")
    assert found.extra["close_code"] == close_code


def test_a_foreign_answer_is_final_only_at_first() -> None:
    error = BadAnswerError("bad_answer", "a proxy's page", {"status": 404})

    assert refusal(error, established=False) is error
    assert refusal(error, established=True) is None


def test_delays_double_up_to_a_bound_and_start_anew() -> None:
    policy = RetryPolicy(first_delay=0.1, longest_delay=1.0, chance=lambda: 1.0)
    backoff = Backoff(policy)
    error = MemxConnectionError("connection", "away")

    assert [backoff.next(error) for _ in range(6)] == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.0, 1.0])
    backoff.reset()
    assert backoff.next(error) == pytest.approx(0.1)


def test_delays_are_jittered_so_that_a_crowd_scatters() -> None:
    error = MemxConnectionError("connection", "away")

    delays = {Backoff().next(error) for _ in range(50)}

    assert len(delays) > 40
    assert all(0 < delay <= 0.05 for delay in delays)


def test_what_the_server_asks_for_is_heeded() -> None:
    busy = error_from({"error": "unavailable", "detail": "", "retry_after": 2.0}, status=503)

    assert 2.0 < Backoff().next(busy) <= 2.05
