"""``memx keys``: a list of keys, and the group of what else can be done about keys."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

from memx_sdk.cli import data

_DEFAULT = "show"


class KeysGroup(TyperGroup):
    """Takes what is no command of the group as arguments of ``show``: ``memx keys 'plan:*'``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the default command in where none is named."""
        # A pattern that is named like a command has to be given as ``memx keys show list``.
        named = args and (args[0] in self.commands or args[0] in ctx.help_option_names)
        return super().parse_args(ctx, args if named else [_DEFAULT, *args])


app = typer.Typer(
    cls=KeysGroup,
    help="List the keys that match a pattern. `memx keys PATTERN` is short for `memx keys show PATTERN`.",
)
app.command(_DEFAULT)(data.keys)
