"""Rows of the table ``api_keys`` as principals."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import msgspec

from memx_sdk.protocol.errors import ProtocolError
from memx_sdk.protocol.keys import validate_pattern
from memx_server.domain.access import DEFAULT_SPACE, Principal, Scopes

COLUMNS = "*"
"""All: older tables lack ``agent`` and ``expires_at``, and asking for a missing column is an error."""

_PREFIX_CHARACTERS = 8


class RowScopes(msgspec.Struct):
    """Patterns by verb."""

    read: tuple[str, ...] = ()
    write: tuple[str, ...] = ()
    admin: tuple[str, ...] | None = None


class Row(msgspec.Struct):
    """What memX reads of a row, the key itself left out."""

    active: bool = False
    scopes: RowScopes | None = None
    user_id: str | None = None
    agent: str | None = None
    expires_at: datetime | None = None


def principal_from_row(digest: str, row: dict[str, Any]) -> Principal | None:
    """Make a principal of a row; None for a key that is not active.

    The first memX's dashboard put the first characters of the user's id and a colon before every pattern, to keep
    users apart in one space. A user has a space of their own here, so that prefix is taken off, once.

    Raises:
        ValueError: The row holds what cannot be a grant; nothing of the key is shown.
    """
    try:
        held = msgspec.convert(row, Row)
        if not held.active:
            return None
        scopes = held.scopes or RowScopes()
        admin = None if scopes.admin is None else _patterns(scopes.admin, held.user_id)
        return Principal(
            name=held.agent or f"key-{digest[:8]}",
            scopes=Scopes.of(
                _patterns(scopes.read, held.user_id), _patterns(scopes.write, held.user_id), admin
            ),
            space=held.user_id or DEFAULT_SPACE,
            credential=digest,
            expires_at=_seconds(held.expires_at),
        )
    except (msgspec.ValidationError, ProtocolError) as error:
        raise ValueError(str(error)) from None


def _patterns(given: Iterable[str], user_id: str | None) -> list[str]:
    prefix = f"{user_id[:_PREFIX_CHARACTERS]}:" if user_id else None
    found = [p.removeprefix(prefix) if prefix else p for p in given]
    for pattern in found:
        validate_pattern(pattern)
    return found


def _seconds(moment: datetime | None) -> float | None:
    if moment is None:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
