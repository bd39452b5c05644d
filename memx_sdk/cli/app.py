"""The ``memx`` command, put together."""

from __future__ import annotations

import json
import sys
from importlib.metadata import EntryPoint, entry_points, version
from itertools import takewhile
from typing import Annotated, Any

import typer

from memx_sdk.cli import dashboard, data, doctor, schema, transfer, updates, waiting, watch
from memx_sdk.cli.exits import ExitCode
from memx_sdk.cli.values import NEGATIVE_NUMBERS
from memx_sdk.display import escaped

PLUG_INS = "memx_sdk.commands"
"""Entry-point group: each names a function that is given the Typer application, to add commands."""

_COMMAND_LINE_ERROR: Any = typer.BadParameter.__mro__[2]
"""Click's ``ClickException``: of the package click, or of the copy that newer versions of typer bring."""

_SERVER_HINT = "Starting a server ([bold]dev, serve, demo[/]) takes: pip install memx-server"


_OF_THE_SERVER = ("dev", "serve", "demo", "api-keys", "backup", "restore", "migrate")


def build() -> typer.Typer:
    """Make the application with the commands of all installed distributions."""
    app = typer.Typer(
        name="memx",
        no_args_is_help=True,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    # The server adds its commands this way: the SDK does not import it, and works where it is not
    # installed.
    plug_ins = entry_points(group=PLUG_INS)
    app.callback(epilog=None if plug_ins else _SERVER_HINT)(_root)
    for plug_in in plug_ins:
        _add_plug_in(app, plug_in)
    if not plug_ins:
        _add_hints(app)
    _add_data_commands(app)
    return app


def run(app: typer.Typer) -> None:
    """Run the command line; where it asks for JSON, what is wrong with it is JSON too."""
    # Looked up by hand, since a command line that cannot be parsed is what this is about. What stands
    # behind `--` belongs to another command.
    own = takewhile(lambda argument: argument != "--", sys.argv[1:])
    if "--json" not in own:
        app()
        return
    try:
        # Otherwise typer itself prints the error, for people, and exits.
        sys.exit(app(standalone_mode=False))
    except _COMMAND_LINE_ERROR as error:
        # Escaped, as the message repeats what was typed.
        document = {"error": "usage", "detail": error.format_message()}
        sys.stderr.write(escaped(json.dumps(document, ensure_ascii=False), spaces=True) + "\n")
        sys.exit(error.exit_code)
    except typer.Abort:
        sys.exit(ExitCode.INTERRUPTED)


def _add_hints(app: typer.Typer) -> None:
    """Let the server's commands say where they come from, on a machine that only talks to a server."""

    def hint(ctx: typer.Context) -> None:
        typer.echo(f"memx {ctx.info_name} takes the server: pip install memx-server", err=True)
        raise typer.Exit(ExitCode.USAGE)

    settings = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}
    for name in _OF_THE_SERVER:
        app.command(name, hidden=True, context_settings=settings)(hint)


def _add_plug_in(app: typer.Typer, plug_in: EntryPoint) -> None:
    try:
        commands = plug_in.load()
    except ImportError as error:
        # The other commands need not suffer from one broken installation.
        typer.echo(f"memx: no commands of {plug_in.value}: {error}", err=True)
    else:
        commands(app)


def _add_data_commands(app: typer.Typer) -> None:
    panel = "Memory"
    app.command(rich_help_panel=panel)(data.get)
    # A value may begin with a minus.
    app.command("set", rich_help_panel=panel, context_settings=NEGATIVE_NUMBERS)(data.set_)
    app.command(rich_help_panel=panel)(data.delete)
    updates.add_to(app)
    app.command(rich_help_panel=panel)(data.keys)
    app.command(rich_help_panel=panel)(watch.watch)
    app.command(rich_help_panel=panel)(data.changes)
    app.command(rich_help_panel=panel)(data.history)
    waiting.add_to(app)
    app.add_typer(schema.app, name="schema", rich_help_panel=panel)
    app.command(rich_help_panel=panel)(data.presence)
    transfer.add_to(app)
    app.command("open", rich_help_panel="Setup")(dashboard.open_)
    app.command(rich_help_panel="Setup")(data.whoami)
    app.command(rich_help_panel="Setup")(doctor.doctor)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"memX {version('memx-sdk')}")
        raise typer.Exit


def _root(
    _version: Annotated[
        bool,
        typer.Option(
            "--version",
            help="Print the version.",
            is_eager=True,
            callback=_print_version,
        ),
    ] = False,
) -> None:
    """Shared memory for teams of agents."""
