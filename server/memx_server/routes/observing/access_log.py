"""The access log: a line for each request, over every road."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from memx_sdk.protocol.errors import ProtocolError
from memx_server.routes.api.operation import Call
from memx_server.routes.observing.request_ids import RequestId

LOGGER = "memx_server.access"

_log = logging.getLogger(LOGGER)
_HASHED_BYTES = 6
_MOST_KEYS = 8
"""Keys of one request that are noted; a transaction may have a hundred."""


class Observation(NamedTuple):
    """A request that has been answered.

    Attributes:
        named: The id of the request or its connection.
        operation: The operation.
        request: What it asked for, where it was understood.
        call: The caller; None where it was not let in.
        result: The response, or the error; None where the client left before.
        seconds: How long it took, for a batch all of it.
    """

    named: RequestId
    operation: str
    request: Any
    call: Call | None
    result: object
    seconds: float


class AccessLog:
    """Writes a line for each request.

    Args:
        with_keys: Name keys and patterns, and not only their hashes.
    """

    def __init__(self, *, with_keys: bool) -> None:
        self._with_keys = with_keys

    def note(self, seen: Observation) -> None:
        """Write the line of a request."""
        fields = self._fields(seen)
        # In the text what others chose is quoted where it could pass for more than one word; as JSON it is escaped.
        shown = " ".join(f"{name}={_word(str(value))}" for name, value in fields.items())
        _log.info("request %s", shown, extra={"memx_fields": fields})

    def _fields(self, seen: Observation) -> Mapping[str, Any]:
        error = seen.result if isinstance(seen.result, ProtocolError) else None
        outcome = "client_gone" if seen.result is None else error.code if error else "ok"
        fields: dict[str, Any] = {
            "request_id": seen.named.id,
            "operation": seen.operation,
            "outcome": outcome,
            # 499 as proxies write it: nobody was left to answer.
            "status": 499 if seen.result is None else error.status if error else 200,
            "duration_ms": round(seen.seconds * 1000, 3),
        }
        if seen.named.trace:
            fields["trace_id"] = seen.named.trace
        if seen.call is not None:
            fields["writer"] = seen.call.writer
        keys = _keys_of(seen.request)
        if keys and self._with_keys:
            fields["keys"] = " ".join(map(_word, keys))
        elif keys:
            fields["key_hashes"] = " ".join(map(hash_of, keys))
        return fields


def hash_of(key: str) -> str:
    """Return what stands for a key or a pattern in the log: the same for the same, and not the name itself.

    It hides names from those who read logs, not from those who can guess them and compare.
    """
    return hashlib.blake2b(
        key.encode(), digest_size=_HASHED_BYTES, person=b"memx-access-log"
    ).hexdigest()


def _word(text: str) -> str:
    """Return what an agent chose as one word, in quotes and with escapes where it could pass for more."""
    # As JSON in ASCII: neither a line break nor a character that nobody sees gets into a line of the log.
    plain = text.isascii() and text.isprintable() and not set(text) & set(" \"'=")
    return text if plain else json.dumps(text)


def _keys_of(request: Any) -> Sequence[str]:
    """Return the keys or the pattern that a request names, as far as it is understood."""
    for name in ("key", "pattern"):
        if isinstance(value := getattr(request, name, None), str):
            return (value,)
    if keys := getattr(request, "keys", None):
        return list(keys)[:_MOST_KEYS]
    operations = (*getattr(request, "then", ()), *getattr(request, "else_", ()))
    return [each.key for each in operations[:_MOST_KEYS]]
