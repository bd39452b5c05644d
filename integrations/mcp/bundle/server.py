"""The server of the bundle for Claude Desktop: memx-mcp, which the pyproject.toml beside this file brings."""

from memx_mcp.cli import main

main()
