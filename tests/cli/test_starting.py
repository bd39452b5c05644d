"""A server's command answers a person at once, and before it has imported a server."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

import pytest

from tests.cli.conftest import MEMX, Memx, end


@pytest.mark.parametrize("command", ["dev", "serve"])
def test_on_a_terminal_it_says_at_once_that_it_starts(memx: Memx, command: str) -> None:
    ours, theirs = pty.openpty()
    environ = {**memx.environ, "TERM": "xterm", "PYTHONVERBOSE": "", "PYTHONPROFILEIMPORTTIME": ""}
    process = subprocess.Popen(
        [MEMX, command, "--port", "0"],
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=theirs,
        env=environ,
        cwd=memx.folder,
    )
    os.close(theirs)
    try:
        assert b"memX starts" in os.read(ours, 4096)
    finally:
        end(process)  # type: ignore[arg-type]  # it reads nothing of it
        os.close(ours)


def test_the_commands_import_no_server() -> None:
    """So the first line comes before the second in which FastAPI, the store and the rest are imported."""
    program = (
        "import sys, memx_server.cli.commands; "
        "print(*sorted({'fastapi', 'uvicorn', 'redis', 'supabase', 'jsonschema_rs'} & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []
