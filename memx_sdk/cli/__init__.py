"""The ``memx`` command."""

from __future__ import annotations

import io
import os
import sys


def main() -> None:
    """Run the command. It takes the extra ``cli``: ``pip install 'memx-sdk[cli]'``."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal that cannot show a character is no reason to fail.
            stream.reconfigure(errors="backslashreplace")
    try:
        try:
            from memx_sdk.cli.app import build, run
            from memx_sdk.cli.completion import BASH, join_colons
        except ModuleNotFoundError as error:
            if error.name not in ("typer", "rich"):
                raise
            sys.exit("the memx command needs two more packages: pip install 'memx-sdk[cli]'")
        if os.environ.get("_MEMX_COMPLETE") == BASH:
            join_colons(os.environ)
        run(build())
    except KeyboardInterrupt:
        sys.exit(130)
