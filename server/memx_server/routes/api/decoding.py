"""Decoding of requests: who asks, from the headers; what for, from body or query; and the words for what is wrong."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any, NamedTuple, get_args
from urllib.parse import unquote_to_bytes

import msgspec

from memx_sdk.protocol.durability import Durability
from memx_sdk.protocol.errors import ProtocolError
from memx_sdk.protocol.idempotency import LONGEST_KEY
from memx_server.routes.api.operation import Operation

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


_PATH = re.compile(r" - at `\$([^`]*)`")
_NO_SUCH_WORD = re.compile("Invalid (enum )?value")
_NAMED = re.compile(r"(?:unknown|required) field `([^`]*)`")


@cache
def _decoder(request: type[msgspec.Struct]) -> Callable[[bytes], Any]:
    return msgspec.json.Decoder(request).decode


def decode_body(operation: Operation, body: bytes) -> Any:
    """Read the request in a body that is exact JSON (see ``Evaluator.read``).

    Raises:
        ProtocolError: ``invalid_request`` with the ``field`` at fault.
    """
    try:
        return _decoder(operation.request)(body)
    except msgspec.ValidationError as error:
        raise explain(error, operation.request) from None


def decode_query(operation: Operation, query: bytes) -> Any:
    """Read the request in a query string.

    Raises:
        ProtocolError: ``invalid_request`` with the ``field`` at fault.
    """
    texts = read_query(query)
    parameters: dict[str, Any] = {**texts} if (names := _json_fields(operation.request)) else texts
    for name in names:
        if name in texts:  # JSON text, which whoever uses it reads and checks
            parameters[name] = msgspec.Raw(texts[name].encode())
    try:
        request = msgspec.convert(parameters, operation.request, strict=False)
    except msgspec.ValidationError as error:
        raise explain(error, operation.request) from None
    if b"null" in query.lower():
        _refuse_null(texts, request)
    return request


@cache
def _json_fields(request: type[msgspec.Struct]) -> tuple[str, ...]:
    """Return the names of the fields of a request that hold any JSON."""
    found = []
    for field in msgspec.inspect.type_info(request).fields:  # type: ignore[attr-defined]  # of a struct it has them
        kinds = getattr(_bare(field.type), "types", (field.type,))
        if any(isinstance(_bare(kind), msgspec.inspect.RawType) for kind in kinds):
            found.append(field.encode_name)
    return tuple(found)


def _refuse_null(parameters: dict[str, str], request: Any) -> None:
    """Refuse a parameter that says ``null``, which msgspec takes for "none" where a number may stand.

    A query has texts only: what is not wanted is left out of it, and the OpenAPI document says so.
    """
    for name, text in parameters.items():
        if text.lower() == "null" and getattr(request, name) is None:
            raise ProtocolError(
                "invalid_request", f"{name}: null is no number; leave the parameter out", field=name
            )


def read_query(query: bytes) -> dict[str, str]:
    """Read a query string; each parameter may come once.

    Raises:
        ProtocolError: ``invalid_request`` with the ``field`` at fault.
    """
    found: dict[str, str] = {}
    for part in query.split(b"&"):
        if not part:
            continue
        name, _, value = part.partition(b"=")
        # Unquoting takes longer than all the rest; most parameters need none.
        if b"%" in part or b"+" in part:
            name, value = _unquote(name), _unquote(value)
        try:
            field, text = name.decode(), value.decode()
        except UnicodeDecodeError:
            raise ProtocolError(
                "invalid_request",
                "the query is not UTF-8 after percent-decoding",
                field=name.decode(errors="replace"),
            ) from None
        if field in found:
            raise ProtocolError(
                "invalid_request", f"the parameter {field!r} comes twice", field=field
            )
        found[field] = text
    return found


def _unquote(text: bytes) -> bytes:
    return unquote_to_bytes(text.replace(b"+", b" "))


def explain(error: msgspec.ValidationError, request: Any = None) -> ProtocolError:
    """Return msgspec's error in the words of the API, with the field at fault.

    Args:
        error: What it found.
        request: The struct that was to be read; for the words that a field takes, where it got another one.
    """
    # msgspec says what is wrong in a text alone, such as "Expected `int`, got `str` - at `$.limit`".
    text = str(error)
    path = _PATH.search(text)
    named = _NAMED.search(text)
    steps = [step for step in (path[1] if path else "").split(".") if step]
    if named:
        steps.append(named[1])
    field = ".".join(steps) or "body"
    reason = _PATH.sub("", text).replace("`", "'")
    if _NO_SUCH_WORD.match(text) and (words := _words(request, steps)):
        reason += f"; there are {', '.join(words)}"
    return ProtocolError(
        "invalid_request", f"{field}: {reason[0].lower()}{reason[1:]}", field=field
    )


def _bare(kind: msgspec.inspect.Type) -> msgspec.inspect.Type:
    return kind.type if isinstance(kind, msgspec.inspect.Metadata) else kind


def _words(request: Any, steps: list[str]) -> list[str]:
    """Return the words that a place in a request may hold; none if it may hold others too."""
    kind = msgspec.inspect.type_info(request)
    for step in steps:
        name, *indexes = step.split("[")
        if isinstance(kind, msgspec.inspect.UnionType):  # of structs, each with a tag of its own
            return [str(each.tag) for each in kind.types if hasattr(each, "tag")]
        fields = getattr(kind, "fields", ())
        kind = _bare(next((each.type for each in fields if each.encode_name == name), kind))
        for _ in indexes:
            kind = _bare(getattr(kind, "item_type", kind))
    return [str(word) for word in getattr(kind, "values", ())]
