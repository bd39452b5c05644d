"""The grant of one API key: its form in every source, its checks, and the principal that it makes."""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime

import msgspec

from memx_sdk.protocol.keys import validate_pattern
from memx_server.domain.access import DEFAULT_SPACE, Principal, Scopes

_STORED_DIGEST = re.compile(r"sha256:([0-9a-fA-F]{64})")
_LONGEST_NAME = 128
_EARLIEST, _LATEST = (each.replace(tzinfo=UTC) for each in (datetime.min, datetime.max))  # noqa: DTZ901 - they get one


class Grant(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The rights of one API key, in the form of an entry of the ACL file.

    Attributes:
        agent: The principal's name; None for the label of the key.
        space: The space whose keys it sees.
        read: Patterns of keys that it may read.
        write: Patterns of keys that it may write.
        admin: Patterns for which it may set schemas; None: ``write`` stands for it.
        expires_at: Unix seconds, or a time in ISO 8601 (UTC where it names no zone).
    """

    agent: str | None = None
    space: str = DEFAULT_SPACE
    read: tuple[str, ...] = ()
    write: tuple[str, ...] = ()
    admin: tuple[str, ...] | None = None
    expires_at: float | datetime | None = None

    @property
    def expiry(self) -> datetime | None:
        """The moment from which the key is void, with its time zone."""
        if self.expires_at is None:
            return None
        if isinstance(self.expires_at, datetime):
            return (
                self.expires_at if self.expires_at.tzinfo else self.expires_at.replace(tzinfo=UTC)
            )
        try:
            return datetime.fromtimestamp(self.expires_at, UTC)
        except (OverflowError, ValueError, OSError):
            # The time lies beyond the calendar: the key never expires, or was never good.
            return _LATEST if self.expires_at > 0 else _EARLIEST

    @property
    def has_expired(self) -> bool:
        """Whether the key is void by now."""
        return self.expiry is not None and self.expiry <= datetime.now(UTC)

    def check(self) -> Grant:
        """Return this grant if a server can use it.

        Names go into entries, logs and terminals. One that holds a line break, a control character or a mark
        that turns the text around could pass for something else there. An agent's name is the first half of
        ``principal/agent``, so that a slash in it could name another principal's agent.

        Raises:
            ValueError: The name of the agent or the space cannot be used; the message is printable.
            ProtocolError: A pattern is malformed.
        """
        for pattern in (*self.read, *self.write, *(self.admin or ())):
            validate_pattern(pattern)
        _check_name("agent", self.agent)
        _check_name("space", self.space)
        if self.agent and "/" in self.agent:
            raise ValueError(
                f"the agent {self.agent!r} holds '/', which separates a principal from its agent"
            )
        return self

    def principal(self, digest: bytes) -> Principal:
        """Make the principal that a request with the key of this SHA-256 digest acts as."""
        expiry = self.expiry
        return Principal(
            name=self.agent or label_of(digest),
            scopes=Scopes.of(self.read, self.write, self.admin),
            space=self.space,
            credential=digest.hex(),
            expires_at=expiry.timestamp() if expiry else None,
        )


def _check_name(kind: str, name: str | None) -> None:
    if name is None:
        return
    if not (0 < len(name) <= _LONGEST_NAME and name.isprintable()) or name != name.strip():
        raise ValueError(
            f"the {kind} {name[:_LONGEST_NAME]!r} cannot be used: it takes 1 to {_LONGEST_NAME} printable "
            "characters, and no space at either end"
        )


def is_hashed(stored: str) -> bool:
    """Tell whether a stored key is a digest, from which nobody can find the key."""
    return _STORED_DIGEST.fullmatch(stored) is not None


OAUTH_ENTRY = "oauth:"
"""Begins an entry that is no API key: whom a token of the configured issuer names."""

_OAUTH_CREDENTIAL = "oauth\u2192"


def oauth_credential(subject: str) -> str:
    """Return the credential by which the server itself presents whom a checked token names.

    No request can present it: what comes over a network is decoded byte by byte, and no byte is an arrow. So
    ``oauth:alice`` in ``x-api-key`` opens nothing.

    Args:
        subject: ``oauth:<sub>``.
    """
    return f"{_OAUTH_CREDENTIAL}{subject.removeprefix(OAUTH_ENTRY)}"


def digest_of(stored: str) -> bytes:
    """Return the SHA-256 digest of a stored key: plain text, ``sha256:<hex>``, or ``oauth:<sub>``."""
    if stored.startswith(OAUTH_ENTRY):
        return hashlib.sha256(oauth_credential(stored).encode()).digest()
    match = _STORED_DIGEST.fullmatch(stored)
    return bytes.fromhex(match[1]) if match else hashlib.sha256(stored.encode()).digest()


def label_of(digest: bytes) -> str:
    """Return the label that stands for a key where the key itself must not be shown."""
    return f"key-{digest.hex()[:8]}"
