"""``memx export`` and ``memx import``: a space, or a part of it, as a file of JSON lines."""

from __future__ import annotations

import typer

from memx_sdk.cli.transfer.exporting import export
from memx_sdk.cli.transfer.importing import import_

_PANEL = "Data in and out"


def add_to(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command(rich_help_panel=_PANEL)(export)
    app.command("import", rich_help_panel=_PANEL)(import_)
