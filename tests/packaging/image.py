"""The Dockerfile's own steps, carried out in a folder instead of an image.

An absolute path of the image stands for the same path under ``Image.root``; the base image's
``python`` is the interpreter that runs the tests. A new stage starts from an empty root, to which
``COPY --from`` moves what it names. Everything else is done as written, in an environment with only
what ``ENV`` sets.
"""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from dockerfile_parse import DockerfileParser

PASSED_ON = re.compile(r"PIP_.*|SSL_CERT_.*|.*_proxy|TMPDIR", re.IGNORECASE)
"""The machine's way to its package index; a builder's machine has its own."""


class Image:
    """What a Dockerfile makes of a build context.

    Attributes:
        root: Stands for ``/``.
        env: The environment of its processes.
        command: ``CMD``, with the image's paths mapped.
        healthcheck: The command of ``HEALTHCHECK``, likewise.
    """

    def __init__(self, context: Path, folder: Path) -> None:
        self.context = context
        self.folder = folder
        self.root = folder / "root"
        self.command: list[str] = []
        self.healthcheck: list[str] = []
        self._begin_stage()

    def build(self) -> None:
        """Carry out every step of ``Dockerfile``."""
        for instruction, value in steps(self.context / "Dockerfile"):
            getattr(self, f"_{instruction.lower()}")(value)

    def map(self, text: str) -> str:
        """Put ``root`` before every absolute path in ``text`` that is not the base system's."""
        return re.sub(r"(?<![\w.:/-])/(?!(?:bin|dev|etc|proc|usr)/)(?=\w)", f"{self.root}/", text)

    def _begin_stage(self) -> None:
        shims = self.folder / "base/bin"
        if not shims.exists():
            shims.mkdir(parents=True)
            python = shims / "python"
            interpreter = Path(sys.base_exec_prefix, "bin", Path(sys.executable).resolve().name)
            python.write_text(f'#!/bin/sh\nexec "{interpreter}" "$@"\n')
            python.chmod(0o755)
        self.root.mkdir()
        self.workdir = self.root
        self.env = {name: os.environ[name] for name in os.environ if PASSED_ON.fullmatch(name)}
        # An image is started often and built once, a test's is the other way round.
        self.env |= {
            "PATH": f"{shims}:/usr/bin:/bin",
            "HOME": str(self.root),
            "PIP_NO_COMPILE": "1",
        }

    def _from(self, _value: str) -> None:
        previous = self.folder / "previous"
        shutil.rmtree(previous, ignore_errors=True)
        self.root.rename(previous)
        self._begin_stage()

    def _workdir(self, value: str) -> None:
        self.workdir = self._path(value)
        self.workdir.mkdir(parents=True, exist_ok=True)

    def _env(self, value: str) -> None:
        for assignment in shlex.split(value):
            name, _, text = assignment.partition("=")
            first, *rest = text.split(":")
            first = str(self._path(first)) if first.startswith("/") else first
            self.env[name] = ":".join([first, *rest]).replace("$PATH", self.env["PATH"])

    def _copy(self, value: str) -> None:
        *sources, target = shlex.split(value)
        if sources[0].startswith("--from="):
            for source in sources[1:]:
                self._path(target).parent.mkdir(parents=True, exist_ok=True)
                (self.folder / "previous" / source.lstrip("/")).rename(self._path(target))
            return
        for source in sources:
            for path in self._context_files(source):
                place = self._path(target) / (
                    Path(path).name if target.endswith("/") else Path(path).relative_to(source)
                )
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(self.context / path, place)

    def _run(self, value: str) -> None:
        self.run(["sh", "-c", self.map(value)])

    def _cmd(self, value: str) -> None:
        self.command = json.loads(self.map(value))

    def _healthcheck(self, value: str) -> None:
        self.healthcheck = json.loads(self.map(value.partition("CMD")[2]))

    def _user(self, _value: str) -> None:
        """Who runs it is read off the file by a test of its own."""

    _expose = _comment = _user

    def run(self, command: list[str]) -> None:
        """Run ``command`` to its end as a process of the image; it must succeed."""
        done = subprocess.run(
            command, cwd=self.workdir, env=self.env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"

    def start(self, command: list[str], env: dict[str, str]) -> subprocess.Popen[bytes]:
        """Start ``command`` as the image's one process."""
        return subprocess.Popen(
            [self._which(command[0]), *command[1:]],
            cwd=self.workdir,
            env=self.env | env,
            stdin=subprocess.DEVNULL,
            stdout=(self.folder / "log").open("wb"),
            stderr=subprocess.STDOUT,
        )

    def _which(self, name: str) -> str:
        return shutil.which(name, path=self.env["PATH"]) or name

    def _path(self, text: str) -> Path:
        return self.root / text.lstrip("/") if text.startswith("/") else self.workdir / text

    def _context_files(self, source: str) -> Iterator[str]:
        """Files of the checkout under ``source`` that the .dockerignore lets through."""
        named = self.context / source
        inside = sorted(named.rglob("*")) if named.is_dir() else [named]
        listed = [str(path.relative_to(self.context)) for path in inside if path.is_file()]
        text = (self.context / ".dockerignore").read_text(encoding="utf-8")
        rules = [line for line in text.splitlines() if line and not line.startswith("#")]
        found = [path for path in listed if not ignored(path, rules)]
        assert found, f"COPY {source}: nothing in the build context"
        yield from found


def steps(dockerfile: Path) -> Iterator[tuple[str, str]]:
    """The instructions of a Dockerfile, in order."""
    for step in DockerfileParser(str(dockerfile)).structure:
        yield step["instruction"], step["value"]


def ignored(path: str, rules: list[str]) -> bool:
    """Tell whether a .dockerignore leaves ``path`` out: the last rule that names it decides."""
    names = [path, *(str(parent) for parent in Path(path).parents)]
    verdict = False
    for rule in rules:
        if any(fnmatch.fnmatchcase(name, rule.lstrip("!")) for name in names):
            verdict = not rule.startswith("!")
    return verdict
