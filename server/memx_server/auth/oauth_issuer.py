"""The public keys of an OAuth issuer: fetched in the background, kept, and renewed."""

from __future__ import annotations

import asyncio
import json
import logging
import time
import urllib.request
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from http.client import HTTPException
from typing import Any, Final
from urllib.parse import urlsplit

import jwt
from jwt.algorithms import RSAAlgorithm

ALGORITHMS: Final = ("RS256", "ES256")
"""What a token may be signed with. Fixed here: a token that could choose could choose a weaker one (RFC 8725, 3.1)."""

_LEAST_RSA_BITS: Final = 2048
_MOST_KEYS: Final = 64
_MOST_BYTES: Final = 256 * 1024
_TIMEOUT: Final = 5.0
"""Seconds that the issuer may let a read wait."""
_FETCH_SECONDS: Final = 15.0
"""Seconds that one document may take; a sender of single bytes ends here."""

_RENEW: Final = 300.0
"""Seconds between two fetches: how long a key that the issuer has withdrawn stays good at the most."""
_RETRY: Final = 5.0
_SOONEST: Final = 30.0
"""Seconds between two fetches for keys that were not known: tokens with made-up names of keys cost no more."""
_LONGEST_KEPT: Final = 24 * 3600.0
"""Seconds for which keys stay good while the issuer cannot be reached."""

_log = logging.getLogger("memx_server.auth")


class IssuerKeys:
    """Keeps the keys of one issuer. No request waits for a fetch.

    Args:
        issuer: Its URL, as ``iss`` of its tokens has it.
    """

    def __init__(self, issuer: str) -> None:
        self._issuer = issuer
        self._keys: dict[tuple[str, str], jwt.PyJWK] = {}
        self._fetched_at: float | None = None
        self._wanted = asyncio.Event()
        self._away = False

    @property
    def known(self) -> bool:
        """Whether there are keys to check a token with."""
        fetched = self._fetched_at
        return fetched is not None and time.monotonic() - fetched < _LONGEST_KEPT

    def find(self, algorithm: str, name: str | None) -> jwt.PyJWK | None:
        """Find the key of a token's header; one that is not known is asked for in the background.

        Args:
            algorithm: One of ``ALGORITHMS``.
            name: The ``kid``; without one the issuer's only key of the algorithm is meant.
        """
        if name is not None:
            found = self._keys.get((algorithm, name))
        else:
            of_algorithm = [key for (kind, _), key in self._keys.items() if kind == algorithm]
            found = of_algorithm[0] if len(of_algorithm) == 1 else None
        if found is None:
            self._wanted.set()
        return found

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Fetch the keys now, and again for as long as the block runs."""
        task = asyncio.create_task(self._renew())
        try:
            yield
        finally:
            task.cancel()
            # A fetch that is under way ends by its own deadline, in its thread.
            await asyncio.gather(task, return_exceptions=True)

    async def _renew(self) -> None:
        while True:
            pause = _RENEW if await self._fetch() else _RETRY
            begun = time.monotonic()
            self._wanted.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._wanted.wait()
                    await asyncio.sleep(max(0.0, begun + _SOONEST - time.monotonic()))

    async def _fetch(self) -> bool:
        try:
            keys = await asyncio.to_thread(fetch_keys, self._issuer)
        except (OSError, HTTPException, ValueError) as error:
            if not self._away:
                _log.warning("the keys of %s cannot be fetched: %s", self._issuer, error)
            self._away = True
            return False
        # All at once: what the issuer no longer names is no longer good.
        self._keys, self._fetched_at, self._away = keys, time.monotonic(), False
        return True


def fetch_keys(issuer: str) -> dict[tuple[str, str], jwt.PyJWK]:
    """Fetch the keys that an issuer names, by algorithm and name; blocks.

    Raises:
        OSError: It cannot be reached, or answers with an error or a redirection.
        HTTPException: It speaks no HTTP.
        ValueError: What it answers is not what RFC 8414 and RFC 7517 say.
    """
    metadata = _metadata(issuer)
    # RFC 8414, section 3.3: or another issuer of the same host could stand in for this one.
    if metadata.get("issuer") != issuer:
        raise ValueError(f"its metadata is of another issuer, {metadata.get('issuer')!r}")
    address = metadata.get("jwks_uri")
    if not isinstance(address, str) or not is_safe(address):
        raise ValueError("its metadata names no jwks_uri that begins with https://")
    listed = _read(address).get("keys")
    if not isinstance(listed, list):
        raise ValueError("what jwks_uri names is no set of keys")
    found: dict[tuple[str, str], jwt.PyJWK] = {}
    for number, each in enumerate(listed[:_MOST_KEYS]):
        if isinstance(each, dict) and (key := _usable(each)) is not None:
            found[key.algorithm_name, str(each.get("kid", number))] = key
    if not found:
        raise ValueError(f"it has no key for {' or '.join(ALGORITHMS)}")
    return found


def is_safe(address: str) -> bool:
    """Whether what comes from an address is whose it says: TLS, or this very machine (for tests and a proxy)."""
    try:
        parts = urlsplit(address)
    except ValueError:
        return False
    loopback = parts.hostname in ("localhost", "127.0.0.1", "::1")
    return bool(parts.hostname) and (
        parts.scheme == "https" or (parts.scheme == "http" and loopback)
    )


def _metadata(issuer: str) -> Mapping[str, Any]:
    parts = urlsplit(issuer)
    path = parts.path.rstrip("/")
    root = f"{parts.scheme}://{parts.netloc}"
    # OAuth puts the well-known name before an issuer's path (RFC 8414, section 3.1), OpenID Connect behind it.
    try:
        return _read(f"{root}/.well-known/oauth-authorization-server{path}")
    except (OSError, ValueError):
        return _read(f"{root}{path}/.well-known/openid-configuration")


class _NoRedirections(urllib.request.HTTPRedirectHandler):
    """Follows none: an issuer that could send us elsewhere could send us to this network's own servers."""

    def redirect_request(self, *_arguments: Any) -> None:
        """Refuse."""


def _read(address: str) -> Mapping[str, Any]:
    deadline = time.monotonic() + _FETCH_SECONDS
    opener = urllib.request.build_opener(_NoRedirections)
    text = b""
    with opener.open(address, timeout=_TIMEOUT) as response:
        while piece := response.read1(65536):
            text += piece
            if len(text) > _MOST_BYTES:
                raise ValueError(f"{address} answers with more than {_MOST_BYTES} bytes")
            if time.monotonic() > deadline:
                raise TimeoutError(f"{address} takes more than {_FETCH_SECONDS:g} seconds")
    try:
        found = json.loads(text)
    except RecursionError:
        found = None
    if not isinstance(found, dict):
        raise ValueError(f"{address} answers with no JSON object")
    return found


def _usable(described: dict[str, Any]) -> jwt.PyJWK | None:
    """Make a key of its description; None where it is for something else, or too weak."""
    if described.get("use", "sig") != "sig":
        return None
    try:
        key = jwt.PyJWK(described)
    except (jwt.PyJWTError, ValueError, TypeError):
        return None
    if key.algorithm_name not in ALGORITHMS:
        return None
    if isinstance(key.Algorithm, RSAAlgorithm) and key.key.key_size < _LEAST_RSA_BITS:
        return None
    return key
