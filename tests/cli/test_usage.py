"""Help, usage errors and plug-ins of the command: all that needs no server."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from contextlib import closing

import pytest
from typer.testing import CliRunner

from memx_sdk.cli import app
from tests.cli.conftest import Memx, end

COMMANDS: tuple[str, ...] = (
    *("get", "set", "delete", "keys", "watch", "history", "schema", "whoami", "doctor"),
    *("merge", "patch", "increment", "append", "touch", "txn", "wait", "lock", "changes"),
    *("presence", "open", "export", "import"),
)
SERVER_COMMANDS = ("dev", "serve", "demo")


def test_help_lists_every_command(memx: Memx) -> None:
    result = memx("--help")

    assert result.code == 0
    for command in COMMANDS + SERVER_COMMANDS:
        assert f" {command} " in result.out, command


@pytest.mark.parametrize("command", COMMANDS[:5] + SERVER_COMMANDS)
def test_each_command_explains_itself(memx: Memx, command: str) -> None:
    result = memx(command, "--help")

    assert result.code == 0
    assert "Usage: memx" in result.out
    assert result.err == ""


def test_help_never_shows_the_api_key(memx: Memx) -> None:
    result = memx("get", "--help", MEMX_API_KEY="my-secret-key")

    assert "MEMX_API_KEY" in result.out
    assert "my-secret-key" not in result.out + result.err


def test_version(memx: Memx) -> None:
    from importlib.metadata import version

    assert memx("--version").out == f"memX {version('memx-sdk')}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ("set", "k"),
        ("set", "k", "1", "--if-revision", "-1"),
        ("get", "k", "--nonsense"),
        ("nonsense",),
        ("watch", "--count", "0"),
        ("get", "k", "--url", "nonsense"),
        ("get", "k", "--agent", ""),
        ("get", "k", "--timeout", "0"),
    ],
)
def test_a_command_that_cannot_be_is_a_usage_error(memx: Memx, arguments: tuple[str, ...]) -> None:
    refused = memx(*arguments)

    assert refused.code == 2
    assert refused.out == ""
    assert "Traceback" not in refused.err


@pytest.mark.parametrize("text", ["hello", "{'a': 1}", "NaN", "", "[1,", "\udcff"])
def test_a_value_that_is_no_json_says_how_to_give_a_text(memx: Memx, text: str) -> None:
    refused = memx("set", "k", text)

    assert refused.code == 2
    shown = " ".join(refused.err.replace("│", " ").split())
    assert "is not JSON" in shown or "is not UTF-8" in shown
    assert "--string" in shown


def test_a_file_that_cannot_be_read_is_named(memx: Memx) -> None:
    refused = memx("set", "k", "@no-such-file.json")

    assert refused.code == 2
    assert "no-such-file.json" in refused.err


def test_no_server_exits_7_and_says_what_to_start(memx: Memx) -> None:
    refused = memx("get", "k", "--url", f"http://127.0.0.1:{unused_port()}", MEMX_API_KEY="x")

    assert refused.code == 7
    assert refused.out == ""
    assert "error:" in refused.err
    assert "memx dev" in refused.err


def test_ctrl_c_while_a_server_does_not_answer_ends_it_quietly(memx: Memx) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        process = memx.start("get", "k", "--url", url, "--api-key", "k", "--timeout", "60")
        try:
            connection, _ = silent.accept()
            with closing(connection):
                connection.recv(1)
                process.send_signal(signal.SIGINT)
                assert process.wait(10) == 130
            assert process.stderr is not None
            assert process.stderr.read() == ""
        finally:
            end(process)


def test_with_json_an_error_is_one_json_document(memx: Memx) -> None:
    url = f"http://127.0.0.1:{unused_port()}"
    refused = memx("get", "k", "--json", "--url", url, MEMX_API_KEY="x")

    assert refused.code == 7
    assert json.loads(refused.err)["error"] == "connection"


def test_without_its_packages_the_command_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['typer'] = None\n"
        "from memx_sdk.cli import main; sys.argv = ['memx']; main()"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)

    assert ended.returncode == 1
    assert "memx-sdk[cli]" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("arguments", [("dev", "--port", "1"), ("api-keys", "create", "--help")])
def test_without_the_server_its_commands_name_it(
    monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.setattr(app, "entry_points", lambda **_: [])
    refused = CliRunner().invoke(app.build(), arguments)

    assert refused.exit_code == 2
    assert "pip install memx-server" in refused.stderr


def test_a_broken_plug_in_leaves_the_other_commands_alone(memx: Memx) -> None:
    (memx.folder / "broken-1.dist-info").mkdir()
    (memx.folder / "broken-1.dist-info/METADATA").write_text("Name: broken\nVersion: 1\n")
    (memx.folder / "broken-1.dist-info/entry_points.txt").write_text(
        "[memx_sdk.commands]\nbroken = no_such_module:commands\n"
    )
    result = memx("--help", PYTHONPATH=str(memx.folder))

    assert result.code == 0
    assert "no_such_module" in result.err
    assert " get " in result.out


def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.mark.parametrize(
    ("arguments", "detail"),
    [
        (("set", "k"), "value"),
        (("set", "k", "{"), "VALUE is not JSON"),
        (("get", "k", "--at", "0"), "--at"),
        (("gett", "k"), "No such command"),
        (("get", "k", "--nonsense"), "--nonsense"),
    ],
)
def test_a_usage_error_is_json_where_json_is_asked_for(
    memx: Memx, arguments: tuple[str, ...], detail: str
) -> None:
    refused = memx(*arguments, "--json")

    assert refused.code == 2
    (line,) = refused.err.splitlines()
    error = json.loads(line)
    assert error["error"] == "usage"
    assert detail.lower() in error["detail"].lower()
    assert refused.out == ""


def test_a_negative_number_is_a_value_and_no_option(memx: Memx) -> None:
    url = f"embedded:{memx.folder}"
    assert memx("set", "k", "-1", "--url", url).code == 0
    assert memx("set", "k", "-1.5e3", "--url", url).code == 0
    assert memx("get", "k", "--url", url).out == "-1.5e3\n"
    assert memx("schema", "check", "k", "-2", "--url", url).code == 0
    assert memx("set", "k", "1", "--no-such-option", "--url", url).code == 2
