"""The headers by which a request names its caller, read and checked."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, get_args

from memx_sdk.protocol.durability import Durability
from memx_sdk.protocol.errors import ProtocolError
from memx_sdk.protocol.idempotency import LONGEST_KEY

AGENT_LENGTH = 64


class RequestCredentials(NamedTuple):
    """The headers of a request that memX understands; None for each that is not there."""

    credential: str | None
    agent: str | None
    idempotency_key: str | None
    content_type: bytes | None
    content_length: bytes | None
    durability: Durability | None = None


def read_headers(headers: Iterable[tuple[bytes, bytes]]) -> RequestCredentials:
    """Read the headers that memX understands; their names are in lower case.

    Raises:
        ProtocolError: ``invalid_request`` for a malformed agent or idempotency key.
    """
    durability: Durability | None = None
    credential = bearer = agent = idempotency_key = content_type = content_length = None
    for name, value in headers:
        if name == b"x-api-key":
            credential = value
        elif name == b"authorization":
            # Another scheme is no key of memX's, and no fault either: a proxy may use the header for itself.
            scheme, _, token = value.partition(b" ")
            bearer = token.strip() if scheme.lower() == b"bearer" else None
        elif name == b"x-memx-agent":
            agent = value
        elif name == b"idempotency-key":
            idempotency_key = value
        elif name == b"x-memx-durability":
            durability = read_durability(value.decode("latin-1"))
        elif name == b"content-type":
            content_type = value
        elif name == b"content-length":
            content_length = value
    # Both may come: some clients always send a Bearer token. The header of memX's own decides.
    credential = credential or bearer
    return RequestCredentials(
        # No byte fails to decode as latin-1; a key with others than ASCII is simply unknown.
        credential.decode("latin-1") if credential else None,
        None if agent is None else read_agent(agent),
        None if idempotency_key is None else read_idempotency_key(idempotency_key),
        content_type,
        content_length,
        durability,
    )


def read_durability(value: str) -> Durability:
    """Read how safe a write is to be when it is answered.

    Raises:
        ProtocolError: ``invalid_request`` unless it is one of those that there are.
    """
    for each in get_args(Durability):
        if value == each:
            found: Durability = each
            return found
    raise ProtocolError(
        "invalid_request",
        f"durability takes {', '.join(get_args(Durability))}; not {value[:64]!r}",
        field="durability",
    )


def read_agent(value: bytes) -> str:
    """Read the name by which an agent calls itself.

    Raises:
        ProtocolError: ``invalid_request`` unless it is 1 to 64 printable characters.
    """
    return _printable(value, "x-memx-agent", AGENT_LENGTH)


def read_idempotency_key(value: bytes) -> str:
    """Read the token that names a write.

    Raises:
        ProtocolError: ``invalid_request`` unless it is 1 to 255 printable characters.
    """
    return _printable(value, "idempotency-key", LONGEST_KEY)


def _printable(value: bytes, field: str, longest: int) -> str:
    try:
        text = value.decode()
    except UnicodeDecodeError:
        text = ""
    if not (0 < len(text) <= longest and text.isprintable()):
        raise ProtocolError(
            "invalid_request", f"{field} takes 1 to {longest} printable characters", field=field
        )
    return text
