"""``memx schema list|delete --store``: the schemas of a store, without a running server.

A schema that holds a server up is in the store. A restart does not help then, and the server does not answer the
request that would remove it. The option ``--store`` therefore opens the store itself.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn

import msgspec
import typer

from memx_sdk import MemxError
from memx_sdk.cli.exits import ExitCode
from memx_sdk.cli.output import Output
from memx_sdk.cli.values import compact, printable
from memx_server.domain.access import DEFAULT_SPACE
from memx_server.domain.schema.spaces import forget_space, noted_spaces
from memx_server.storage.base import (
    Committed,
    DeleteSchema,
    Store,
    StoreUnavailable,
    Transaction,
)
from memx_server.storage.sqlite import CannotOpen

_PANEL = "Without a server"
_DATABASE = "memx.db"
_WRITER = "operator"
_REASON = "removed by memx schema delete --store"

_StoreOption = Annotated[
    str | None,
    typer.Option(
        metavar="URL|DIR",
        help="Open this store itself: the folder of `memx dev`, or a Redis URL.",
        rich_help_panel=_PANEL,
    ),
]
_SpaceOption = Annotated[str, typer.Option(help="The space in that store.", rich_help_panel=_PANEL)]
_AllSpacesOption = Annotated[
    bool,
    typer.Option(
        "--all-spaces", help="All spaces of that store that hold schemas.", rich_help_panel=_PANEL
    ),
]


def add_to(app: typer.Typer) -> None:
    """Give the commands ``list`` and ``delete`` of the group ``schema`` the option ``--store``."""
    on_store: dict[str, _OnStore] = {"list": _list, "delete": _delete}
    for command in app.registered_commands:
        name = command.name or getattr(command.callback, "__name__", "")
        if command.callback is None or name not in on_store:
            continue
        # The application may be built more than once in a process, around the same group.
        if "store" not in inspect.signature(command.callback).parameters:
            command.callback = _with_store(command.callback, on_store[name])


_OnStore = Callable[..., Coroutine[Any, Any, None]]


def _with_store(command: Callable[..., None], on_store: _OnStore) -> Callable[..., None]:
    """Return ``command`` with the options ``--store``, ``--space`` and ``--all-spaces``.

    Args:
        command: The command that talks to a server.
        on_store: The same with an open store: its parameters are the store, the space (None for all), the output and
            the arguments of the command.
    """

    @functools.wraps(command)
    def run(*, store: str | None, space: str, all_spaces: bool, **arguments: Any) -> None:
        if store is None:
            command(**arguments)
            return
        output = Output(as_json=arguments["json"])
        own = {name: arguments[name] for name in ("key",) if name in arguments}
        where = None if all_spaces else space
        _finish(_opened(store, lambda opened: on_store(opened, where, output, **own)), output)

    def option(name: str, annotation: Any, default: str | bool | None) -> inspect.Parameter:
        keyword = inspect.Parameter.KEYWORD_ONLY
        return inspect.Parameter(name, keyword, default=default, annotation=annotation)

    parameters = [
        *inspect.signature(command).parameters.values(),
        option("store", _StoreOption, None),
        option("space", _SpaceOption, DEFAULT_SPACE),
        option("all_spaces", _AllSpacesOption, False),
    ]
    # Typer reads a command's options off its signature.
    run.__dict__["__signature__"] = inspect.Signature(parameters)
    run.__annotations__ = {each.name: each.annotation for each in parameters}
    return run


async def _list(store: Store, space: str | None, output: Output) -> None:
    for name in await _spaces(store, space):
        schemas = await store.schemas(name)
        # Of several spaces, each line and each document names its own.
        document = {} if space is not None else {"space": name}
        column = "" if space is not None else f"{printable(name)}\t"
        for key, text in sorted(schemas.by_pattern.items()):
            schema = msgspec.Raw(text)
            if output.as_json:
                output.document({**document, "key": key, "schema": schema})
            else:
                output.line(f"{column}{printable(key)}\t{compact(schema)}")


async def _spaces(store: Store, space: str | None) -> Sequence[str]:
    """Return the one space that is meant, or else all that hold schemas."""
    if space is not None:
        return [space]
    found = []
    for name in sorted({DEFAULT_SPACE, *await noted_spaces(store.state)}):
        if (await store.schemas(name)).by_pattern:
            found.append(name)
        else:
            await forget_space(store.state, name)
    return found


async def _delete(store: Store, space: str | None, output: Output, key: str) -> None:
    if space is not None:
        await _delete_one(store, space, output, key)
        return
    held = [
        name for name in await _spaces(store, None) if key in (await store.schemas(name)).by_pattern
    ]
    if not held:
        _fail(
            output,
            "not_found",
            f"no schema is registered for exactly {key!r} in any space; memx schema list --store --all-spaces "
            "lists all",
            ExitCode.NOT_FOUND,
        )
    for name in held:
        await _delete_one(store, name, output, key)


async def _delete_one(store: Store, space: str, output: Output, key: str) -> None:
    # The log gets its record, so that servers on the same Redis and their subscribers hear of it.
    transaction = Transaction(writer=_WRITER, writes=(DeleteSchema(key, _REASON),))
    (outcome,) = await store.commit(space, (transaction,))
    if isinstance(outcome, StoreUnavailable):
        raise outcome
    if not (isinstance(outcome, Committed) and outcome.written[0].changed):
        _fail(
            output,
            "not_found",
            f"no schema is registered for exactly {key!r} in space {space!r}; memx schema list --store lists all",
            ExitCode.NOT_FOUND,
        )
    if output.as_json:
        revision = outcome.position.revision
        output.document({"ok": True, "space": space, "key": key, "revision": revision})
    else:
        output.note(f"no schema of {printable(key)} in space {printable(space)} any more")


async def _opened(url: str, work: Callable[[Store], Coroutine[Any, Any, None]]) -> None:
    async with _open(_store_url(url)) as store:
        await work(store)


@asynccontextmanager
async def _open(url: str) -> AsyncIterator[Store]:
    # It imports the whole server.
    from memx_server.app import open_store

    store = open_store(url)
    try:
        await store.open()
        yield store
    finally:
        await store.close()


def _store_url(given: str) -> str:
    """Return the store's URL; a folder, and a database in it, are named as `memx dev` names them.

    Raises:
        ValueError: There is no database, and none is to be made.
    """
    # The forms in which other commands name a folder are taken too.
    scheme, separator, rest = given.partition(":")
    if separator and scheme not in ("sqlite", "embedded", "shared"):
        return given
    path = Path(rest if separator else given)
    if path.is_dir():
        path /= _DATABASE
    # Opening it would make a new database, and list nothing.
    if not path.is_file():
        raise ValueError(f"there is no database of memX at {path}; name its folder, or a Redis URL")
    return f"sqlite:{path}"


def _finish(work: Coroutine[Any, Any, None], output: Output) -> None:
    try:
        asyncio.run(work)
    except KeyboardInterrupt:
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    except StoreUnavailable as error:
        # What it is raised with is the driver's own message; an operator may read it.
        why = "; ".join(map(str, error.args)) or error.detail
        _fail(output, error.code, f"the store cannot be reached: {why}", ExitCode.UNREACHABLE)
    except CannotOpen as error:
        _fail(output, "unavailable", str(error), ExitCode.UNREACHABLE)
    except ValueError as error:
        _fail(output, "invalid_request", str(error), ExitCode.ERROR)


def _fail(output: Output, code: str, why: str, exit_code: ExitCode) -> NoReturn:
    output.failure(MemxError(code, why))
    raise typer.Exit(exit_code)
