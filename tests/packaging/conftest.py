"""Every distribution, built once for all tests of this folder."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from dataclasses import dataclass
from email.message import Message
from email.parser import Parser
from functools import cached_property
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = {
    "memx-sdk": ROOT,
    "memx-server": ROOT / "server",
    "langchain-memx": ROOT / "integrations/langchain",
    "autogen-memx": ROOT / "integrations/autogen",
    "memx-mcp": ROOT / "integrations/mcp",
}


@dataclass(frozen=True)
class Distribution:
    """A wheel and the sdist that it was built from."""

    name: str
    wheel: Path
    sdist: Path

    @property
    def package(self) -> str:
        """The one package that it installs."""
        return self.name.replace("-", "_")

    @cached_property
    def project(self) -> dict[str, Any]:
        """The ``[project]`` table of its pyproject.toml."""
        text = (FOLDERS[self.name] / "pyproject.toml").read_text(encoding="utf-8")
        table: dict[str, Any] = tomllib.loads(text)["project"]
        return table

    @cached_property
    def files(self) -> list[str]:
        """What the wheel installs."""
        with ZipFile(self.wheel) as archive:
            return archive.namelist()

    @cached_property
    def metadata(self) -> Message:
        """The wheel's METADATA."""
        with ZipFile(self.wheel) as archive:
            (path,) = (name for name in self.files if name.endswith(".dist-info/METADATA"))
            return Parser().parsestr(archive.read(path).decode())

    @property
    def requirements(self) -> list[str]:
        """What it requires, extras included."""
        return self.metadata.get_all("Requires-Dist", [])


@pytest.fixture(scope="session")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Distribution]:
    """All five by name; each wheel is built from its sdist, as an index would have it."""
    target = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(target)]
    running = {
        name: subprocess.Popen(
            [*command, str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        for name, folder in FOLDERS.items()
    }
    for name, process in running.items():
        output, _ = process.communicate(timeout=50)
        assert process.returncode == 0, f"{name}: {output.decode()}"
    return {name: find(name, target) for name in FOLDERS}


def find(name: str, target: Path) -> Distribution:
    stem = name.replace("-", "_")
    (wheel,) = target.glob(f"{stem}-*.whl")
    (sdist,) = target.glob(f"{stem}-*.tar.gz")
    return Distribution(name, wheel, sdist)
