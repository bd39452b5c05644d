"""The KeyStore protocol, which adds, lists and revokes API keys, and what its commands share."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

from memx_server.auth.grants import Grant, digest_of, label_of

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_DURATION = re.compile(r"(\d{1,9})([smhdw])")


class KeyStoreUnavailable(Exception):  # noqa: N818 - named as StoreUnavailable is
    """The source of the API keys cannot be reached; the message says why and shows no key."""


@dataclass(frozen=True)
class StoredKey:
    """An API key in the form in which it is stored.

    Attributes:
        stored: ``sha256:<hex>``, or the key in plain text. It must not be shown.
        grant: The rights of the key.
        active: Whether it has not been revoked.
    """

    stored: str
    grant: Grant
    active: bool = True

    @property
    def label(self) -> str:
        """The name of the key where the key must not be shown."""
        return label_of(digest_of(self.stored))

    @property
    def state(self) -> str:
        """Whether the key opens anything at the moment: ``active``, ``expired`` or ``revoked``."""
        if not self.active:
            return "revoked"
        return "expired" if self.grant.has_expired else "active"


class KeyStore(Protocol):
    """The place where the API keys of a server are stored."""

    def add(self, stored: str, grant: Grant) -> None:
        """Store another key.

        Args:
            stored: The form in which the key is stored, from ``stored_form``.
            grant: The rights of the key.

        Raises:
            OSError: A file cannot be read or written.
            ValueError: The store holds what memX does not understand, or another process holds it.
            KeyStoreUnavailable: The store cannot be reached, or refuses the key.
        """

    def keys(self) -> list[StoredKey]:
        """Return all keys; the errors are those of ``add``."""

    def revoke(self, stored: str) -> None:
        """Make a key void; the errors are those of ``add``."""


def new_key() -> str:
    """Return a new API key with 256 random bits."""
    return f"memx_{secrets.token_urlsafe(32)}"


def stored_form(key: str) -> str:
    """Return the form in which a key is stored, from which nobody can find the key."""
    return f"sha256:{hashlib.sha256(key.encode()).hexdigest()}"


def find_keys(keys: Sequence[StoredKey], name: str) -> list[StoredKey]:
    """Return the keys that a label, an agent's name or the API key itself names."""
    digest = digest_of(name)
    by_key = [each for each in keys if digest_of(each.stored) == digest]
    return by_key or [each for each in keys if name in (each.label, each.grant.agent)]


def parse_expiry(text: str) -> datetime:
    """Read a duration from now (``90s``, ``15m``, ``12h``, ``30d``, ``8w``), or a time in ISO 8601.

    Returns:
        The moment, with its time zone.

    Raises:
        ValueError: The text is neither, or the moment lies in the past.
    """
    now = datetime.now(UTC)
    try:
        if match := _DURATION.fullmatch(text):
            return now + timedelta(seconds=int(match[1]) * _SECONDS[match[2]])
        moment = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise ValueError(
            f"{text!r} is neither a duration (12h, 30d) nor a time (2030-01-31T12:00:00Z)"
        ) from None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    if moment <= now:
        raise ValueError(f"{text!r} lies in the past")
    return moment
