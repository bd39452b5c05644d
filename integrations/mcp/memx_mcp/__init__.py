"""The MCP server of memX."""

from memx_mcp.callers import Credentials
from memx_mcp.http import McpApp, create_app

__all__ = ["Credentials", "McpApp", "create_app"]
