"""The checks of ``memx doctor`` that need no API key: URL, network, clock and version."""

from __future__ import annotations

import json
import socket
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from importlib.metadata import entry_points
from ipaddress import ip_address
from typing import Any, Literal
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, getproxies, proxy_bypass, urlopen

from memx_sdk.config import shown_url
from memx_sdk.core.transport import ENTRY_POINTS

MOST_SKEW = 5.0
"""Seconds by which two clocks may differ before it is worth a word; the server tells whole ones."""

State = Literal["ok", "warning", "problem"]


@dataclass(frozen=True)
class Finding:
    """What one check found.

    Attributes:
        check: What was looked at.
        state: ``ok``, ``warning`` (works, but) or ``problem``.
        detail: What was found.
        remedy: What to do about it.
    """

    check: str
    state: State
    detail: str
    remedy: str = ""


@dataclass(frozen=True)
class Answer:
    """What a server answered to a plain GET.

    Attributes:
        status: The HTTP status.
        body: The JSON object, empty where it was none.
        skew: Seconds by which this clock is ahead of the server's; None where the answer had no date.
    """

    status: int
    body: Mapping[str, Any]
    skew: float | None


def ask(url: str, timeout: float) -> Answer | Finding:
    """GET ``url``; what keeps an answer from coming is a finding."""
    # The server's clock is compared with the middle of the exchange, by which half of the time on
    # the way cancels out.
    before = time.time()
    try:
        with urlopen(Request(url), timeout=timeout) as response:  # noqa: S310 - check_url
            status, headers, text = response.status, response.headers, response.read(1 << 20)
    except HTTPError as error:
        # Any status is an answer here; the caller decides what it means. Only so much is read, in
        # case that the address is that of something else.
        status, headers, text = error.code, error.headers, error.read(1 << 20)
    except (OSError, ValueError) as error:
        return _unreachable(url, error.reason if isinstance(error, URLError) else error)
    moment = (before + time.time()) / 2
    return Answer(status, _object(text), _skew(headers.get("Date"), moment))


def check_url(url: str) -> Finding:
    """Tell whether ``url`` can be a server's, and whether a key sent there is safe."""
    parts = urlsplit(url)
    # A transport in process: there is no host to look at, and nobody on the way.
    if parts.scheme in {found.name for found in entry_points(group=ENTRY_POINTS)}:
        return Finding("url", "ok", f"{url}, with no network between")
    if not is_network(url) or not parts.hostname:
        return Finding(
            "url",
            "problem",
            f"{url!r} is no address of a server",
            "set MEMX_BASE_URL or --url to something like http://127.0.0.1:8000",
        )
    # A warning and no problem: a network of containers may be trusted.
    if parts.scheme in ("http", "ws") and not _is_local(parts.hostname):
        return Finding(
            "url",
            "warning",
            f"{url}: plain HTTP to another machine shows the API key to everyone on the way",
            "put TLS in front of the server and use https://",
        )
    return Finding("url", "ok", url)


def is_network(url: str) -> bool:
    """Tell whether ``url`` leads to a server over the network."""
    return urlsplit(url).scheme in ("http", "https", "ws", "wss")


def over_http(url: str) -> str:
    """Return ``url`` with the scheme that plain requests need."""
    return f"http{url.removeprefix('ws')}" if url.startswith("ws") else url


def check_clock(skew: float | None) -> Finding | None:
    """Compare this clock with the server's; None where the server named no time."""
    if skew is None:
        return None
    # Order never depends on clocks, so even a wrong one only spoils the times shown.
    if abs(skew) <= MOST_SKEW:
        return Finding("clock", "ok", "agrees with the server's")
    direction = "ahead of" if skew > 0 else "behind"
    return Finding(
        "clock",
        "warning",
        f"this clock is {abs(skew):.0f} s {direction} the server's",
        "let both follow NTP; order is safe, but the times shown here are off",
    )


def check_version(own: str, server: str | None) -> Finding:
    """Compare the releases of the two sides."""
    if server == own:
        return Finding("version", "ok", f"memX {own} on both sides")
    if server is None:
        return Finding(
            "version", "warning", "the server does not tell its version", "update the server"
        )
    return Finding(
        "version",
        "warning",
        f"memx-sdk is {own} here, the server is {server}",
        f"pip install memx-sdk=={server}, or update the server",
    )


def _unreachable(url: str, error: object) -> Finding:
    parts = urlsplit(url)
    if (proxy := _proxy_of(url)) is not None:
        # Nothing has reached the server's own address then, so that it is not to blame.
        return Finding(
            "server",
            "problem",
            f"the proxy {proxy} on the way to {parts.hostname} does not answer: {error}",
            f"correct or unset {parts.scheme.upper()}_PROXY, or name {parts.hostname} in NO_PROXY",
        )
    where = f"{parts.hostname}:{parts.port or {'https': 443}.get(parts.scheme, 80)}"
    # The specific kinds first: the error of a certificate is one of TLS, and all are OSErrors.
    match error:
        case socket.gaierror():
            what, remedy = f"the name {parts.hostname!r} cannot be resolved", "check the URL's host"
        case ssl.SSLCertVerificationError():
            what = f"the certificate of {where} is not trusted: {error.verify_message}"
            remedy = "renew it, or let SSL_CERT_FILE name the authority that signed it"
        case ssl.SSLError():
            what = f"{where} does not speak TLS ({error.reason or error})"
            remedy = "use http:// if the server has no certificate"
        case ConnectionRefusedError():
            what = f"nothing listens at {where}"
            remedy = "start a server (`memx dev`), or correct MEMX_BASE_URL or --url"
        case TimeoutError():
            what = f"{where} does not answer in time"
            remedy = "check the address, firewalls and proxies on the way"
        case _:
            what = f"{where} cannot be reached: {error}"
            remedy = "check the address, and HTTP_PROXY/NO_PROXY if they are set"
    return Finding("server", "problem", what, remedy)


def _proxy_of(url: str) -> str | None:
    """Return the proxy that the environment names for a URL, without its password."""
    parts = urlsplit(url)
    proxy = getproxies().get(parts.scheme)
    if proxy is None or proxy_bypass(parts.hostname or ""):
        return None
    return shown_url(proxy)


def _object(text: bytes) -> Mapping[str, Any]:
    try:
        body = json.loads(text)
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _skew(date: str | None, moment: float) -> float | None:
    if date is None:
        return None
    try:
        # The header has whole seconds, so the middle of the second is the best guess.
        return moment - (parsedate_to_datetime(date).timestamp() + 0.5)
    except ValueError:
        return None


def _is_local(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
