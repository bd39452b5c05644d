"""The words in which an error names what to do next: HTTP on the wire, and the calls of whoever reads it.

A server writes for all of its clients, so it names its routes (``POST /validate tries a value``). A program
that uses the SDK has no routes: its errors name the SDK's calls, the command line its commands, and a tool's error the
tools.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NamedTuple


class _Names(NamedTuple):
    """What one route, or another thing of HTTP, is called elsewhere."""

    call: str
    command: str
    tool: str


_BY_ROUTE: Final[Mapping[str, _Names]] = {
    "GET /keys?values=true": _Names(
        "entries()", "`memx keys --values`", "memx_list with values: true"
    ),
    "GET /keys": _Names("keys()", "`memx keys`", "memx_list"),
    "GET /get": _Names("get()", "`memx get`", "memx_get"),
    "POST /set": _Names("set()", "`memx set`", "memx_set"),
    "DELETE /delete": _Names("delete()", "`memx delete`", "memx_delete"),
    "POST /update": _Names("merge() and the like", "`memx merge` and the like", "memx_update"),
    "POST /txn": _Names("txn()", "`memx txn`", "memx_transaction"),
    "GET /changes": _Names("changes()", "`memx changes`", "memx_changes"),
    "GET /history": _Names("history()", "`memx history`", "memx_history"),
    "POST /validate": _Names("validate()", "`memx schema check`", "memx_check"),
    "GET /schemas": _Names("schemas()", "`memx schema list`", "memx_get_schema"),
    "GET /schema": _Names("get_schema()", "`memx schema get`", "memx_get_schema"),
    "POST /schema": _Names("set_schema()", "`memx schema set`", "memx_set_schema"),
    "GET /whoami": _Names("whoami()", "`memx whoami`", "whoami"),
    "send it as the header x-api-key, or as Authorization: Bearer <key>": _Names(
        "pass it as api_key, or set MEMX_API_KEY",
        "set MEMX_API_KEY or pass --api-key",
        "whoever runs you sets MEMX_API_KEY",
    ),
    "this Idempotency-Key was used before for another request; use a new key for a new request": _Names(
        "this idempotency_key was used before for another call; use a new one for a new call",
        "this idempotency key was used before for another command; use a new one for a new command",
        "this call was taken for another one; make it again",
    ),
}
# The longer routes first: ``GET /keys`` is the beginning of another one.
_ROUTE: Final = re.compile("|".join(re.escape(route) for route in sorted(_BY_ROUTE, key=len)[::-1]))
_CALL: Final = re.compile(
    "|".join(rf"(?<!\w){re.escape(names.call)}" for names in _BY_ROUTE.values())
)
_BY_CALL: Final[Mapping[str, _Names]] = {names.call: names for names in _BY_ROUTE.values()}


def in_calls(detail: str) -> str:
    """Return a server's text with the SDK's calls in place of routes."""
    return _ROUTE.sub(lambda found: _BY_ROUTE[found[0]].call, detail)


def in_commands(detail: str) -> str:
    """Return an SDK error's text with the commands of ``memx`` in place of calls."""
    return _CALL.sub(lambda found: _BY_CALL[found[0]].command, detail)


def in_tools(detail: str) -> str:
    """Return an SDK error's text with the names of tools in place of calls."""
    return _CALL.sub(lambda found: _BY_CALL[found[0]].tool, detail)
