"""Decoding of request structs from bodies and queries, and the words for what is wrong with them."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from typing import Any
from urllib.parse import unquote_to_bytes

import msgspec

from memx_sdk.protocol.errors import ProtocolError
from memx_server.routes.api.operation import Operation

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
