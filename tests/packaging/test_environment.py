"""`make` on a machine with a Python and nothing else, played with stand-ins for interpreters."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.packaging.conftest import FOLDERS, ROOT

STAND_IN = """#!/bin/sh
# {version} of Python, as far as tools/environment.sh can see
case "$1 $2" in
    "-c import ensurepip"*) echo {version} ;;
    "-c "*) echo {prefix} {version} ;;
    "-m venv")
        mkdir -p "$4/bin" && cp "$0" "$4/bin/python"
        echo "command = $0 -m venv $3 $4" >"$4/pyvenv.cfg"
        echo "venv {version}" >>"$LOG" ;;
    "-m pip") shift 2 && echo "pip $*" >>"$LOG" ;;
esac
"""


class Machine:
    """A checkout's build files in a folder of their own, and a PATH with chosen interpreters."""

    def __init__(self, folder: Path) -> None:
        self.checkout = folder / "checkout"
        self.bin = folder / "bin"
        self.log = folder / "log"
        self.bin.mkdir(parents=True)
        for name in ("Makefile", "constraints.txt", "tools/environment.sh", "tools/compose.sh"):
            self._copy(name)
        for path in FOLDERS.values():
            self._copy(str((path / "pyproject.toml").relative_to(ROOT)))
        for tool in (
            "awk",
            "basename",
            "cat",
            "cksum",
            "cp",
            "dirname",
            "grep",
            "head",
            "ls",
            "mkdir",
            "sh",
        ):
            (self.bin / tool).symlink_to(shutil.which(tool) or tool)

    def install_python(self, name: str, version: str) -> Path:
        path = self.bin / name
        path.write_text(STAND_IN.format(version=version, prefix=path))
        path.chmod(0o755)
        return path

    def prepare(self, content: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Run tools/environment.sh there."""
        return self._run("sh", "tools/environment.sh", content, **env)

    def make(self, target: str) -> subprocess.CompletedProcess[str]:
        """Run make there."""
        return self._run(shutil.which("make") or "make", target)

    def done(self) -> list[str]:
        """What the interpreters were asked to do since the last call."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        self.log.unlink(missing_ok=True)
        return lines

    def _run(self, *command: str, **env: str) -> subprocess.CompletedProcess[str]:
        environ = {"PATH": str(self.bin), "HOME": str(self.checkout), "LOG": str(self.log), **env}
        return subprocess.run(
            command, cwd=self.checkout, env=environ, capture_output=True, text=True, check=False
        )

    def _copy(self, name: str) -> None:
        place = self.checkout / name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, place)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_help_needs_nothing_and_names_the_two_commands(machine: Machine) -> None:
    done = machine.make("help")
    assert done.returncode == 0
    assert "make demo" in done.stdout
    assert "make test" in done.stdout


COMPOSE = """#!/bin/sh
[ "$1 $2" = "compose version" ] || { echo "$*" >>"$LOG"; exit 0; }
[ -n "{version}" ] && echo "{version}" || { echo "docker: 'compose' is not a docker command." >&2; exit 1; }
"""


def install_docker(machine: Machine, compose: str) -> None:
    docker = machine.bin / "docker"
    docker.write_text(COMPOSE.replace("{version}", compose))
    docker.chmod(0o755)
    for tool in ("grep", "head", "od", "rm", "sort", "tail", "tr"):
        if not (machine.bin / tool).exists():
            (machine.bin / tool).symlink_to(shutil.which(tool) or tool)


@pytest.mark.parametrize("version", [None, "", "1.29.2", "2.17.3"])
def test_dev_without_a_compose_that_can_says_so(machine: Machine, version: str | None) -> None:
    install_docker(machine, version or "")
    if version is None:
        (machine.bin / "docker").unlink()
    done = machine.make("dev")
    assert done.returncode != 0
    assert "Compose 2.24" in done.stderr
    assert machine.done() == []
    assert not (machine.checkout / ".env").exists()


@pytest.mark.parametrize("version", ["2.24.0", "v2.40.3", "5.0.1"])
def test_dev_makes_a_password_once_and_starts(machine: Machine, version: str) -> None:
    install_docker(machine, version)
    env = machine.checkout / ".env"
    env.write_text("MEMX_LOG_LEVEL=info")
    for _ in range(2):
        assert machine.make("dev").returncode == 0
        assert machine.done() == ["compose up --build --detach --wait"]
        first, second = env.read_text().splitlines()
        assert first == "MEMX_LOG_LEVEL=info"
        assert re.fullmatch("MEMX_REDIS_PASSWORD=[0-9a-f]{48}", second)


def test_without_a_python_it_says_what_to_install(machine: Machine) -> None:
    machine.install_python("python3", "3.9")
    done = machine.prepare("demo")
    assert done.returncode != 0
    assert "needs Python 3.11, 3.12 or 3.13" in done.stderr
    assert "apt-get install python3" in done.stderr
    assert "make demo PYTHON=" in done.stderr
    assert machine.done() == []


def test_make_hands_that_message_on_and_stops(machine: Machine) -> None:
    done = machine.make("demo")
    assert done.returncode != 0
    assert "needs Python" in done.stderr


def test_the_demo_installs_only_the_server_and_the_sdk(machine: Machine) -> None:
    machine.install_python("python3", "3.12")
    done = machine.prepare("demo")
    assert done.returncode == 0, done.stderr
    assert "Python 3.12" in done.stdout
    made, tools, installed = machine.done()
    assert made == "venv 3.12"
    assert tools.endswith("pip hatchling hatch-fancy-pypi-readme editables")
    assert installed.endswith("-c constraints.txt -e . -e server")


def test_the_tests_install_all_five_by_one_command(machine: Machine) -> None:
    machine.install_python("python3", "3.11")
    assert machine.prepare("test").returncode == 0
    installed = machine.done()[-1]
    assert installed.count(" -e ") == len(FOLDERS)
    assert "--group dev" in installed


def test_a_second_run_does_nothing(machine: Machine) -> None:
    machine.install_python("python3", "3.11")
    machine.prepare("test")
    machine.done()
    for content in ("test", "demo"):
        again = machine.prepare(content)
        assert (again.returncode, again.stdout, machine.done()) == (0, "", [])


def test_a_changed_requirement_installs_again_into_the_same_environment(machine: Machine) -> None:
    machine.install_python("python3", "3.11")
    machine.prepare("test")
    machine.done()
    with (machine.checkout / "constraints.txt").open("a") as constraints:
        constraints.write("new==1\n")
    machine.prepare("test")
    assert [line.split()[0] for line in machine.done()] == ["pip", "pip"]


def test_a_checkout_that_was_moved_makes_its_environment_anew(machine: Machine) -> None:
    machine.install_python("python3", "3.11")
    machine.prepare("demo")
    machine.done()
    machine.checkout = machine.checkout.rename(machine.checkout.with_name("moved"))
    machine.prepare("demo")
    assert machine.done()[0] == "venv 3.11"


def test_another_interpreter_makes_it_anew(machine: Machine) -> None:
    machine.install_python("python3", "3.11")
    other = machine.install_python("other", "3.13")
    machine.prepare("demo")
    machine.done()
    machine.prepare("demo", PYTHON=str(other))
    assert machine.done()[0] == "venv 3.13"
    machine.prepare("demo", PYTHON=str(other))
    assert machine.done() == []


def test_a_folder_that_is_no_environment_is_left_alone(machine: Machine) -> None:
    machine.install_python("python3", "3.11")
    kept = machine.checkout / "mine/kept"
    kept.parent.mkdir()
    kept.write_text("")
    done = machine.prepare("demo", VENV="mine")
    assert done.returncode != 0
    assert "no virtual environment" in done.stderr
    assert kept.exists()
    assert machine.done() == []


def test_an_unfit_interpreter_is_refused_by_name(machine: Machine) -> None:
    old = machine.install_python("old", "3.9")
    done = machine.prepare("demo", PYTHON=str(old))
    assert done.returncode != 0
    assert f"PYTHON={old}" in done.stderr


def test_each_version_found_is_listed_once(machine: Machine) -> None:
    first = machine.install_python("python3", "3.12")
    machine.install_python("python3.12", "3.12")
    second = machine.install_python("python3.11", "3.11")
    machine.install_python("python", "3.8")
    listed = machine.prepare("pythons").stdout.splitlines()
    assert listed == [f"3.12 {first}", f"3.11 {second}"]
