"""The command ``memx-mcp``: the MCP server for one person's host, over stdio, or for many, over HTTP."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import anyio
import uvicorn
from mcp.server.stdio import stdio_server

from memx_mcp.callers import Callers, Credentials, OpenContext
from memx_mcp.http import LOOPBACK_HOSTS, LOOPBACK_ORIGINS, create_app
from memx_mcp.server import create_server
from memx_sdk import AsyncMemxContext


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = command_line()
    options = parser.parse_args(arguments)
    if options.http and options.embedded is not None:
        parser.error(
            "--embedded keeps one person's own store, open to whoever connects: not for --http"
        )
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="memx-mcp: %(message)s")
    open_context = _opener(options)
    # A context that is opened here fails at once on a bad address or folder; callers open theirs later.
    try:
        open_context(Credentials())
    except ValueError as error:
        parser.error(str(error))
    try:
        if options.http:
            app = create_app(
                open_context,
                reserved=options.reserved,
                allowed_hosts=[*LOOPBACK_HOSTS, *_with_any_port(options.allow_host)],
                allowed_origins=[*LOOPBACK_ORIGINS, *_pages_of(options.allow_host)],
            )
            uvicorn.run(app, host=options.host, port=options.port, log_level="warning")
        else:
            anyio.run(_serve_stdio, Callers(open_context, reserved=options.reserved))
    except KeyboardInterrupt:
        sys.exit(130)


def command_line() -> argparse.ArgumentParser:
    """Describe the command line."""
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
    parser.add_argument(
        "--reserved",
        action="store_true",
        help="reach programs' own records too, the keys that start with memx: (checkpoints, messages, caches)",
    )
    parser.add_argument("--agent", help="the name under which writes are attributed")
    parser.add_argument("--http", action="store_true", help="serve streamable HTTP, not stdio")
    parser.add_argument("--host", default="127.0.0.1", help="with --http (default: %(default)s)")
    parser.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="with --http: answer under this host name too, beside the names of this machine for itself",
    )
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


def _with_any_port(names: Sequence[str]) -> list[str]:
    return [host for name in names for host in (name, f"{name}:*")]


def _pages_of(names: Sequence[str]) -> list[str]:
    hosts = _with_any_port(names)
    return [f"{scheme}://{host}" for scheme in ("http", "https") for host in hosts]


async def _serve_stdio(callers: Callers) -> None:
    server = create_server(callers)
    start = server.create_initialization_options()
    async with stdio_server() as (incoming, outgoing):
        await server.run(incoming, outgoing, start)
