"""A context that is made before gunicorn and Celery fork their workers: each worker has connections of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from celery import Celery  # type: ignore[import-untyped]  # it has no types
from memx_server.storage.sqlite import SqliteStore

from memx_sdk import memxContext
from tests.support.memx_server import Served, serve_store

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")

DEADLINE = 40
CALLS = 300

BEFORE_THE_FORK = """
import os
from memx_sdk import memxContext
context = memxContext({api_key!r}, {url!r})
context.set("before the fork", 1)  # opens a connection, which no worker may use

def own(name):
    context.set(name, name)
    return f"{{context.get(name).value}} {{os.getpid()}}"
"""

WSGI = """
def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [own(environ["PATH_INFO"][1:]).encode()]
"""

TASKS = """
from celery import Celery
app = Celery("tasks")
app.conf.update({settings!r})

@app.task(name="own")
def work(name):
    context.append("answers", [f"{{name}} {{own(name)}}"])
"""


@pytest.fixture
def served() -> Iterator[Served]:
    with (
        tempfile.TemporaryDirectory() as folder,
        serve_store(SqliteStore(Path(folder) / "memx.db")) as server,
    ):
        yield server


@contextmanager
def program(folder: Path, *command: str) -> Iterator[subprocess.Popen[str]]:
    """Run a module in ``folder``; SIGTERM ends it."""
    process = subprocess.Popen(
        [sys.executable, "-m", *command],
        cwd=folder,
        text=True,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(DEADLINE)
        finally:
            process.kill()
            assert process.stderr is not None
            process.stderr.close()


def address(process: subprocess.Popen[str]) -> str:
    """Read where gunicorn listens."""
    assert process.stderr is not None
    for line in process.stderr:
        if found := re.search(r"Listening at: (http://\S+)", line):
            return found[1]
    raise AssertionError("gunicorn ended")


def test_workers_of_gunicorn_mix_no_answers(served: Served, tmp_path: Path) -> None:
    setup = BEFORE_THE_FORK.format(api_key=served.api_key, url=served.url)
    (tmp_path / "wsgi.py").write_text(setup + WSGI)
    options = ("--preload", "-w", "3", "--threads", "4", "-b", "127.0.0.1:0")
    with program(tmp_path, "gunicorn", *options, "wsgi:app") as process:
        url = address(process)

        def ask(number: int) -> tuple[str, str]:
            with urllib.request.urlopen(f"{url}/n{number}", timeout=DEADLINE) as answer:
                value, pid = answer.read().decode().split()
            return value, pid

        with ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(ask, range(CALLS)))
    assert [value for value, _ in answers] == [f"n{number}" for number in range(CALLS)]
    assert len({pid for _, pid in answers}) > 1


def test_children_of_celery_mix_no_answers(served: Served, tmp_path: Path) -> None:
    (tmp_path / "queue").mkdir()
    settings = {
        "broker_url": "filesystem://",
        "broker_transport_options": {
            "data_folder_in": str(tmp_path / "queue"),
            "data_folder_out": str(tmp_path / "queue"),
            "polling_interval": 0.01,
        },
        "task_ignore_result": True,
    }
    setup = BEFORE_THE_FORK.format(api_key=served.api_key, url=served.url)
    (tmp_path / "tasks.py").write_text(setup + TASKS.format(settings=settings))
    names = [f"n{number}" for number in range(60)]
    client = Celery("tasks")
    client.conf.update(settings)
    for name in names:
        client.send_task("own", (name,))
    options = ("--without-gossip", "--without-mingle", "--without-heartbeat", "-l", "ERROR")
    with (
        program(tmp_path, "celery", "-A", "tasks", "worker", "-P", "prefork", "-c", "3", *options),
        memxContext(served.api_key, served.url) as memx,
    ):
        told = memx.wait_for("answers", lambda value: len(value) == len(names), timeout=DEADLINE)
    answers = [answer.split() for answer in told.value]
    assert sorted(name for name, _, _ in answers) == sorted(names)
    assert all(name == value for name, value, _ in answers)
    assert len({pid for _, _, pid in answers}) > 1
