"""The headers of MCP over HTTP that a page of a browser must be let send and read.

From the transports of the protocol's versions 2025-11-25 (session, version, resumption) and 2026-07-28 (method, name).
"""

from __future__ import annotations

from typing import Final

REQUEST_HEADERS: Final = (
    "content-type",
    "mcp-session-id",
    "mcp-protocol-version",
    "mcp-method",
    "mcp-name",
    "last-event-id",
)
EXPOSED_HEADERS: Final = ("mcp-session-id", "mcp-protocol-version", "www-authenticate")
