"""Write constraints.txt: one version of everything that a development environment installs.

    make pin                  keep the present pins; add and drop what the pyproject.toml ask for
    make pin PIN=--upgrade    move every pin to the newest version that fits

One resolution holds for every supported Python and platform; where they need different versions,
the line carries a marker. The resolver is uv, in a temporary environment, used for nothing else.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CONSTRAINTS = ROOT / "constraints.txt"
HEADER = "# Made by tools/pin.py; valid for Python 3.11 and later.\n"

DISTRIBUTIONS = {
    ".": "all",
    "server": "mcp",
    "integrations/langchain": "langgraph,agents",
    "integrations/autogen": "",
    "integrations/mcp": "embedded",
}
"""The folder of each distribution and the extras that `make test` installs it with."""


def main() -> None:
    """Resolve and write."""
    kept = "" if "--upgrade" in sys.argv[1:] else CONSTRAINTS.read_text(encoding="utf-8")
    CONSTRAINTS.write_text(HEADER + resolve(kept), encoding="utf-8")


def resolve(kept: str) -> str:
    """Return the lines that pin every dependency, preferring the versions in ``kept``."""
    with tempfile.TemporaryDirectory() as folder:
        wanted, pinned = Path(folder, "wanted.in"), Path(folder, "pinned.txt")
        lines = [f"-e {ROOT / path}[{extras}]\n" for path, extras in DISTRIBUTIONS.items()]
        wanted.write_text("".join(lines), encoding="utf-8")
        pinned.write_text(kept, encoding="utf-8")
        options = ["--universal", "--python-version", oldest_python(), "--group", "dev", "--quiet"]
        options += ["--no-header", "--no-annotate", "--output-file", str(pinned)]
        options += [word for name in names() for word in ("--no-emit-package", name)]
        subprocess.run([uv(folder), "pip", "compile", *options, str(wanted)], cwd=ROOT, check=True)
        return pinned.read_text(encoding="utf-8")


def uv(folder: str) -> str:
    """Install uv into ``folder`` and return its path."""
    venv.create(Path(folder, "uv"), with_pip=True)
    binaries = Path(folder, "uv", "bin")
    subprocess.run([binaries / "pip", "install", "-qq", "uv"], check=True)
    return str(binaries / "uv")


def names() -> list[str]:
    """The distributions' names, which are installed from the checkout and so never pinned."""
    return [project(path)["name"] for path in DISTRIBUTIONS]


def oldest_python() -> str:
    """The lowest version that ``requires-python`` admits."""
    return project(".")["requires-python"].removeprefix(">=")


def project(path: str) -> dict[str, str]:
    """The ``[project]`` table of the distribution in ``path``."""
    text = (ROOT / path / "pyproject.toml").read_text(encoding="utf-8")
    table: dict[str, str] = tomllib.loads(text)["project"]
    return table


if __name__ == "__main__":
    main()
