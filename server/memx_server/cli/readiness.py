"""The wait of a starting server's command until the server can serve."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

_FIRST_REPORT = 1.5
"""Seconds after which a server that is not ready yet is worth a line."""
_INTERVAL = 0.1
_TIMEOUT = 5.0
_opener = build_opener(ProxyHandler({}))
"""It asks the server itself, whatever proxy the environment names for others."""


def announce(
    url: str, host: str, on_ready: Callable[[], None], on_waiting: Callable[[str], None]
) -> None:
    """Call ``on_ready`` once the server at ``url`` is ready, from a thread of its own.

    A server begins to listen before its store answers, and then answers 503. It is ready when ``/readyz`` says so: with
    several workers the process of the command has no store of its own to try.

    Args:
        url: The URL of the server.
        host: A name that the server goes by; it may refuse others.
        on_ready: Called once.
        on_waiting: Called once, before ``on_ready``, where that takes longer than a moment; given the reason.
    """
    # The event loop of the server may run in this thread, so the request must come from another one.
    arguments = (url, host, on_ready, on_waiting)
    # The process must not wait for it at its end.
    threading.Thread(target=_wait, args=arguments, name="memx-ready", daemon=True).start()


def _wait(
    url: str, host: str, on_ready: Callable[[], None], on_waiting: Callable[[str], None]
) -> None:
    report_at = time.monotonic() + _FIRST_REPORT
    has_reported = False
    while (reason := _reason_to_wait(url, host)) is not None:
        if not has_reported and time.monotonic() >= report_at:
            has_reported = True
            on_waiting(reason)
        time.sleep(_INTERVAL)
    on_ready()


def _reason_to_wait(url: str, host: str) -> str | None:
    """Return why the server is not ready; None where it is."""
    request = Request(f"{url}/readyz", headers={"host": host})  # noqa: S310 - the URL of our own listener
    try:
        with _opener.open(request, timeout=_TIMEOUT):
            return None
    except HTTPError as error:
        return _reason(error.read(1 << 16))
    except OSError:
        return "it does not answer yet"


def _reason(text: bytes) -> str:
    try:
        body: Mapping[str, Any] = json.loads(text)
        return str(body.get("detail") or f"the store is {body['store']}")
    except (ValueError, KeyError, AttributeError):
        return "its store does not serve yet"
