"""The options, the connection and the exit codes that all commands with a server share."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, fields
from typing import Annotated, Any

import typer

from memx_sdk import AsyncMemxContext, MemxError
from memx_sdk.cli.exits import ExitCode, exit_code
from memx_sdk.cli.output import Output
from memx_sdk.core.values import keep_digits

_PANEL = "Connection"


@dataclass(frozen=True)
class Connection:
    """The options that say which server to talk to, as whom, and how to answer."""

    url: Annotated[
        str | None,
        typer.Option(
            envvar="MEMX_BASE_URL",
            metavar="URL",
            help="The server. [dim]Default: http://127.0.0.1:8000[/]",
            rich_help_panel=_PANEL,
        ),
    ] = None
    api_key: Annotated[
        str | None,
        typer.Option(
            envvar="MEMX_API_KEY",
            metavar="KEY",
            help="The API key; better set in the environment than typed.",
            rich_help_panel=_PANEL,
        ),
    ] = None
    agent: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="What to call yourself as a writer.", rich_help_panel=_PANEL
        ),
    ] = "cli"
    timeout: Annotated[
        float,
        typer.Option(
            min=0.1, metavar="SECONDS", help="Wait this long for an answer.", rich_help_panel=_PANEL
        ),
    ] = 10.0
    json: Annotated[
        bool,
        typer.Option("--json", help="Print one JSON document per line.", rich_help_panel=_PANEL),
    ] = False

    def open(self) -> AsyncMemxContext:
        """Make the context.

        Raises:
            typer.BadParameter: An option, or the environment variable in its place, cannot be.
        """
        try:
            # Nothing connects yet: what is wrong here is in the options, and is told as a mistake
            # in the command line.
            return AsyncMemxContext(self.api_key, self.url, agent=self.agent, timeout=self.timeout)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None


@dataclass(frozen=True)
class Session:
    """What a command works with.

    Attributes:
        memory: The connection to the server.
        output: Where results go.
        connection: The options it was made from.
    """

    memory: AsyncMemxContext
    output: Output
    connection: Connection


def connection_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give ``command``, whose first parameter is a `Connection`, the options that make one."""
    own = inspect.signature(command, eval_str=True)
    shared = inspect.signature(Connection, eval_str=True)
    names = [each.name for each in fields(Connection)]

    @functools.wraps(command)
    def run(**arguments: Any) -> None:
        # The shared options are taken out; what is left is the command's own.
        connection = Connection(**{name: arguments.pop(name) for name in names})
        command(connection, **arguments)

    parameters = [
        each.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for each in (*list(own.parameters.values())[1:], *shared.parameters.values())
    ]
    # Typer reads a command's options off its signature.
    run.__dict__["__signature__"] = inspect.Signature(parameters)
    run.__annotations__ = {each.name: each.annotation for each in parameters}
    return run


def connected(command: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Make a command of an async function whose first parameter is a `Session`.

    It gets the options of `Connection` beside its own; errors become a line and an exit code.
    """
    own = inspect.signature(command, eval_str=True)

    @functools.wraps(command)
    def run(connection: Connection, **arguments: Any) -> None:
        finish(_in_session(command, connection, arguments))

    run.__dict__["__signature__"] = own
    return connection_options(run)


def finish(work: Coroutine[Any, Any, None]) -> None:
    """Run ``work`` to its end; Ctrl-C ends it quietly.

    Raises:
        typer.Exit: It was interrupted.
    """
    try:
        asyncio.run(work)
    except KeyboardInterrupt:
        raise typer.Exit(ExitCode.INTERRUPTED) from None


async def _in_session(
    command: Callable[..., Coroutine[Any, Any, None]],
    connection: Connection,
    arguments: dict[str, Any],
) -> None:
    output = Output(as_json=connection.json)
    # In the task of the command alone: what prints values must not round them, and nothing here
    # computes with them.
    keep_digits.set(True)
    try:
        async with connection.open() as memory:
            await command(Session(memory, output, connection), **arguments)
    except MemxError as error:
        # Inside of the loop, while the mistakes of the command line, which are typer's, pass
        # through.
        output.failure(error)
        raise typer.Exit(exit_code(error)) from None
