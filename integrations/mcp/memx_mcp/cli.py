"""``memx-mcp``: the MCP server for one person's MCP host, over stdio, or for many, over HTTP."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import anyio
import uvicorn
from mcp.server.lowlevel import NotificationOptions
from mcp.server.stdio import stdio_server

from memx_mcp.callers import Callers, Credentials, OpenContext
from memx_mcp.http import create_app
from memx_mcp.server import create_server
from memx_sdk import AsyncMemxContext


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="memx-mcp: %(message)s")
    open_context = _opener(options)
    try:
        if options.http:
            app = create_app(open_context)
            uvicorn.run(app, host=options.host, port=options.port, log_level="warning")
        else:
            anyio.run(_serve_stdio, open_context)
    except KeyboardInterrupt:
        sys.exit(130)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="memx-mcp",
        description="memX, the shared memory of a team of agents, as an MCP server.",
        epilog="The API key is read from MEMX_API_KEY, the server's address from MEMX_BASE_URL.",
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--base-url", help="the memX server (default: MEMX_BASE_URL)")
    where.add_argument(
        "--embedded",
        type=Path,
        metavar="PATH",
        help="keep a private store in this folder instead; no server is needed",
    )
    parser.add_argument("--agent", help="the name under which writes are attributed")
    parser.add_argument("--http", action="store_true", help="serve streamable HTTP, not stdio")
    parser.add_argument("--host", default="127.0.0.1", help="with --http (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8765, help="with --http (default: %(default)s)")
    return parser


def _opener(options: argparse.Namespace) -> OpenContext:
    base_url: str | None = options.base_url
    if options.embedded is not None:
        base_url = f"shared:{options.embedded.expanduser().resolve()}"

    def open_context(credentials: Credentials) -> AsyncMemxContext:
        return AsyncMemxContext(
            credentials.api_key, base_url, agent=credentials.agent or options.agent
        )

    return open_context


async def _serve_stdio(open_context: OpenContext) -> None:
    server = create_server(Callers(open_context))
    start = server.create_initialization_options(NotificationOptions(resources_changed=True))
    async with stdio_server() as (incoming, outgoing):
        await server.run(incoming, outgoing, start)
