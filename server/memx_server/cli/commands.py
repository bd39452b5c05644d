"""``memx dev``, ``memx serve`` and ``memx demo``, and the registration of all commands of the server."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from rich.console import Console
from rich.text import Text

from memx_sdk.cli import doctor, schema
from memx_sdk.cli.checks import Finding
from memx_sdk.cli.exits import ExitCode
from memx_sdk.cli.values import printable
from memx_server.cli import api_keys, backups, stored_schemas

if TYPE_CHECKING:
    from socket import socket

    from memx_server.app import MemxApp
    from memx_server.settings import Settings

_PANEL = "Server"
_QUESTION = "How do honeybees choose a new home?"
_LONGEST_QUESTION = 1000
_PACE = 0.4
"""Seconds for each step of an agent where a person watches."""

PortOption = Annotated[int, typer.Option(min=0, max=65_535, help="0 takes a free one.")]
AclOption = Annotated[
    Path | None, typer.Option("--acl", metavar="FILE", envvar="MEMX_ACL_FILE", help="The API keys.")
]


def commands(app: typer.Typer) -> None:
    """Add the server's commands to the ``memx`` command."""
    for command in (dev, serve, demo):
        app.command(rich_help_panel=_PANEL)(command)
    api_keys.add_to(app)
    backups.add_to(app)
    stored_schemas.add_to(schema.app)
    doctor.LOCAL_CHECKS.append(_check_acl_file)
    doctor.LOCAL_CHECKS.append(_check_settings)
    doctor.LOCAL_CHECKS.append(backups.check_original)


def dev(
    port: PortOption = 8000,
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Default: a folder with your user data.")
    ] = None,
    acl: AclOption = None,
) -> None:
    """Start a server for this machine, with its memory on disk and nothing else to install."""
    _say_that_it_starts()
    from memx_server.cli import banner
    from memx_server.cli.local_setup import prepare

    try:
        setup = prepare(data, acl)
    except OSError as error:
        _fail(f"cannot prepare {error.filename}: {error.strerror}")
    # What the environment says of the store belongs to other servers; `memx dev` has one of its own.
    environ = {
        "MEMX_KNOWN_HOSTS_ONLY": "1",
        **os.environ,
        "MEMX_STORE_URL": setup.store_url,
        "MEMX_ACL_FILE": str(setup.acl_file),
    }
    _start(environ, "127.0.0.1", port, 1, lambda url, _: banner.dev(Console(), url, setup))


def serve(
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: PortOption = 8000,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
    acl: AclOption = None,
) -> None:
    """Start a server on Redis at REDIS_URL (default: redis://localhost:6379/0)."""
    _say_that_it_starts()
    from memx_server.cli import banner

    environ = {**os.environ, **({"MEMX_ACL_FILE": str(acl)} if acl else {})}
    _start(
        environ,
        host,
        port,
        workers,
        lambda url, settings: banner.serve(Console(), url, settings, workers),
    )


def _valid_question(text: str) -> str:
    if not text.strip():
        raise typer.BadParameter("ask something")
    if len(text) > _LONGEST_QUESTION:
        raise typer.BadParameter(f"ask in {_LONGEST_QUESTION} characters at the most")
    return text


def demo(
    question: Annotated[
        str, typer.Option(callback=_valid_question, help="What to find out.")
    ] = _QUESTION,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="PROVIDER:NAME",
            help="A LangChain chat model, in place of the built-in library.",
        ),
    ] = None,
    pace: Annotated[
        float | None,
        typer.Option(min=0, help=f"Seconds for each step. Default: {_PACE} on a terminal, else 0."),
    ] = None,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds until it has failed.")] = 60.0,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave the server running afterwards, until Ctrl-C.")
    ] = False,
    open_page: Annotated[
        bool, typer.Option("--open", help="Watch it in a browser too; implies --keep.")
    ] = False,
) -> None:
    """Watch agents answer a question over shared keys, on a server of their own."""
    from memx_server.demo.minds import Librarian, NoChatModelError, chat_model
    from memx_server.demo.run import Staying, run_demo
    from memx_server.demo.team import TeamFailedError

    console = Console(highlight=False)
    if pace is None:
        pace = _PACE if console.is_terminal else 0.0
    try:
        mind = chat_model(model) if model else Librarian()
        staying = Staying(keep, open_page, _own_name())
        run_demo(console, question, mind=mind, pace=pace, deadline=timeout, staying=staying)
    except NoChatModelError as error:
        _fail(str(error))
    except TeamFailedError as error:
        _print_error(str(error))
        _exit_now(ExitCode.ERROR)
    except KeyboardInterrupt:
        _exit_now(ExitCode.INTERRUPTED)


def _say_that_it_starts() -> None:
    """Answer a person at once: what a server imports takes a second, on a slow disk several."""
    console = Console(stderr=True, highlight=False)
    if console.is_terminal:
        console.print("memX starts …", style="dim")


def _own_name() -> str:
    """Return how a person types this command here: its name where PATH leads to it, else its path."""
    own = Path(sys.argv[0])
    found = shutil.which("memx")
    if found and own.exists() and Path(found).samefile(own):
        return "memx"
    return os.path.relpath(own) if own.is_relative_to(Path.cwd()) else str(own)


def _start(
    environ: Mapping[str, str],
    host: str,
    port: int,
    workers: int,
    print_banner: Callable[[str, Settings], None],
) -> None:
    """Run a server until a signal ends it; what keeps it from starting is one line and an exit code."""
    from memx_server import serving
    from memx_server.storage.errors import CannotOpen
    from memx_server.storage.sqlite import SqliteStore

    settings, app, listener = _prepare(environ, host, port, workers)

    def on_listening() -> None:
        url = serving.url_of(listener)
        if isinstance(app.store, SqliteStore):
            # Whoever finds the database in use reads there which server has it.
            app.store.announce(address=url)
        _announce(url, settings, print_banner)

    try:
        if workers == 1:
            serving.run(app, listener, on_listening)
        else:
            # Each worker builds an application of its own, and reads its settings from the environment.
            os.environ.update({**environ, "MEMX_WORKERS": str(workers)})
            with TemporaryDirectory(prefix="memx-figures-") as folder:
                # Whichever worker a scrape reaches tells the figures of all.
                os.environ["MEMX_WORKER_FIGURES"] = folder
                raise typer.Exit(serving.run_workers(workers, listener, on_listening))
    except CannotOpen as error:
        _fail(str(error))
    except KeyboardInterrupt:
        raise typer.Exit(ExitCode.INTERRUPTED) from None


def _prepare(
    environ: Mapping[str, str], host: str, port: int, workers: int
) -> tuple[Settings, MemxApp, socket]:
    """Make all that can fail by a mistake of the operator before anything runs.

    With several workers the application of this process serves nothing; it is made so that a setting that cannot be
    used is one line here, and not one for each worker that ends and is started again.
    """
    from memx_server import serving
    from memx_server.app import create_app
    from memx_server.cli.local_setup import acl_fault
    from memx_server.settings import Settings
    from memx_server.storage.sqlite import SqliteStore
    from memx_server.unknown_settings import unknown_settings

    try:
        serving.log_level()
        serving.log_form()
        settings = Settings.from_env(environ)
        for fault in unknown_settings(environ):
            _print_note(fault)
        # A running server waits for a file of API keys; one that is started without is a mistake.
        if not _uses_supabase(environ) and (no_keys := acl_fault(settings.acl_file)):
            _fail(no_keys)
        app = create_app(settings)
        if workers > 1 and isinstance(app.store, SqliteStore):
            _fail("a SQLite store belongs to one process; leave --workers away, or use Redis")
        return settings, app, serving.listen(host, port)
    except (ValueError, serving.CannotListenError) as error:
        _fail(str(error))


def _announce(url: str, settings: Settings, print_banner: Callable[[str, Settings], None]) -> None:
    """Print the banner once the server at ``url`` is ready, and before that why it is not."""
    from memx_server.cli import readiness

    def print_wait(reason: str) -> None:
        _print_note(
            f"memX listens at {url} and is not ready: {printable(reason)}. Requests get 503 until it is; it goes on "
            "trying."
        )

    # The server may refuse a request under a name that is not its own.
    names = [each for each in settings.allowed_hosts if each != "*"] or ["localhost"]
    readiness.announce(url, names[0], lambda: print_banner(url, settings), print_wait)


def _uses_supabase(environ: Mapping[str, str]) -> bool:
    return bool(environ.get("SUPABASE_URL") and environ.get("SUPABASE_SERVICE_KEY"))


def _check_settings() -> Iterator[Finding]:
    """Name the variables that look like settings and are none."""
    from memx_server.unknown_settings import unknown_settings

    for fault in unknown_settings(os.environ):
        what, _, meant = fault.partition("; ")
        yield Finding("settings", "warning", what, meant or "correct its name, or remove it")


def _check_acl_file() -> Iterator[Finding]:
    """Check the ACL file that a server started here would use, if there is one."""
    from memx_server.cli.local_setup import acl_fault, agents_with_several_scopes
    from memx_server.settings import DEFAULT_ACL_FILE

    named = os.environ.get("MEMX_ACL_FILE")
    path = Path(named or DEFAULT_ACL_FILE)
    if not named and not path.exists():
        return
    if fault := acl_fault(path):
        yield Finding("acl", "problem", fault, "correct it; a server re-reads it by itself")
        return
    yield Finding("acl", "ok", f"{path} can be read")
    for agent, space, labels in agents_with_several_scopes(path):
        yield Finding(
            "agents",
            "warning",
            f"{', '.join(labels)} are keys of one agent, {agent!r} in space {space!r}, and may do different things; "
            "they share its durable subscriptions and its name as a writer",
            "give each its own agent, or the same scopes where one is to replace the other",
        )


def _fail(why: str) -> NoReturn:
    _print_error(why)
    raise typer.Exit(ExitCode.ERROR)


def _print_note(text: str) -> None:
    Console(stderr=True, highlight=False).print(Text(text, "yellow"), soft_wrap=True)


def _print_error(why: str) -> None:
    Console(stderr=True, highlight=False).print(
        Text.assemble(("error: ", "bold red"), printable(why)), soft_wrap=True
    )


def _exit_now(code: ExitCode) -> NoReturn:
    """End the process without joining its threads: a chat model may hang in one."""
    sys.stdout.flush()
    os._exit(code)
