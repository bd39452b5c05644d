"""The command ``memx-mcp``: the MCP server for one person's host, over stdio, or for many, over HTTP."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
import uvicorn
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from memx_mcp.admission import LOOPBACK_HOSTS, LOOPBACK_ORIGINS
from memx_mcp.callers import Callers, Credentials, OpenContext
from memx_mcp.http import create_app
from memx_mcp.server import create_server
from memx_mcp.tools import ToolChoice
from memx_sdk import AsyncMemxContext
from memx_sdk.protocol.mcp_headers import EXPOSED_HEADERS, REQUEST_HEADERS

_LAST_WORDS = 2.0
"""Seconds that leaving may take after a signal."""


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
        choice = ToolChoice(options.tools, options.read_only)
    except ValueError as error:
        parser.error(str(error))
    try:
        if options.http:
            app = _http_app(open_context, choice, options)
            uvicorn.run(app, host=options.host, port=options.port, log_level="warning")
        else:
            callers = Callers(open_context, reserved=options.reserved)
            anyio.run(_serve_stdio, callers, create_server(callers, choice=choice))
    except KeyboardInterrupt:
        sys.exit(130)


def _http_app(
    open_context: OpenContext, choice: ToolChoice, options: argparse.Namespace
) -> ASGIApp:
    app = create_app(
        open_context,
        reserved=options.reserved,
        choice=choice,
        allowed_hosts=[*LOOPBACK_HOSTS, *_with_any_port(options.allow_host)],
        allowed_origins=[*LOOPBACK_ORIGINS, *_pages_of(options.allow_host), *options.allow_origin],
    )
    if not options.allow_origin:
        return app
    return CORSMiddleware(
        app,
        allow_origins=options.allow_origin,
        allow_methods=["GET", "POST", "DELETE"],
        allow_headers=["authorization", "x-api-key", "x-memx-agent", *REQUEST_HEADERS],
        expose_headers=EXPOSED_HEADERS,
    )


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
    parser.add_argument(
        "--tools",
        type=_names,
        metavar="NAME,NAME",
        help="offer only these tools, for example memx_get,memx_list: each costs every conversation its tokens",
    )
    parser.add_argument(
        "--read-only", action="store_true", help="offer only the tools that change nothing"
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
    parser.add_argument(
        "--allow-origin",
        action="append",
        default=[],
        metavar="ORIGIN",
        help="with --http: let pages of this origin, such as https://example.org, call from a browser; * for any",
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


def _names(text: str) -> frozenset[str]:
    return frozenset(name.strip() for name in text.split(",") if name.strip())


async def _serve_stdio(callers: Callers, server: Server[Any]) -> None:
    start = server.create_initialization_options()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_leave_on_signal, callers)
        async with stdio_server() as (incoming, outgoing):
            await server.run(incoming, outgoing, start)
        tasks.cancel_scope.cancel()


async def _leave_on_signal(callers: Callers) -> None:
    """End the process at the first Ctrl-C or SIGTERM.

    The thread that reads stdin cannot be interrupted: whoever waits for it waits until the host writes another line.
    """
    if sys.platform == "win32":
        return  # there are no handlers of an event loop; KeyboardInterrupt ends the process
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for number in signals:
            with anyio.move_on_after(_LAST_WORDS):
                await callers.close()
            sys.stderr.flush()
            os._exit(128 + number)
