"""Stands for ``pip`` in the documentation's shell blocks: resolves without installing.

An index may have older releases of our own distributions, so they are taken from this checkout. A
name or an extra that does not exist fails.
"""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement

ROOT = Path(__file__).resolve().parents[2]
OPTIONS = ["--dry-run", "--no-deps", "--no-build-isolation", "-c", str(ROOT / "constraints.txt")]


def main() -> None:
    """Act as ``pip install ...``."""
    command, *arguments = sys.argv[1:]
    own = projects()
    found = [from_checkout(argument, own) for argument in arguments]
    subprocess.run([sys.executable, "-m", "pip", command, *OPTIONS, *found], check=True)


def from_checkout(argument: str, own: dict[Path, dict[str, Any]]) -> str:
    """Put the folder in place of the name of one of our distributions."""
    try:
        wanted = Requirement(argument)
    except InvalidRequirement:
        return argument
    for folder, project in own.items():
        if project["name"] == wanted.name:
            unknown = wanted.extras - project.get("optional-dependencies", {}).keys()
            if unknown:
                sys.exit(f"{wanted.name} has no extra {', '.join(unknown)}")
            return str(folder)
    return argument


def projects() -> dict[Path, dict[str, Any]]:
    """The folder and the ``[project]`` table of each distribution."""
    files = [*ROOT.glob("pyproject.toml"), *ROOT.glob("server/pyproject.toml")]
    files += ROOT.glob("integrations/*/pyproject.toml")
    tables = (tomllib.loads(file.read_text(encoding="utf-8"))["project"] for file in files)
    return {file.parent: table for file, table in zip(files, tables, strict=True)}


if __name__ == "__main__":
    main()
