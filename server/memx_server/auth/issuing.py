"""Making API keys, listing and revoking them, wherever they are kept."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

from memx_server.auth.acl_file import digest_of, label_of

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_DURATION = re.compile(r"(\d{1,9})([smhdw])")


@dataclass(frozen=True)
class KeyGrant:
    """What an API key may do.

    Attributes:
        agent: The principal's name.
        space: The space whose keys it sees; None for the default one.
        read: Patterns of keys that it may read.
        write: Patterns of keys that it may write.
        admin: Patterns for which it may set schemas; None: ``write`` stands for it.
        expires_at: When it becomes void.
    """

    agent: str | None
    space: str | None
    read: Sequence[str]
    write: Sequence[str]
    admin: Sequence[str] | None
    expires_at: datetime | None


@dataclass(frozen=True)
class KeptKey:
    """An API key as it is kept.

    Attributes:
        stored: As it stands there: ``sha256:<hex>``, or in plain text. Not to be shown.
        grant: What it may do.
        active: Whether it has not been revoked.
    """

    stored: str
    grant: KeyGrant
    active: bool = True

    @property
    def label(self) -> str:
        """What it is called where it must not be shown."""
        return label_of(digest_of(self.stored))

    @property
    def state(self) -> str:
        """Whether it opens anything at the moment, in a word."""
        if not self.active:
            return "revoked"
        expires_at = self.grant.expires_at
        return "expired" if expires_at is not None and expires_at <= datetime.now(UTC) else "active"


class KeyKeeper(Protocol):
    """Where API keys are kept."""

    def add(self, stored: str, grant: KeyGrant) -> None:
        """Keep another key."""

    def kept(self) -> list[KeptKey]:
        """List all."""

    def revoke(self, stored: str) -> None:
        """Let a key open nothing any more."""


def new_key() -> str:
    """Make an API key that nobody can guess (256 bits)."""
    return f"memx_{secrets.token_urlsafe(32)}"


def stored_form(key: str) -> str:
    """Return what is kept of a key, from which nobody can tell it."""
    return f"sha256:{hashlib.sha256(key.encode()).hexdigest()}"


def find_kept(kept: Sequence[KeptKey], name: str) -> list[KeptKey]:
    """Find the keys that a label, an agent's name or the key itself names."""
    digest = digest_of(name)
    by_key = [each for each in kept if digest_of(each.stored) == digest]
    return by_key or [each for each in kept if name in (each.label, each.grant.agent)]


def moment(text: str) -> datetime:
    """Read a duration from now (``90s``, ``15m``, ``12h``, ``30d``, ``8w``), or a time in ISO 8601.

    Raises:
        ValueError: It is neither, or lies in the past.
    """
    now = datetime.now(UTC)
    try:
        if match := _DURATION.fullmatch(text):
            return now + timedelta(seconds=int(match[1]) * _SECONDS[match[2]])
        found = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise ValueError(
            f"{text!r} is neither a duration (12h, 30d) nor a time (2030-01-31T12:00:00Z)"
        ) from None
    found = found if found.tzinfo else found.replace(tzinfo=UTC)
    if found <= now:
        raise ValueError(f"{text!r} lies in the past")
    return found
