"""The headers by which a request names its caller, read and checked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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


KNOWN_HEAD = "memx.known_head"
"""In the ``state`` of a scope: the ``KnownHead`` of the connection; only memX's own protocol puts one there."""


class KnownHead:
    """The head of the last request of a connection that was let in, and what it said.

    A client sends the same head with each request of a connection, but for the length of its body. What was read in it
    and checked about it then holds again: only the API key has to be looked up anew, since it may have been revoked.

    Attributes:
        credentials: What the head said.
        content_length: The length of the present request's body, as its head tells it.
        is_forwarded: Whether a proxy says in it for whom it asks.
    """

    __slots__ = ("_headers", "_length_at", "content_length", "credentials", "is_forwarded")

    def __init__(self) -> None:
        self._headers: Sequence[tuple[bytes, bytes]] | None = None
        self._length_at = -1
        self.credentials = RequestCredentials(None, None, None, None, None)
        self.content_length: bytes | None = None
        self.is_forwarded = False

    def keep(self, headers: Sequence[tuple[bytes, bytes]], credentials: RequestCredentials) -> None:
        """Keep a head that names one host, and whose caller may ask from where it asks."""
        self._headers = headers
        self._length_at = -1
        self.credentials = credentials
        self.is_forwarded = False
        for at, (name, _) in enumerate(headers):
            if name == b"content-length":
                self._length_at = at
            elif name in FORWARDED:
                self.is_forwarded = True

    def matches(self, headers: Sequence[tuple[bytes, bytes]]) -> bool:
        """Tell whether a head is the one that is kept, whatever the length of its body."""
        kept, at = self._headers, self._length_at
        if kept is None:
            return False
        if headers == kept:
            self.content_length = self.credentials.content_length
            return True
        if (
            at < 0
            or len(headers) != len(kept)
            or headers[at][0] != b"content-length"
            or headers[:at] != kept[:at]
            or headers[at + 1 :] != kept[at + 1 :]
        ):
            return False
        self.content_length = headers[at][1]
        return True


FORWARDED = frozenset({b"x-forwarded-for", b"x-forwarded-proto"})
"""The headers by which a proxy tells for whom it asks, as uvicorn understands them."""


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
