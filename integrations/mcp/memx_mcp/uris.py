"""Keys as resource URIs: ``memx://key/<percent-encoded key>``."""

from __future__ import annotations

from urllib.parse import quote, unquote

_PREFIX = "memx://key/"

URI_TEMPLATE = _PREFIX + "{key}"
"""RFC 6570: simple expansion, so a client percent-encodes the key."""


def uri_of(key: str) -> str:
    """Write the URI of ``key``."""
    return _PREFIX + quote(key, safe="")


def key_of(uri: str) -> str | None:
    """Read the key out of a URI, however much of it the client encoded; None if it is not one of ours."""
    if not uri.startswith(_PREFIX) or uri == _PREFIX:
        return None
    try:
        return unquote(uri[len(_PREFIX) :], errors="strict")
    except UnicodeDecodeError:
        return None
