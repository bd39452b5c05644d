"""The meaning of responses, of a memX server and of strangers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from memx_sdk import errors
from memx_sdk.core.responses import decode_object, read, success_body
from memx_sdk.errors import MemxError
from memx_sdk.transport import Response

PAGE = b"<html><title>502 Bad Gateway</title> internal-host-7</html>"


def refusal(
    status: int, body: bytes, content_type: str = "application/json", **headers: str
) -> Any:
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    with pytest.raises(MemxError) as caught:
        success_body(Response(status, body, content_type, named))
    return caught.value


def test_json_passes() -> None:
    assert success_body(Response(200, b"null")) == b"null"
    assert success_body(Response(200, b"{}", "application/problem+json; charset=utf-8")) == b"{}"


@pytest.mark.parametrize(
    ("body", "content_type"),
    [(PAGE, "text/html"), (b"", "application/json"), (b"", ""), (b"ok", "text/plain")],
)
def test_a_success_that_is_no_json_is_no_memx_server(body: bytes, content_type: str) -> None:
    error = refusal(200, body, content_type)
    assert type(error) is errors.BadAnswerError
    assert error.code == "bad_answer"
    assert "base_url" in error.detail
    assert "internal-host-7" not in str(error)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_not_followed_and_says_where_to(status: int) -> None:
    error = refusal(status, b"", "", location="https://me:secret@memx.example/get?key=private")
    assert type(error) is errors.BadAnswerError
    assert "https://memx.example/get" in error.detail
    assert "secret" not in str(error)
    assert "private" not in str(error)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, errors.UnauthenticatedError),
        (403, errors.ForbiddenError),
        (404, errors.BadAnswerError),
        (405, errors.BadAnswerError),
        (413, errors.TooLargeError),
        (429, errors.RateLimitedError),
        (500, errors.BadAnswerError),
        (502, errors.UnavailableError),
        (503, errors.UnavailableError),
        (504, errors.UnavailableError),
    ],
)
def test_a_proxy_s_page_means_what_its_status_says(status: int, kind: type[MemxError]) -> None:
    error = refusal(status, PAGE, "text/html")
    assert type(error) is kind
    assert error.extra["status"] == status
    assert str(status) in error.detail


def test_broken_json_in_an_error_is_no_error_of_memx() -> None:
    assert type(refusal(400, b'{"error": "conf')) is errors.BadAnswerError
    assert type(refusal(400, b'["conflict"]')) is errors.BadAnswerError
    assert type(refusal(400, b'{"message": "no"}')) is errors.BadAnswerError


def test_a_detail_that_is_no_text_is_shown_all_the_same() -> None:
    error = refusal(422, b'{"detail": [{"loc": ["body", "key"]}]}')
    assert type(error) is errors.RequestError
    assert "loc" in error.detail


def test_retry_after_is_read_as_seconds_and_as_a_date() -> None:
    body = b'{"error": "unavailable", "detail": "d"}'
    assert refusal(503, body, retry_after="2").retry_after == 2.0
    assert refusal(503, body, retry_after="-2").retry_after == 0.0
    assert refusal(503, body, retry_after="soon").retry_after is None
    assert refusal(503, body).retry_after is None
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    assert 50 < refusal(503, body, retry_after=later).retry_after <= 60
    assert refusal(429, PAGE, "text/html", retry_after="3").retry_after == 3.0


def test_the_transport_may_dress_the_error() -> None:
    dressed = errors.MemxError("dressed", "d")
    with pytest.raises(MemxError) as caught:
        success_body(
            Response(409, b'{"error": "conflict", "detail": "d"}', convert_error=lambda _: dressed)
        )
    assert caught.value is dressed


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b'"\xff"', b"nonsense", b'"\\ud800"'])
def test_broken_json_in_a_success_is_a_bad_answer(body: bytes) -> None:
    with pytest.raises(errors.BadAnswerError):
        read(body)


@pytest.mark.parametrize("body", [b"null", b"[]", b"3", b'"text"'])
def test_another_shape_than_expected_is_a_bad_answer(body: bytes) -> None:
    with pytest.raises(errors.BadAnswerError):
        decode_object(body)
