"""The Authenticator protocol, which turns a credential into a principal, and its refusals."""

from __future__ import annotations

from typing import Protocol

from memx_sdk.protocol.errors import ProtocolError
from memx_server.domain.access import Principal


class Authenticator(Protocol):
    """Turns a credential into a principal.

    Both methods return the same object while nothing about the key has changed. A principal
    remembers which keys its scopes match, so a new object for each request would lose that.
    """

    async def authenticate(self, credential: str | None) -> Principal:
        """Return the principal of a request.

        Args:
            credential: The API key that the request presents; None where it presents none.

        Raises:
            ProtocolError: ``unauthenticated`` without a credential, ``forbidden`` for an API key that is
                unknown or void, ``unavailable`` when the source of the keys cannot be reached.
        """

    async def current(self, credential: str) -> Principal | None:
        """Return the principal that an API key stands for now, None where the key is void.

        Args:
            credential: The digest, as in ``Principal.credential``.

        Raises:
            ProtocolError: ``unavailable`` when the source of the keys cannot be reached.
        """


def missing_credential() -> ProtocolError:
    """Return the error for a request without an API key."""
    return ProtocolError(
        "unauthenticated",
        "no API key: send it as the header x-api-key, or as Authorization: Bearer <key>",
    )


def unknown_credential() -> ProtocolError:
    """Return the error for an API key that opens nothing; it does not say why."""
    return ProtocolError(
        "forbidden", "this API key is unknown, expired or revoked; check it, or ask for a new one"
    )
