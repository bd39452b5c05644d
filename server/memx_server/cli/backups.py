"""``memx backup|restore|migrate``: a whole store to a file and back, and what the original memX left."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO, NoReturn
from uuid import UUID

import msgspec
import platformdirs
import typer
from rich.console import Console
from rich.text import Text

from memx_sdk.cli.checks import Finding
from memx_sdk.cli.exits import ExitCode
from memx_sdk.cli.transfer import dump
from memx_sdk.cli.values import printable
from memx_sdk.protocol.errors import ProtocolError
from memx_sdk.protocol.keys import validate_key, validate_pattern
from memx_server.domain.access import DEFAULT_SPACE

if TYPE_CHECKING:
    from memx_server.storage.original import OriginalItem

_PANEL = "Data in and out"
_DATABASE = "memx.db"
_LISTED = 20
_USER_DIGITS = 8
"""Characters of a user's id that the original put before its keys."""
_REDIS_HINT = (
    "a Redis is backed up by its own means: `redis-cli BGSAVE` writes dump.rdb, and its append-only file is on the "
    "disk already; see docs/operations.md. `memx export` writes a space of any store"
)

DataOption = Annotated[
    str | None,
    typer.Option(
        metavar="DIR", help="The folder of `memx dev`. Default: that with your user data."
    ),
]


def add_to(app: typer.Typer) -> None:
    """Add the commands to the application."""
    for command in (backup, restore, migrate):
        app.command(rich_help_panel=_PANEL)(command)


def backup(
    file: Annotated[Path, typer.Argument(help="The file to make.")], data: DataOption = None
) -> None:
    """Copy the memory of `memx dev` to a file, as it is at one moment; the server may go on."""
    from memx_server.storage.backups import back_up
    from memx_server.storage.errors import CannotOpen

    try:
        size = back_up(_database(data), file)
    except CannotOpen as error:
        _fail(str(error))
    _note(f"{file}: {size:,} bytes")


def restore(
    file: Annotated[Path, typer.Argument(help="A file that `memx backup` made.")],
    data: DataOption = None,
) -> None:
    """Put a backup in the place of the memory of `memx dev`, which must not run. What was there is kept."""
    from memx_server.storage.backups import restore as put_back
    from memx_server.storage.errors import CannotOpen

    try:
        aside = put_back(file, _database(data))
    except CannotOpen as error:
        _fail(str(error))
    _note("restored" if aside is None else f"restored; what was there is in {aside}")


def migrate(
    source: Annotated[
        str, typer.Argument(metavar="REDIS_URL", help="The Redis of the original memX.")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Where the dumps go.")
    ],
    user: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ID", help="A user whose keys are there. May be given more than once."
        ),
    ] = None,
) -> None:
    """Write what the original memX left in a Redis as dumps for `memx import`, one for each user; it only reads.

    With SUPABASE_URL and SUPABASE_SERVICE_KEY set, the users of the table are known too.
    """
    users = [*(user or ()), *_users_of_table()]
    try:
        output.mkdir(parents=True, exist_ok=True)
        with _Dumps(output, _by_prefix(users)) as dumps:
            asyncio.run(_write(source, dumps))
    except FileExistsError as error:
        _fail(f"{error.filename} exists; choose another folder")
    except OSError as error:
        _fail(f"cannot write {error.filename}: {error.strerror}")
    except ProtocolError as error:
        _fail("; ".join(map(str, getattr(error, "args", ()))) or error.detail, ExitCode.UNREACHABLE)
    except ValueError as error:
        _fail(f"{source} cannot be used: {error}")
    for space, path, count in dumps.written:
        key = "an API key" if space == DEFAULT_SPACE else f"an API key of {space}"
        _note(
            f"{path}: {count} entries and schemas; `memx import {path}` with {key} brings them in"
        )
    if dumps.left:
        _note(f"left where they are: {len(dumps.left)}", "yellow")
        for key, why in dumps.left[:_LISTED]:
            _note(f"  {printable(key)}: {why}")
        with suppress(OSError):
            _write_left(output / "left.txt", dumps.left)


async def _write(source: str, dumps: _Dumps) -> None:
    from memx_server.storage.original import read_original

    async for item in read_original(source):
        dumps.add(item)


class _Dumps:
    """The dumps of a migration, one for each space.

    Attributes:
        left: The keys that no dump holds, each with the reason.
        written: For each dump its space, its file and how many things it holds.
    """

    def __init__(self, folder: Path, users: dict[str, list[str]]) -> None:
        self.left: list[tuple[str, str]] = []
        self.written: list[tuple[str, Path, int]] = []
        self._folder = folder
        self._users = users
        self._files: dict[str, tuple[BinaryIO, Path]] = {}
        self._counts: dict[str, int] = {}
        self._open = ExitStack()

    def __enter__(self) -> _Dumps:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            for space, (file, path) in self._files.items():
                # A dump without its end is refused: one of a migration that broke off is never taken for a whole one.
                file.write(dump.line("end", {"lines": self._counts[space] + 2}))
                self.written.append((space, path, self._counts[space]))
        self._open.close()

    def add(self, item: OriginalItem) -> None:
        """Write a value or a schema to the dump of its space, or note why not."""
        place = self._place(item.key)
        if isinstance(place, str):
            self.left.append((item.key, place))
            return
        space, key = place
        try:
            (validate_pattern if item.is_schema else validate_key)(key)
        except ProtocolError as error:
            self.left.append((item.key, error.detail))
            return
        if item.text is None:
            self.left.append((item.key, "what is stored is no JSON of the original"))
            return
        self._write(space, key, item)

    def _write(self, space: str, key: str, item: OriginalItem) -> None:
        text = msgspec.Raw(item.text or b"null")
        if item.is_schema:
            line = dump.line("schema", {"key": key, "schema": text})
        else:
            expires_at = None if item.ttl_ms is None else time.time() + item.ttl_ms / 1000
            line = dump.line("entry", {"key": key, "value": text, "expires_at": expires_at})
        self._file(space).write(line)
        self._counts[space] += 1

    def _place(self, key: str) -> tuple[str, str] | str:
        """Return the space of a key and its name there, or why that cannot be told."""
        prefix, colon, rest = key.partition(":")
        if not colon or len(prefix) != _USER_DIGITS:
            return DEFAULT_SPACE, key
        users = self._users.get(prefix, [])
        if len(users) == 1:
            return users[0], rest
        if users:
            return f"{len(users)} users' ids begin like that"
        if all(character in "0123456789abcdef" for character in prefix):
            return "it looks like a user's; name the user with --user"
        return DEFAULT_SPACE, key

    def _file(self, space: str) -> BinaryIO:
        if space not in self._files:
            path = self._folder / f"{space}.jsonl"
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            file = self._open.enter_context(os.fdopen(descriptor, "wb"))
            header = {"format": dump.FORMAT, "version": version("memx-server"), "space": space}
            file.write(dump.line("memx_dump", header))
            # No page: nothing in it replaces anything else.
            file.write(dump.line("page", ""))
            self._files[space], self._counts[space] = (file, path), 0
        return self._files[space][0]


def check_original() -> Iterator[Finding]:
    """Notice data of the original memX in the Redis of this machine's settings."""
    from memx_server.storage.original import holds_original

    url = os.environ.get("REDIS_URL")
    if not url:
        return
    # What is wrong with that Redis is told by the other checks.
    with suppress(ProtocolError, ValueError, OSError):
        if holds_original(url):
            yield Finding(
                "original",
                "warning",
                "REDIS_URL holds data of the original memX (memx:value:*), which this one does not read",
                "`memx migrate $REDIS_URL --output DIR`, then `memx import`",
            )


def _by_prefix(users: Sequence[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for each in users:
        try:
            user = str(UUID(each))
        except ValueError:
            raise typer.BadParameter(f"--user: {each!r} is no user's id (a UUID)") from None
        known = found.setdefault(user[:_USER_DIGITS], [])
        if user not in known:
            known.append(user)
    return found


def _users_of_table() -> list[str]:
    from memx_server.settings import SupabaseSettings

    settings = SupabaseSettings.from_env(os.environ)
    if settings is None:
        return []
    from memx_server.auth.key_store import KeyStoreUnavailable
    from memx_server.auth.supabase import SupabaseKeyStore

    try:
        keys = SupabaseKeyStore(settings.url, settings.service_key).keys()
    except KeyStoreUnavailable as error:
        _fail(str(error), ExitCode.UNREACHABLE)
    return [key.grant.space for key in keys if key.grant.space != DEFAULT_SPACE]


def _database(data: str | None) -> Path:
    if data is not None and data.partition(":")[0] in ("redis", "rediss", "unix", "redis+sentinel"):
        _fail(_REDIS_HINT)
    path = platformdirs.user_data_path("memx") if data is None else Path(data)
    return path if path.suffix == ".db" else path / _DATABASE


def _write_left(path: Path, left: Sequence[tuple[str, str]]) -> None:
    path.write_text("".join(f"{printable(key)}\t{why}\n" for key, why in left), encoding="utf-8")
    _note(f"  all of them: {path}")


def _note(text: str, style: str = "") -> None:
    Console(stderr=True, highlight=False).print(Text(printable(text), style), soft_wrap=True)


def _fail(why: str, code: ExitCode = ExitCode.ERROR) -> NoReturn:
    Console(stderr=True, highlight=False).print(
        Text.assemble(("error: ", "bold red"), printable(why)), soft_wrap=True
    )
    raise typer.Exit(code)
