"""The retry policy: what is repeated, how often, and after how long."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memx_sdk import errors
from memx_sdk.core import writes
from memx_sdk.core.calls import given as fields_given
from memx_sdk.core.calls import reading, writing
from memx_sdk.core.retry import RetryPolicy
from memx_sdk.core.writes import WriteOptions
from memx_sdk.errors import MemxError

TRANSIENT = [
    errors.MemxConnectionError("connection", "d"),
    errors.MemxTimeout("timeout", "d"),
    errors.UnavailableError("unavailable", "d"),
    errors.RateLimitedError("rate_limited", "d"),
]
LASTING = [
    errors.ConflictError("conflict", "d"),
    errors.ForbiddenError("forbidden", "d"),
    errors.InvalidRequestError("invalid_value", "d"),
    errors.QuotaExceededError("quota_exceeded", "d"),
    errors.ServerError("internal", "d"),
    errors.BadAnswerError("bad_answer", "d"),
    errors.MemxClosedError("closed", "d"),
]


@pytest.mark.parametrize("error", TRANSIENT, ids=lambda error: error.code)
def test_what_may_pass_is_tried_again_a_bounded_number_of_times(error: MemxError) -> None:
    policy = RetryPolicy(max_retries=2)
    assert policy.delay_before(1, error) is not None
    assert policy.delay_before(2, error) is not None
    assert policy.delay_before(3, error) is None
    assert RetryPolicy(max_retries=0).delay_before(1, error) is None


@pytest.mark.parametrize("error", LASTING, ids=lambda error: error.code)
def test_what_will_not_pass_is_not_tried_again(error: MemxError) -> None:
    assert RetryPolicy().delay_before(1, error) is None


@given(attempt=st.integers(1, 10_000), chance=st.floats(0, 1, exclude_max=True))
def test_delays_grow_and_are_bounded_and_scattered(attempt: int, chance: float) -> None:
    policy = RetryPolicy(first_delay=0.1, longest_delay=3.0, chance=lambda: chance)
    ceiling = min(3.0, 0.1 * 2.0 ** min(attempt - 1, 40))
    assert ceiling / 2 <= policy.jitter(attempt) <= ceiling


def test_the_server_s_retry_after_is_honoured_unless_it_asks_for_too_much() -> None:
    policy = RetryPolicy(longest_patience=30)
    busy = errors.UnavailableError("unavailable", "d", {"retry_after": 2})
    delay = policy.delay_before(1, busy)
    assert delay is not None
    assert 2.0 < delay <= 2.1
    away = errors.UnavailableError("unavailable", "d", {"retry_after": 3600})
    assert policy.delay_before(1, away) is None


def test_every_write_has_an_idempotency_key_of_its_own_and_no_read_has_one() -> None:
    options = WriteOptions()
    requests = [
        writes.set("k", 1, options).request,
        writes.set("k", 1, options).request,
        writes.delete("k", options).request,
        writes.update("k", "increment", 1, options).request,
        writes.txn([], [], [], options).request,
        writes.set_schema("k", {}, None).request,
        writes.delete_schema("k", None).request,
    ]
    keys = {request.idempotency_key for request in requests}
    assert None not in keys
    assert len(keys) == len(requests)
    mine = writes.set("k", 1, WriteOptions(idempotency_key="mine"))
    assert mine.request.idempotency_key == "mine"
    assert reading("get", "/get", {}).idempotency_key is None


@pytest.mark.parametrize("key", ["", "a\nb", "x" * 256])
def test_an_idempotency_key_that_cannot_be_is_refused(key: str) -> None:
    with pytest.raises(errors.InvalidRequestError) as caught:
        writes.set("k", 1, WriteOptions(idempotency_key=key))
    assert caught.value.extra == {"field": "idempotency_key"}


def test_a_request_is_json_or_a_query() -> None:
    request = writing("set", "/set", fields_given(key='a"b', ttl=1.5, at=None, values=True))
    assert request.body() == b'{"key":"a\\"b","ttl":1.5,"values":true}'
    assert request.query() == {"key": 'a"b', "ttl": "1.5", "values": "true"}
