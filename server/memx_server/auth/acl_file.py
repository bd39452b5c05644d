"""API keys from a local file, re-read when it changes."""

from __future__ import annotations

import hashlib
import logging
import re
import time
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from memx_sdk.protocol.errors import ProtocolError
from memx_sdk.protocol.keys import validate_pattern
from memx_server.auth.base import missing_credential, unknown_credential
from memx_server.domain.access import DEFAULT_SPACE, Principal, Scopes
from memx_server.domain.values import check_exact

_log = logging.getLogger("memx_server.auth")

_STAT_INTERVAL = 1.0
"""Seconds between two looks at the file."""

_STORED_DIGEST = re.compile(r"sha256:([0-9a-fA-F]{64})")


class Grant(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """What one API key may do, as the file says it.

    Attributes:
        agent: The principal's name.
        space: The space whose keys it sees.
        read: Patterns of keys that it may read.
        write: Patterns of keys that it may write.
        admin: Patterns for which it may set schemas; left out, ``write`` stands for it.
        expires_at: Unix seconds, or a time in ISO 8601 (UTC where it names no zone).
    """

    agent: str | None = None
    space: str = DEFAULT_SPACE
    read: tuple[str, ...] = ()
    write: tuple[str, ...] = ()
    admin: tuple[str, ...] | None = None
    expires_at: float | datetime | None = None


_decode = msgspec.json.Decoder(dict[str, tuple[str, ...] | Grant]).decode


class AclFile:
    """Authenticates against a file of API keys.

    A key stands there in plain text or as ``sha256:<hex>``; keys are looked up by their digest, so
    that the time it takes tells nothing about them. A file that cannot be used leaves the last good
    one in force, and the log says why.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._grants: dict[bytes, Grant] = {}
        self._principals: dict[bytes, Principal] = {}
        self._seen: tuple[int, int, int] | None = None
        self._look_again = 0.0

    async def authenticate(self, credential: str | None) -> Principal:
        """Return who ``credential`` stands for."""
        if credential is None:
            raise missing_credential()
        principal = self._find(hashlib.sha256(credential.encode()).digest())
        if principal is None:
            raise unknown_credential()
        return principal

    async def current(self, credential: str) -> Principal | None:
        """Return who the API key of this digest stands for now."""
        return self._find(bytes.fromhex(credential))

    def _find(self, digest: bytes) -> Principal | None:
        if time.monotonic() >= self._look_again:
            self._refresh()
        principal = self._principals.get(digest) or self._admit(digest)
        if principal is None or principal.expires_at is None:
            return principal
        return principal if principal.expires_at > time.time() else None

    def _admit(self, digest: bytes) -> Principal | None:
        grant = self._grants.get(digest)
        if grant is None:
            return None
        principal = self._principals[digest] = _principal(digest, grant)
        return principal

    def _refresh(self) -> None:
        self._look_again = time.monotonic() + _STAT_INTERVAL
        try:
            state = self._path.stat()
            seen = (state.st_mtime_ns, state.st_size, state.st_ino)
            if seen == self._seen:
                return
            self._seen = seen
            grants = read_grants(self._path.read_bytes())
        except (OSError, ValueError, ProtocolError) as error:
            self._complain(error)
            return
        self._principals = {
            digest: principal
            for digest, principal in self._principals.items()
            if grants.get(digest) == self._grants.get(digest)
        }
        self._grants = grants
        _log.info("%s: %d API keys", self._path, len(grants))

    def _complain(self, error: Exception) -> None:
        if isinstance(error, OSError):
            if self._seen == (0, 0, 0):
                return
            self._seen = (0, 0, 0)
        standing = "no API key opens anything until it can be"
        if self._grants:
            standing = f"the {len(self._grants)} API keys read before stay in force"
        _log.error("%s cannot be used (%s): %s", self._path, error, standing)


def read_grants(text: bytes) -> dict[bytes, Grant]:
    """Read the text of an ACL file into grants by the SHA-256 digest of their key.

    Raises:
        ValueError: It is not of the form that memX reads; no message shows a key.
        ProtocolError: It holds a malformed pattern.
    """
    held_by_key = _decode(text)
    try:
        check_exact(text)
    except ProtocolError:  # its detail may show a key
        raise ValueError("an API key, or a member of its grant, stands there twice") from None
    grants: dict[bytes, Grant] = {}
    for key, held in held_by_key.items():
        digest = digest_of(key)
        if digest in grants:
            raise ValueError(f"{label_of(digest)} stands there twice")
        grants[digest] = _checked(
            held if isinstance(held, Grant) else Grant(read=held, write=held, admin=held)
        )
    return grants


def is_hashed(stored: str) -> bool:
    """Tell whether a key is stored in a form from which nobody can tell it."""
    return _STORED_DIGEST.fullmatch(stored) is not None


def digest_of(stored: str) -> bytes:
    """Return the SHA-256 digest of a key as a file stores it: plain, or ``sha256:<hex>``."""
    match = _STORED_DIGEST.fullmatch(stored)
    return bytes.fromhex(match[1]) if match else hashlib.sha256(stored.encode()).digest()


def label_of(digest: bytes) -> str:
    """Name a key that was given no name."""
    return f"key-{digest.hex()[:8]}"


def _checked(grant: Grant) -> Grant:
    for pattern in (*grant.read, *grant.write, *(grant.admin or ())):
        validate_pattern(pattern)
    for name in (grant.agent, grant.space):
        if name is not None and not (0 < len(name) <= 128 and name.isprintable()):
            raise ValueError("an agent or space takes 1 to 128 printable characters")
    return grant


def _principal(digest: bytes, grant: Grant) -> Principal:
    expires_at = grant.expires_at
    if isinstance(expires_at, datetime):
        zoned = expires_at if expires_at.tzinfo else expires_at.replace(tzinfo=UTC)
        expires_at = zoned.timestamp()
    return Principal(
        name=grant.agent or label_of(digest),
        scopes=Scopes.of(grant.read, grant.write, grant.admin),
        space=grant.space,
        credential=digest.hex(),
        expires_at=expires_at,
    )
