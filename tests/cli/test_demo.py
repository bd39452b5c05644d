"""``memx demo``: the agents' answers, their look, and how a failure ends."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import textwrap
import time
from pathlib import Path

import pytest

from tests.cli.conftest import MEMX, Memx, Result, end, iter_until

QUESTION = "How do honeybees choose a new home?"


def test_it_answers_and_ends_by_itself(memx: Memx) -> None:
    started = time.monotonic()
    shown = memx("demo")

    assert (shown.code, shown.err) == (0, "")
    assert time.monotonic() - started < 15
    assert QUESTION in shown.out
    assert "Summary: " in shown.out
    assert "quorum" in shown.out
    assert "\x1b" not in shown.out
    assert len(shown.out.splitlines()) <= 42
    assert max(map(len, shown.out.splitlines())) <= 100


def test_every_agent_is_seen_at_its_work(memx: Memx) -> None:
    lines = memx("demo").out.splitlines()

    def seen(writer: str, text: str) -> bool:
        return any(writer in line and text in line for line in lines)

    assert seen("demo/query", "question")
    assert seen("demo/explorer-", "taken, by a conditional write")
    assert seen("demo/explorer-", "finding:")
    assert seen("demo/explorer-", "done, in one transaction")
    assert seen("demo/synthesizer", "draft, from 2 findings")
    assert seen("demo/synthesizer", "final, from")


def test_it_shows_what_is_different(memx: Memx) -> None:
    """A refused claim and who won, a refused value and its repair, an absence and what it did not cost."""
    shown = memx("demo").out

    taken = re.findall(r"demo/(\S+) +(lead:\S+) +taken", shown)
    refused = re.findall(r"! demo/(\S+) +(lead:\S+) +refused: demo/(\S+) came first", shown)
    assert sorted((winner, lead) for _, lead, winner in refused) == sorted(taken)
    assert all(loser != winner for loser, _, winner in refused)

    length, allowed = map(int, re.findall(r"refused: (\d+) characters, (\d+) allowed", shown)[0])
    assert len(summary(Result(0, shown, ""))) <= allowed < length

    told = re.search(r"demo/auditor +back: (\d+) changes, all, in order, once", shown)
    assert told
    # It has seen the question's transaction, which made two changes, and then went.
    assert int(told[1]) == len(re.findall(r"^ +\S+s   demo/", shown, re.MULTILINE)) - 2


def test_it_ends_with_what_to_do_next(memx: Memx) -> None:
    after = memx("demo").out.rpartition("Go on with")[2]
    commands = [re.split(r"\s{2,}", line)[1] for line in after.splitlines()[1:]]
    assert [command.partition(" ")[2] for command in commands] == ["demo --open", "dev", "--help"]


def test_its_server_can_be_kept(memx: Memx) -> None:
    process = memx.start("demo", "--keep")
    try:
        assert process.stdout is not None
        shown = "\n".join(iter_until(process.stdout, "watch 'demo:"))
        environ = re.search(r"export MEMX_API_KEY=(\S+) MEMX_BASE_URL=(\S+)", shown)
        assert environ
        asked = memx("history", "demo:summary", MEMX_API_KEY=environ[1], MEMX_BASE_URL=environ[2])
        assert "demo/synthesizer" in asked.out
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()
    finally:
        end(process)


def test_its_page_is_opened_in_a_browser(memx: Memx) -> None:
    opened = memx.folder / "opened"
    browser = memx.folder / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" >{opened}\n')
    browser.chmod(0o755)
    process = memx.start("demo", "--open", "--pace", "0", BROWSER=f"{browser} %s")
    try:
        assert process.stdout is not None
        shown = "\n".join(iter_until(process.stdout, "watch 'demo:"))
        assert opened.read_text().strip() in shown
        assert "local_dev_key" in shown
    finally:
        end(process)


def test_another_question_gives_another_answer(memx: Memx) -> None:
    volcano = summary(memx("demo", "--question", "Why do volcanoes erupt?"))
    battery = summary(memx("demo", "--question", "Why do batteries age?"))

    assert "gas" in volcano.lower()
    assert "lithium" in battery.lower()
    assert volcano != battery


def test_a_long_question_is_answered_and_an_endless_or_empty_one_refused(memx: Memx) -> None:
    long = memx("demo", "--question", "Why do batteries age? " * 45)
    assert (long.code, long.err) == (0, "")
    assert "lithium" in summary(long).lower()
    for question in ("why? " * 1000, " "):
        refused = memx("demo", "--question", question)
        assert (refused.code, refused.out) == (2, "")
        assert "--question" in refused.err


def test_a_question_that_the_library_cannot_answer_is_answered_so(memx: Memx) -> None:
    shown = memx("demo", "--question", "¿Quantum chromodynamics? \x1b[2J")

    assert shown.code == 0
    assert "holds nothing" in summary(shown)
    assert "\x1b" not in shown.out


def test_it_leaves_nothing_behind(memx: Memx) -> None:
    folder = memx.folder / "tmp"
    folder.mkdir()
    memx("demo", TMPDIR=str(folder))

    assert list(folder.iterdir()) == []


def test_on_a_terminal_it_has_colours_and_a_frame(memx: Memx) -> None:
    ours, theirs = pty.openpty()
    environ = {**memx.environ, "TERM": "xterm-256color"}
    environ.pop("NO_COLOR")
    process = subprocess.Popen(
        [MEMX, "demo", "--pace", "0"], stdin=theirs, stdout=theirs, stderr=theirs, env=environ
    )
    os.close(theirs)
    shown = read_all(ours)
    assert process.wait(20) == 0
    assert "\x1b[" in shown
    assert "╭─ summary" in shown


def test_ctrl_c_ends_it_quietly(memx: Memx) -> None:
    process = memx.start("demo", "--pace", "5")
    try:
        assert process.stdout is not None
        list(iter_until(process.stdout, "taken"))
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()
    finally:
        end(process)


def test_a_chat_model_takes_the_librarys_place(memx: Memx) -> None:
    chat_model(
        memx.folder,
        """
        if "aspects" in prompt:
            return "- nectar\\n2. weather\\nmore than was asked for"
        if prompt.startswith("Answer"):
            return "MODEL SUMMARY of " + str(prompt.count("\\n- ")) + " notes"
        return "MODEL FINDING on " + prompt.splitlines()[-1].rpartition(": ")[2]
        """,
    )
    shown = memx("demo", "--model", "ollama:any", PYTHONPATH=str(memx.folder))

    assert (shown.code, shown.err) == (0, "")
    assert "MODEL FINDING on nectar" in shown.out
    assert "MODEL FINDING on weather" in shown.out
    assert summary(shown) == "MODEL SUMMARY of 3 notes"


def test_a_chat_model_that_fails_ends_it_with_a_line(memx: Memx) -> None:
    chat_model(memx.folder, 'raise ConnectionError("the model is away")')
    shown = memx("demo", "--model", "ollama:any", PYTHONPATH=str(memx.folder))

    assert shown.code == 1
    (line,) = shown.err.splitlines()
    assert re.search(r"ExplorerAgent \d failed: ConnectionError: the model is away", line)


def test_a_chat_model_that_hangs_ends_it_at_the_deadline(memx: Memx) -> None:
    chat_model(memx.folder, "import time; time.sleep(3600)")
    started = time.monotonic()
    shown = memx("demo", "--model", "ollama:any", "--timeout", "2", PYTHONPATH=str(memx.folder))

    assert shown.code == 1
    assert "within 2 s" in shown.err
    assert time.monotonic() - started < 20


@pytest.mark.parametrize("model", ["nonsense", "no_such_provider:x", "openai:gpt"])
def test_a_chat_model_that_cannot_be_made_is_a_line(memx: Memx, model: str) -> None:
    shown = memx("demo", "--model", model)

    assert shown.code == 1
    assert shown.out == ""
    assert len(shown.err.splitlines()) == 1
    assert model in shown.err


def summary(shown: Result) -> str:
    text = re.search(r"^Summary: (.*?)^From: ", shown.out, re.MULTILINE | re.DOTALL)
    assert text
    return " ".join(text[1].split())


def chat_model(folder: Path, body: str) -> None:
    """Stand in for a provider's package: a LangChain chat model that answers as ``body`` says."""
    module = """
        from langchain_core.language_models import BaseChatModel
        from langchain_core.messages import AIMessage
        from langchain_core.outputs import ChatGeneration, ChatResult

        class ChatOllama(BaseChatModel):
            model: str

            @property
            def _llm_type(self):
                return "stand-in"

            def _generate(self, messages, stop=None, run_manager=None, **kwargs):
                text = answer(messages[-1].text)
                return ChatResult(generations=[ChatGeneration(message=AIMessage(text))])

        def answer(prompt):
    """
    text = textwrap.dedent(module).rstrip() + "\n" + textwrap.indent(textwrap.dedent(body), "    ")
    (folder / "langchain_ollama.py").write_text(text)


def read_all(fd: int) -> str:
    """Read a terminal until its last writer has closed it."""
    parts: list[bytes] = []
    while True:
        try:
            part = os.read(fd, 4096)
        except OSError:
            part = b""
        if not part:
            os.close(fd)
            return b"".join(parts).decode()
        parts.append(part)
