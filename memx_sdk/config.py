"""The settings of a context: its arguments, else the environment, else the defaults."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final
from urllib.parse import SplitResult, urlsplit

from memx_sdk.core.transport import TransportOptions

DEFAULT_BASE_URL: Final = "http://127.0.0.1:8000"
"""The address at which ``memx dev`` and ``memx serve`` listen."""

_LONGEST_AGENT_NAME: Final = 64


def options_from(
    api_key: str | None = None,
    base_url: str | None = None,
    *,
    agent: str | None = None,
    timeout: float = 10.0,
    environ: Mapping[str, str] = os.environ,
) -> TransportOptions:
    """Settle what a context tells its transport.

    Args:
        api_key: The credential; None takes ``MEMX_API_KEY``, if there is one.
        base_url: The server; None takes ``MEMX_BASE_URL``, or the local default.
        agent: The name that this writer calls itself, 1 to 64 printable characters.
        timeout: Seconds to wait for an answer.
        environ: The environment.

    Raises:
        ValueError: One of them cannot be; the API key is not repeated in the message.
    """
    # Written so that NaN, which compares with nothing, is refused as well.
    if not timeout > 0:
        raise ValueError(f"timeout must be a number of seconds above 0, not {timeout!r}")
    if agent is not None and not (0 < len(agent) <= _LONGEST_AGENT_NAME and agent.isprintable()):
        raise ValueError(
            f"agent must be 1 to {_LONGEST_AGENT_NAME} printable characters, not {agent!r}"
        )
    return TransportOptions(
        # An empty variable counts as none: scripts set them so to switch one off.
        base_url=_checked_url(base_url or environ.get("MEMX_BASE_URL") or DEFAULT_BASE_URL),
        api_key=_checked_key(api_key or environ.get("MEMX_API_KEY")),
        agent=agent,
        timeout=timeout,
    )


def shown_url(url: str) -> str:
    """Return ``url`` without what may be confidential in it: user, password and query."""
    parts = urlsplit(url)
    # Errors and logs show URLs by this function alone, and both get copied into reports.
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def _checked_key(api_key: str | None) -> str | None:
    # Keys come from files and pastes with a line break at the end, which no header may hold.
    key = (api_key or "").strip()
    # Without the key in the message: errors get printed.
    if not key.isprintable():
        raise ValueError("the API key holds a line break or another control character")
    return key or None


def _checked_url(base_url: str) -> str:
    # Paths are put behind it, and begin with a slash.
    url = base_url.strip().rstrip("/")
    parts = urlsplit(url)
    # An unknown scheme is let through: an installed transport may be of that name, and only
    # `open_transport` knows.
    if not parts.scheme or (parts.scheme in _NETWORK_SCHEMES and not _has_host(parts)):
        raise ValueError(
            f"base_url must be like {DEFAULT_BASE_URL} or embedded:/path, not {shown_url(url)!r}"
        )
    return url


def _has_host(parts: SplitResult) -> bool:
    try:
        return bool(parts.hostname) and parts.port != 0
    except ValueError:  # the port is no number, or one that no computer has
        return False


_NETWORK_SCHEMES: Final = frozenset({"http", "https", "ws", "wss"})
