"""The MCP server of memX."""

from memx_mcp.admission import Names, TokenVerifier, VerifiedToken
from memx_mcp.callers import Credentials
from memx_mcp.http import McpApp, create_app

__all__ = ["Credentials", "McpApp", "Names", "TokenVerifier", "VerifiedToken", "create_app"]
