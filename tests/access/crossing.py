"""Who may do what: the table that ``test_crossing.py`` crosses with tenants, roles, roads and stores."""

from __future__ import annotations

import base64
import binascii
import json
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, Self
from urllib.parse import unquote

import httpx
from memx_server.routes.ws.frames import BY_NAME
from websockets.sync.client import connect

from memx_sdk.protocol.errors import STATUS_BY_CODE
from tests.support.memx_server import Served

Verb = Literal["read", "write", "admin"]

OPEN, SHUT, ABSENT = "open:x", "shut:x", "shut:absent"
KEYS = (OPEN, SHUT, ABSENT)

ALL, NONE, PART = ("*",), (), ("open:*",)
ROLES: dict[str, dict[Verb, tuple[str, ...]]] = {
    "owner": {"read": ALL, "write": ALL, "admin": ALL},
    "reader": {"read": ALL, "write": NONE, "admin": NONE},
    "writer": {"read": NONE, "write": ALL, "admin": NONE},
    "admin": {"read": NONE, "write": NONE, "admin": ALL},
    "limited": {"read": PART, "write": PART, "admin": PART},
    "nobody": {"read": NONE, "write": NONE, "admin": NONE},
}

KINDS = ("key", "value", "writer", "reason", "schema")
HIDDEN: dict[str, tuple[str, ...]] = {
    "owner": (),
    "reader": (),
    "writer": ("key", "value", "reason"),  # learns by refusals what the schema asks
    "admin": ("key", "value", "writer", "reason"),  # may read the schemas that it sets
    "limited": KINDS,
    "nobody": KINDS,
}
"""What no answer may show to whom, of that which is under ``shut:`` in their own space."""


def may(role: str, verb: Verb, key: str) -> bool:
    patterns = ROLES[role][verb]
    return patterns == ALL or (patterns == PART and key.startswith("open:"))


@dataclass(frozen=True)
class Row:
    """One way to ask for an operation.

    Attributes:
        operation: Its name.
        parameters: With ``KEY`` where a key goes.
        needs: The verbs that must be held on the key. ``some read``: a read scope of any kind, and so on.
        either: One of ``needs`` is enough.
    """

    operation: str
    parameters: dict[str, Any] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    either: bool = False

    def of(self, key: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(json.dumps(self.parameters).replace("KEY", key))
        return found

    @property
    def names_a_key(self) -> bool:
        return "KEY" in json.dumps(self.parameters)

    @property
    def changes_something(self) -> bool:
        return BY_NAME[self.operation].writes

    def permitted(self, role: str, key: str) -> bool:
        held = [_holds(role, need, key) for need in self.needs]
        return any(held) if self.either else all(held)


def _holds(role: str, need: str, key: str) -> bool:
    if need.startswith("some "):
        return any(need == f"some {verb}" and bool(ROLES[role][verb]) for verb in ROLES[role])
    return any(need == verb and may(role, verb, key) for verb in ROLES[role])


def _txn(needs: tuple[str, ...], **parts: Any) -> Row:
    return Row("txn", parts, needs)


_R, _W, _A, _RW, _SOME = ("read",), ("write",), ("admin",), ("read", "write"), ("some read",)
_MINE = {"text": "mine"}
_PATCH = [{"op": "test", "path": "/text", "value": "guess"}]
_HOLDER = {"name": "KEY", "holder": "holder-of-it"}

ROWS: tuple[Row, ...] = (
    Row("get", {"key": "KEY"}, _R),
    Row("get", {"key": "KEY", "at": 2}, _R),
    Row("mget", {"keys": ["KEY"]}, _R),
    Row("keys", {"pattern": "KEY"}, _R),
    Row("keys", {"pattern": "*"}, _SOME),
    Row("keys", {"pattern": "*", "values": True}, _SOME),
    Row("keys", {"pattern": "shut:*", "values": True, "limit": 1}, _SOME),
    Row("history", {"key": "KEY"}, _R),
    Row("changes", {"pattern": "KEY", "event": "all"}, _R),
    Row("changes", {"pattern": "*", "event": "all"}, _SOME),
    Row("changes", {"pattern": "shut:*", "event": "schema"}, _SOME),
    Row("changes", {"pattern": "*", "since": "no cursor"}, _SOME),
    Row("set", {"key": "KEY", "value": _MINE}, _W),
    Row("set", {"key": "KEY", "value": _MINE, "if_revision": 0}, _W),
    Row("set", {"key": "KEY", "value": _MINE, "if_revision": 2**40}, _W),
    Row("set", {"key": "KEY", "value": ["not what the schema asks"]}, _W),
    Row("delete", {"key": "KEY"}, _W),
    Row("delete", {"key": "KEY", "if_revision": 2**40}, _W),
    Row("delete", {"pattern": "KEY"}, _RW),
    Row("delete", {"pattern": "shut:*", "limit": 1}, ("some read", "some write")),
    Row("update", {"key": "KEY", "merge": {"more": 1}}, _RW),
    Row("update", {"key": "KEY", "merge": {"more": 1}, "if_revision": 2**40}, _RW),
    Row("update", {"key": "KEY", "merge": "not what the schema asks"}, _RW),
    Row("update", {"key": "KEY", "patch": _PATCH}, _RW),
    Row("update", {"key": "KEY", "increment": 1}, _RW),
    Row("update", {"key": "KEY", "increment": 1, "maximum": 5}, _RW),
    Row("update", {"key": "KEY", "append": [1]}, _RW),
    Row("update", {"key": "KEY", "touch": 60}, _RW),
    _txn(_RW, **{"if": [{"key": "KEY", "exists": True}]}),
    _txn(_RW, **{"if": [{"key": "KEY", "revision": 0}]}),
    _txn(_RW, **{"if": [{"key": "KEY", "version": 1}]}),
    _txn(_RW, **{"if": [{"key": "KEY", "value": {"text": "guess"}}]}),
    _txn(_R, then=[{"op": "get", "key": "KEY"}]),
    _txn(_R, **{"else": [{"op": "get", "key": "KEY"}]}),
    _txn(_W, then=[{"op": "set", "key": "KEY", "value": _MINE}]),
    _txn(_W, then=[{"op": "delete", "key": "KEY"}]),
    _txn(_RW, then=[{"op": "merge", "key": "KEY", "merge": {"more": 1}}]),
    _txn(_RW, then=[{"op": "merge", "key": "KEY", "merge": 5}]),
    _txn(_RW, then=[{"op": "append", "key": "KEY", "append": [1]}]),
    _txn(_RW, then=[{"op": "touch", "key": "KEY", "touch": 60}]),
    _txn(_RW, then=[{"op": "patch", "key": "KEY", "patch": _PATCH}]),
    _txn(_RW, then=[{"op": "increment", "key": "KEY", "increment": 1, "minimum": 0}]),
    Row("validate", {"key": "KEY", "value": 5}, _W),
    Row("set_schema", {"key": "KEY", "schema": {"type": "object"}}, _A),
    Row("set_schema", {"key": "KEY", "schema": {"type": "no type"}}, _A),
    Row("get_schema", {"key": "KEY"}, ("read", "admin"), either=True),
    Row("delete_schema", {"key": "KEY"}, _A),
    Row("schemas"),
    Row("whoami"),
    Row("presence", {}, _SOME),
    Row("ticket"),
    Row("durable_claim", _HOLDER),
    Row("durable_ack", {**_HOLDER, "cursor": "no cursor"}),
    Row("durable_list"),
    Row("durable_release", _HOLDER),
    Row("durable_forget", {"name": "KEY"}),
)

PUBLIC: frozenset[str] = frozenset(
    {
        "/",
        "/dashboard/app.js",
        "/dashboard/icon.svg",
        "/dashboard/memory.js",
        "/dashboard/style.css",
        "/dashboard/view.js",
        "/docs",
        "/docs/start.js",
        "/docs/swagger-ui-bundle.js",
        "/docs/swagger-ui.css",
        "/healthz",
        "/metrics",
        "/openapi.json",
        "/readyz",
    }
)
"""What FastAPI answers: the same to everybody."""

TOOLS: dict[str, dict[str, Any]] = {
    "memx_get": {"key": "KEY"},
    "memx_list": {"pattern": "*", "values": True},
    "memx_set": {"key": "KEY", "value": _MINE, "if_revision": 0},
    "memx_update": {"key": "KEY", "merge": {"more": 1}},
    "memx_delete": {"key": "KEY", "if_revision": 2**40},
    "memx_wait": {"pattern": "KEY", "timeout": 0.05},
    "memx_changes": {"pattern": "*", "since": "oldest"},
    "memx_history": {"key": "KEY"},
    "memx_get_schema": {"key": "KEY"},
    "memx_check": {"key": "KEY", "value": 5},
    "memx_set_schema": {"key": "KEY", "json_schema": {"type": "object"}},
    "memx_transaction": {
        "conditions": [{"key": "KEY", "exists": True}],
        "writes": [{"op": "set", "key": "KEY", "value": _MINE}],
    },
    "memx_lock": {"key": "KEY", "ttl": 5},
    "memx_unlock": {"key": "KEY", "token": 1},
}
"""The MCP tools, each with arguments that reach for a key."""


class Tenant:
    """A space with markers in everything that it holds, and an API key for each role."""

    def __init__(self, served: Served, name: str) -> None:
        self.space = f"{name}-{secrets.token_hex(4)}"
        self.markers = {kind: f"{kind}-{name}-{secrets.token_hex(6)}" for kind in KINDS}
        self.keys = {
            role: served.keys.add(
                agent=f"{role}-{name}",
                space=self.space,
                read=grant["read"],
                write=grant["write"],
                admin=grant["admin"],
            )
            for role, grant in ROLES.items()
        }
        hidden = served.keys.add(agent=self.markers["writer"], space=self.space)
        self._http = client(served.url, hidden)
        self._owner = client(served.url, self.keys["owner"])
        self.plant()

    def plant(self) -> None:
        """Put everything (back) to where it was."""
        mark = self.markers
        self._write("set_schema", key="shut:*", schema={"title": mark["schema"], "type": "object"})
        for key in (SHUT, f"shut:{mark['key']}"):
            self._write("set", key=key, value={"text": mark["value"]}, reason=mark["reason"])
        self._owner.post("/set", json={"key": OPEN, "value": {"text": "for everybody"}})
        self._write("delete", key=ABSENT)
        for key in KEYS:
            self._owner.delete("/schema", params={"key": key})

    def state(self) -> str:
        """All that the space holds, times and revisions left out."""
        entries = self._http.get("/keys", params={"values": "true"}).json()["entries"]
        schemas = self._http.get("/schemas").json()["schemas"]
        return json.dumps([[(each["key"], each["value"]) for each in entries], schemas])

    def revision(self) -> str:
        """Where the log ends."""
        return str(self._http.post("/mget", json={"keys": []}).json()["cursor"])

    def close(self) -> None:
        self._http.close()
        self._owner.close()

    def _write(self, operation: str, **parameters: Any) -> None:
        found = BY_NAME[operation]
        self._http.request(found.method, found.path, json=parameters).raise_for_status()


def client(url: str, key: str) -> httpx.Client:
    return httpx.Client(base_url=url, headers={"x-api-key": key}, timeout=15, verify=False)


class HttpRoad:
    """Operations over HTTP; ``ask`` answers the status and all that came."""

    def __init__(self, url: str, key: str) -> None:
        self._http = client(url, key)

    def ask(self, operation: str, parameters: dict[str, Any]) -> tuple[int, str]:
        found = BY_NAME[operation]
        if found.method == "POST":
            answer = self._http.post(found.path, json=parameters)
        else:
            answer = self._http.request(found.method, found.path, params=parameters)
        return answer.status_code, answer.text

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()


class SocketRoad:
    """Operations over ``/ws``."""

    def __init__(self, url: str, key: str) -> None:
        address = url.replace("http", "ws", 1) + "/ws"
        self._socket = connect(address, additional_headers={"x-api-key": key})
        self.hello = str(self._socket.recv(10))

    def ask(self, operation: str, parameters: dict[str, Any]) -> tuple[int, str]:
        self._socket.send(json.dumps({"id": 1, "op": operation, **parameters}))
        text = str(self._socket.recv(10))
        frame = json.loads(text)
        return (200 if frame["ok"] else STATUS_BY_CODE[frame["error"]]), text

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()


Road = Callable[[str, str], HttpRoad | SocketRoad]
ROADS: dict[str, Road] = {"http": HttpRoad, "ws": SocketRoad}

_TOKEN = re.compile(r"[A-Za-z0-9_+/-]{12,}={0,2}")


def unwrapped(text: str) -> str:
    """A text with all that is hidden in it by an encoding."""
    found = [text, unquote(text)]
    for token in _TOKEN.findall(text):
        for start in range(4):  # a token may begin anywhere in what looks like one
            part = token.rstrip("=")[start:]
            try:
                raw = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
            except (ValueError, binascii.Error):
                continue
            found.append(raw.decode("latin-1"))
    return "\n".join(found)


def shown(text: str, tenant: Tenant, kinds: tuple[str, ...] = KINDS) -> list[str]:
    """The kinds of marker that stand in a text, however encoded."""
    whole = unwrapped(text)
    return [kind for kind in kinds if tenant.markers[kind] in whole]
