"""The types of ASGI."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Endpoint = Callable[[Scope, Receive, Send], Awaitable[None]]

IN_PROCESS = "memx.in_process"
"""Among the ``extensions`` of a scope: the call comes from the server's own process and not from a network."""

OAUTH_SUBJECT = "memx.oauth_subject"
"""Among the ``extensions`` of a call from the server's own process: whom a token names that was checked."""

Headers = list[tuple[bytes, bytes]]
