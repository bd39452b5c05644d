"""What memX is asked over HTTP and over its socket, and what the floor does in its place."""

from __future__ import annotations

import json
import urllib.request
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from benchmarks.load import REVISION, Call
from benchmarks.servers import API_KEY, Server

VALUE = {"text": "x" * 60, "votes": 3, "tags": ["a", "b"]}
SCHEMA = {
    "type": "object",
    "properties": {
        "text": {"type": "string", "maxLength": 1000},
        "votes": {"type": "integer", "minimum": 0},
        "tags": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["text"],
}
_READS = ("get", "keys")
_PAGE = [f"bench:page:{number}" for number in range(50)]
_MANY = [f"many:{number:06}" for number in range(100_000)]
_TXN_LIMIT = 128
"""Operations of one transaction."""


@dataclass(frozen=True)
class Operation:
    """One operation of memX beside its floor.

    Attributes:
        name: How the table calls it.
        op: memX's name for it, which is also its path.
        fields: What it is asked, by query or by JSON body.
        floor: The floor's name for the same Redis commands.
        aim: The ratio to the floor that it should reach over HTTP.
    """

    name: str
    op: str
    fields: dict[str, Any]
    floor: str
    aim: float | None = None

    @property
    def call(self) -> Call:
        """It over HTTP."""
        if self.op in _READS:
            return Call(f"/{self.op}?{urlencode(self.fields)}")
        return Call(f"/{self.op}", self.fields)

    @property
    def floor_call(self) -> Call:
        """What the floor is asked over HTTP: as many bytes, where there is a body."""
        return Call(f"/{self.floor}", None if self.op in _READS else self.fields)


GET = Operation("get", "get", {"key": "bench:plain"}, "get", 0.85)
SET = Operation("set", "set", {"key": "bench:plain", "value": VALUE}, "set", 0.75)
OPERATIONS = (
    GET,
    SET,
    Operation("set, with schema", "set", {"key": "bench:checked", "value": VALUE}, "set", 0.70),
    Operation(
        "set, conditional",
        "set",
        {"key": "bench:conditional", "if_revision": REVISION, "value": VALUE},
        "conditional",
    ),
    Operation(
        "increment of one hot key", "update", {"key": "bench:hot", "increment": 1}, "increment"
    ),
    Operation("mget of 50", "mget", {"keys": _PAGE}, "mget"),
    Operation(
        "txn of 10",
        "txn",
        {"then": [{"op": "set", "key": f"bench:txn:{n}", "value": VALUE} for n in range(10)]},
        "txn",
    ),
    Operation("keys, 100 of 100,000", "keys", {"pattern": "many:000*", "limit": 100}, "keys"),
)


def prepare(server: Server) -> None:
    """Write what the operations read and are checked against."""
    post(server, "/schema", {"key": "bench:checked*", "schema": SCHEMA})
    write(server, ["bench:plain", *_PAGE, *_MANY], VALUE)


def write(server: Server, keys: list[str], value: Any) -> None:
    """Write a value to many keys."""
    for start in range(0, len(keys), _TXN_LIMIT):
        batch = keys[start : start + _TXN_LIMIT]
        post(server, "/txn", {"then": [{"op": "set", "key": k, "value": value} for k in batch]})


def post(server: Server, path: str, body: Any) -> None:
    """Send one request.

    Raises:
        urllib.error.HTTPError: It was refused.
    """
    headers = {"x-api-key": API_KEY, "content-type": "application/json"}
    request = urllib.request.Request(server.url + path, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=30):
        pass
