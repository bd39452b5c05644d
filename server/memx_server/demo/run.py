"""``memx demo``: a server in a temporary folder, a run of the team on it, and the view of the run."""

from __future__ import annotations

import asyncio
import json
import secrets
import threading
import webbrowser
from collections.abc import Awaitable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from rich.console import Console

from memx_sdk import AsyncMemxContext
from memx_server.app import create_app
from memx_server.auth.sample_keys import LOCAL_DEV_KEY
from memx_server.demo.board import Board
from memx_server.demo.minds import Mind
from memx_server.demo.team import Outcome, run_team
from memx_server.demo.view import View
from memx_server.serving import background_server
from memx_server.settings import Settings

T = TypeVar("T")


@dataclass(frozen=True)
class Staying:
    """What happens with the server of a run beside the run.

    Attributes:
        keep: Whether it goes on after the run, until Ctrl-C.
        open_page: Whether its live page is opened in a browser, before the run begins.
        command: How the ``memx`` command is called here.
    """

    keep: bool = False
    open_page: bool = False
    command: str = "memx"


def run_demo(
    console: Console, question: str, *, mind: Mind, pace: float, deadline: float, staying: Staying
) -> None:
    """Start a server, let the team answer ``question`` on it, and show how.

    Args:
        console: The terminal or file that shows the run.
        question: The question.
        mind: The source of the agents' ideas.
        pace: Seconds that an agent takes over each step.
        deadline: Seconds after which it has failed.
        staying: What happens with the server beside.

    Raises:
        TeamFailedError: An agent failed, or the deadline passed.
        KeyboardInterrupt: A server that was to be kept was ended.
    """
    board = Board(prefix="demo:")
    view = View(console, board)
    # A server that stays takes the key that everybody knows, as `memx dev` does: it works on this machine alone.
    api_key = LOCAL_DEV_KEY if staying.keep or staying.open_page else secrets.token_urlsafe(16)
    with TemporaryDirectory(prefix="memx-demo-", ignore_cleanup_errors=True) as folder:
        app = create_app(_settings(Path(folder), api_key))
        with background_server(app) as url:
            view.opening(f"a server of its own at {url}", mind.name)
            if staying.open_page:
                _open_page(view, url, api_key)
            outcome = asyncio.run(
                _abandoning_threads(
                    run_team(
                        lambda agent: AsyncMemxContext(api_key, url, agent=agent),
                        question,
                        mind,
                        view.change,
                        board=board,
                        tell=view.note,
                        pace=pace,
                        deadline=deadline,
                    )
                )
            )
            view.closing(outcome.summary, _facts(view, outcome))
            _go_on(view, staying, url, api_key)


def _open_page(view: View, url: str, api_key: str) -> None:
    """Open the live page, where a person still has to enter the API key: a page's address is no place for one."""
    if webbrowser.open(url):
        view.remark(f"The live page is open; its API key is {api_key}\n")
    else:
        view.remark(f"There is no browser here; open {url} yourself, its API key is {api_key}\n")


def _go_on(view: View, staying: Staying, url: str, api_key: str) -> None:
    """Say what to do next, and keep the server where that is wanted."""
    memx = staying.command
    if not (staying.keep or staying.open_page):
        view.next_steps(
            "Go on with",
            [
                (f"{memx} demo --open", "this again, watched in a browser; its server stays"),
                (f"{memx} dev", "a server to keep, for agents of your own"),
                (f"{memx} --help", "what a terminal can do with it: get, set, watch, history"),
            ],
        )
        return
    view.next_steps(
        f"The server stays until Ctrl-C. Its live page: {url} (API key: {api_key})\nIn another terminal:",
        [
            (f"export MEMX_API_KEY={api_key} MEMX_BASE_URL={url}", ""),
            (f"{memx} keys 'demo:*' --values", "what the agents know"),
            (f"{memx} history demo:summary", "who wrote the summary, and when"),
            (f"{memx} watch 'demo:*'", "whatever happens from now on"),
        ],
    )
    threading.Event().wait()


async def _abandoning_threads(work: Awaitable[T]) -> T:
    """Run ``work``, and at its end wait for no thread of the default executor.

    A chat model may hang in such a thread for ever; the deadline of the run must hold all the same.
    """
    asyncio.get_running_loop().set_default_executor(_Threads())
    return await work


class _Threads(ThreadPoolExecutor):
    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        super().shutdown(wait=False, cancel_futures=True)


def _facts(view: View, outcome: Outcome) -> list[str]:
    refused = f"{outcome.races_lost} claims came second and were refused, none was lost"
    return [
        f"{view.changes} changes by {view.writers} writers in {outcome.seconds:.1f} s; {refused}."
    ]


def _settings(folder: Path, api_key: str) -> Settings:
    acl_file = folder / "acl.json"
    acl_file.write_text(
        json.dumps({api_key: {"agent": "demo", "read": ["*"], "write": ["*"]}}), encoding="utf-8"
    )
    return Settings(
        store_url=f"sqlite:{folder / 'memx.db'}", acl_file=acl_file, known_hosts_only=True
    )
