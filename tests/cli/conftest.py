"""Runs the real ``memx`` command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

MEMX = Path(sys.executable).with_name("memx")
TIMEOUT = 30.0


@dataclass(frozen=True)
class Result:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        (line,) = self.out.splitlines()
        return json.loads(line)

    @property
    def documents(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]


@dataclass(frozen=True)
class Memx:
    """The ``memx`` command in an environment of its own."""

    environ: Mapping[str, str]
    folder: Path

    def __call__(self, *arguments: str, stdin: str = "", **environ: str) -> Result:
        ended = subprocess.run(
            [MEMX, *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            env={**self.environ, **environ},
            cwd=self.folder,
        )
        return Result(ended.returncode, ended.stdout, ended.stderr)

    def start(self, *arguments: str, **environ: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [MEMX, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**self.environ, **environ},
            cwd=self.folder,
        )


def clean_environ(folder: Path) -> dict[str, str]:
    """The tests' environment without settings for memX, and with a home of its own."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("MEMX_", "SUPABASE_", "REDIS_", "FORCE_COLOR", "XDG_"))
    }
    return kept | {"HOME": str(folder), "COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"}


@pytest.fixture
def memx(tmp_path: Path) -> Memx:
    """The command, with no server to talk to."""
    return Memx(clean_environ(tmp_path), tmp_path)
