"""The Authenticator protocol: who a credential stands for."""

from __future__ import annotations

from typing import Protocol

from memx_sdk.protocol.errors import ProtocolError
from memx_server.domain.access import Principal


class Authenticator(Protocol):
    """Turns a credential into a principal."""

    async def authenticate(self, credential: str | None) -> Principal:
        """Return who ``credential`` (an API key; None where there was none) stands for.

        The same object comes back while nothing about the key has changed, so that what it
        remembers about keys and scopes lives on.

        Raises:
            ProtocolError: ``unauthenticated`` without a credential, ``forbidden`` for one that is
                unknown or void, ``unavailable`` when nobody can tell at the moment.
        """

    async def current(self, credential: str) -> Principal | None:
        """Return who an API key stands for now, None where it is void.

        Args:
            credential: The digest, as in ``Principal.credential``.

        Raises:
            ProtocolError: ``unavailable`` when nobody can tell at the moment.
        """


def missing_credential() -> ProtocolError:
    """The error for a request that brings no API key."""
    return ProtocolError(
        "unauthenticated",
        "no API key: send it as the header x-api-key, or as Authorization: Bearer <key>",
    )


def unknown_credential() -> ProtocolError:
    """The error for an API key that opens nothing; it does not say why."""
    return ProtocolError(
        "forbidden", "this API key is unknown, expired or revoked; check it, or ask for a new one"
    )
