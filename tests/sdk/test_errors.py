"""One tree of exceptions, the same for every way that an error can arrive."""

from __future__ import annotations

import inspect
import pickle
import re

import pytest

from memx_sdk import Entry, errors
from memx_sdk.errors import MemxError, error_class, error_from
from memx_sdk.protocol.errors import STATUS_BY_CODE

PUBLIC = {
    name: kind
    for name, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, MemxError) and not name.startswith("_")
}


def test_the_docstring_draws_the_tree() -> None:
    drawn: dict[str, str | None] = {}
    above: dict[int, str] = {}
    for line in (errors.__doc__ or "").splitlines():
        if match := re.match(r"^ {4}((?:[│ ]   |[├└]── )*)(\w+(?:Error|Timeout))\b", line):
            depth = len(match[1]) // 4
            drawn[match[2]] = above.get(depth - 1)
            above[depth] = match[2]
    assert drawn == {name: nearest_public_base(kind) for name, kind in PUBLIC.items()}


def nearest_public_base(kind: type) -> str | None:
    return next((base.__name__ for base in kind.__mro__[1:] if base.__name__ in PUBLIC), None)


@pytest.mark.parametrize("code", STATUS_BY_CODE)
def test_every_code_of_the_wire_has_a_class_of_the_right_branch(code: str) -> None:
    status = STATUS_BY_CODE[code]
    branch = errors.ServerError if status >= 500 else errors.RequestError
    for error in (
        error_from({"error": code, "detail": "d"}, status=status),
        error_class(code)("c", "d"),
    ):
        assert isinstance(error, branch)
    assert error_from({"error": code, "detail": "d"}).extra == {}
    assert getattr(error_from({"error": code, "detail": "d"}), "status", None) == status


def test_a_code_from_the_future_still_has_a_branch() -> None:
    assert type(error_from({"error": "new", "detail": "d"}, status=422)) is errors.RequestError
    assert type(error_from({"error": "new", "detail": "d"}, status=507)) is errors.ServerError


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, errors.InvalidRequestError),
        (401, errors.UnauthenticatedError),
        (403, errors.ForbiddenError),
        (404, errors.NotFoundError),
        (418, errors.RequestError),
        (500, errors.ServerError),
        (503, errors.UnavailableError),
    ],
)
def test_the_first_memx_server_s_errors_are_understood_by_their_status(
    status: int, kind: type[MemxError]
) -> None:
    error = error_from({"detail": "Schema validation failed"}, status=status)
    assert type(error) is kind
    assert error.detail == "Schema validation failed"


def test_errors_carry_what_helps_to_repair_them() -> None:
    entry = {"key": "k", "revision": 7, "value": {"n": 1}}
    conflict = error_from({"error": "conflict", "detail": "d", "key": "k", "entry": entry})
    assert isinstance(conflict, errors.ConflictError)
    assert isinstance(conflict.entry, Entry)
    assert (conflict.entry.revision, conflict.entry.value) == (7, {"n": 1})
    hidden = errors.ConflictError("conflict", "d", {"entry": None})
    assert hidden.entry is None

    fault = {"path": "/n", "rule": "type"}
    refused = errors.SchemaViolationError("schema_violation", "d", {"key": "k", "errors": [fault]})
    assert (refused.key, refused.schema, refused.errors) == ("k", None, [fault])
    assert errors.RateLimitedError("rate_limited", "d", {"retry_after": 2}).retry_after == 2.0
    assert errors.CompactedError("compacted", "d", {"cursor": "a-1"}).cursor == "a-1"
    assert errors.MemxConnectionError("connection", "d", {"close_code": 1012}).close_code == 1012
    assert str(conflict) == "conflict: d"
    assert repr(conflict) == "ConflictError('conflict', 'd')"


def test_what_python_has_a_name_for_can_be_caught_by_it() -> None:
    assert issubclass(errors.MemxTimeout, TimeoutError)
    assert issubclass(errors.MemxConnectionError, ConnectionError)
    assert issubclass(errors.ModelError, ValueError)


class Mine(errors.ConflictError):
    """A user's own."""


@pytest.mark.parametrize("kind", [*PUBLIC.values(), Mine])
def test_errors_can_be_pickled(kind: type[MemxError]) -> None:
    error = kind("code", "detail", {"status": 499})
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is kind
    assert (copy.code, copy.detail, copy.extra) == ("code", "detail", {"status": 499})
