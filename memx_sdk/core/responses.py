"""The meaning of a response: JSON text to go on with, or the exception that it stands for."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

from memx_sdk.config import shown_url
from memx_sdk.core.transport import Response
from memx_sdk.core.values import decode
from memx_sdk.errors import BadAnswerError, MemxError, UnavailableError, error_from

_GATEWAY_FAILURES: Final = frozenset({502, 503, 504})
"""Statuses by which a proxy says that the server behind it is away."""

_PLAIN_STATUSES: Final = frozenset({401, 403, 413, 429})
"""Statuses that mean the same from a proxy as from memX."""


def success_body(response: Response) -> bytes:
    """Return the JSON text of a success.

    Raises:
        MemxError: The server refused or failed, or what answered is no memX server.
    """
    if 200 <= response.status < 300:
        # A page of a proxy or of another server may come with 200, too. Only what says that it is
        # JSON is read as an answer.
        if response.body and "json" in response.content_type.lower():
            return response.body
        raise response.convert_error(_bad_answer(response, "not the JSON of a memX server"))
    # The transport has the last word on the class, so that code written for httpx catches errors of
    # the HTTP transport as before.
    raise response.convert_error(_failure(response))


def read(body: bytes) -> Any:
    """Read the JSON text of a success.

    Raises:
        BadAnswerError: It is none.
    """
    try:
        return decode(body)
    except ValueError as error:
        raise BadAnswerError("bad_answer", f"the server's answer is broken JSON: {error}") from None


def decode_object(body: bytes) -> dict[str, Any]:
    """Read a success that must be an object.

    Raises:
        BadAnswerError: It is something else.
    """
    return as_object(read(body))


def as_object(answer: Any) -> dict[str, Any]:
    """Return ``answer``, which must be an object.

    Raises:
        BadAnswerError: It is something else.
    """
    if isinstance(answer, dict):
        return answer
    raise BadAnswerError(
        "bad_answer", f"the server answered a {type(answer).__name__} where an object was expected"
    )


def _failure(response: Response) -> MemxError:
    # Redirects are not followed: that would carry the API key to a host that nobody named.
    if 300 <= response.status < 400:
        where = shown_url(response.headers.get("location", "nowhere"))
        return _bad_answer(response, f"a redirect to {where}; set base_url to the server itself")
    # An error of a memX server names its code; only where there is none the status decides.
    answer = _error_object(response)
    if answer is not None:
        # The header wins over a member of the same name: a proxy that limits on its own may set it,
        # and so does the server.
        return error_from({**answer, **_retry_after(response.headers)}, status=response.status)
    # No error object, so a proxy speaks. Its page is not shown: it may be long, and says nothing of
    # memX.
    if response.status in _GATEWAY_FAILURES or response.status in _PLAIN_STATUSES:
        text = f"a proxy on the way to memX answered {response.status}"
        extra = _retry_after(response.headers)
        return error_from({"detail": text, **extra}, status=response.status)
    return _bad_answer(response, "not an error of a memX server")


def _error_object(response: Response) -> Mapping[str, Any] | None:
    if "json" not in response.content_type.lower():
        return None
    try:
        answer = decode(response.body)
    except ValueError:
        return None
    # FastAPI's own errors, and those of the first memX's server, have a ``detail`` alone.
    known = isinstance(answer, dict) and ("error" in answer or "detail" in answer)
    return answer if known else None


def _bad_answer(response: Response, finding: str) -> MemxError:
    kind = response.content_type or "no content type"
    # Kind and size and not the body itself, which may hold anything, secrets of another service
    # included.
    size = f"{len(response.body)} bytes of {kind}" if response.body else "an empty body"
    detail = (
        f"the answer is {finding} (status {response.status}, {size}); "
        "check base_url, and any proxy on the way"
    )
    extra = {"status": response.status}
    # Worth another attempt: see `core.retry`. A foreign answer with another status stays what it
    # is.
    if response.status in _GATEWAY_FAILURES:
        return UnavailableError("unavailable", detail, extra)
    return BadAnswerError("bad_answer", detail, extra)


def _retry_after(headers: Mapping[str, str]) -> dict[str, float]:
    """Read ``Retry-After``, which is a number of seconds or a date."""
    text = headers.get("retry-after", "")
    try:
        # Never below 0: a wait must not become shorter than the jitter by an odd header.
        return {"retry_after": max(0.0, float(text))}
    except ValueError:
        pass
    try:
        # An empty or broken header is no date either, and then says nothing.
        moment = parsedate_to_datetime(text)
    except ValueError:
        return {}
    return {"retry_after": max(0.0, (moment - datetime.now(UTC)).total_seconds())}
