"""``python -m memx_mcp``."""

from memx_mcp.cli import main

main()
