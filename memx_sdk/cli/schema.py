"""``memx schema get|set|delete|check|list``."""

from __future__ import annotations

from typing import Annotated

import typer

from memx_sdk.cli.completion import complete_schema
from memx_sdk.cli.exits import ExitCode
from memx_sdk.cli.session import Session, connected
from memx_sdk.cli.values import NEGATIVE_NUMBERS, compact, printable, read_value

app = typer.Typer(no_args_is_help=True, help="JSON Schemas that values must fit.")

PatternArgument = Annotated[
    str,
    typer.Argument(
        metavar="KEY",
        help="A key, or a pattern of the keys it governs.",
        autocompletion=complete_schema,
    ),
]


@app.command()
@connected
async def get(session: Session, key: PatternArgument) -> None:
    """Print the schema of exactly this key or pattern. Exit code 3 where there is none."""
    schema = await session.memory.get_schema(key)
    if session.output.is_terminal:
        session.output.console.print_json(compact(schema["schema"]))
    else:
        session.output.document(schema if session.output.as_json else schema["schema"])


@app.command("set")
@connected
async def set_(
    session: Session,
    key: PatternArgument,
    schema: Annotated[str, typer.Argument(help="A JSON Schema; [bold]-[/] stdin, [bold]@FILE[/].")],
) -> None:
    """Let values of a key, or of all keys of a pattern, be checked by a schema."""
    stored = await session.memory.set_schema(key, read_value(schema, name="SCHEMA"))
    if session.output.as_json:
        session.output.document(stored)
    else:
        session.output.note(f"values of {printable(key)} are checked from now on")


@app.command()
@connected
async def delete(session: Session, key: PatternArgument) -> None:
    """Remove the schema of exactly this key or pattern. Exit code 3 where there is none."""
    removed = await session.memory.delete_schema(key)
    if session.output.as_json:
        session.output.document(removed)
    else:
        session.output.note(f"no schema of {printable(key)} any more")


@app.command("list")
@connected
async def list_(session: Session) -> None:
    """List all schemas."""
    for schema in await session.memory.schemas():
        if session.output.as_json:
            session.output.document(schema)
        else:
            session.output.line(f"{printable(schema['key'])}\t{compact(schema['schema'])}")


@app.command(context_settings=NEGATIVE_NUMBERS)
@connected
async def check(
    session: Session,
    key: Annotated[str, typer.Argument(help="The key that would be written.")],
    value: Annotated[str, typer.Argument(help="JSON; [bold]-[/] stdin, [bold]@FILE[/] a file.")],
    string: Annotated[bool, typer.Option("--string", help="VALUE is a text, not JSON.")] = False,
) -> None:
    """Try a value without writing it. Exit code 5 where the key's schema refuses it."""
    validation = await session.memory.validate(key, read_value(value, as_string=string))
    if session.output.as_json:
        session.output.document(validation)
    elif validation["valid"]:
        governed = validation["schema"]
        by = f"by the schema of {printable(governed)}" if governed else "(no schema governs it)"
        session.output.note(f"valid {by}")
    else:
        session.output.note(f"the schema of {printable(validation['schema'])} refuses it", "red")
        for fault in validation["errors"]:
            session.output.fault(fault)
    if not validation["valid"]:
        raise typer.Exit(ExitCode.REFUSED)
