"""memX in every MCP client."""
