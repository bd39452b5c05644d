"""``memx demo``: a server in a temporary folder, a run of the team on it, and the view of the run."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Awaitable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from rich.console import Console

from memx_sdk import AsyncMemxContext
from memx_server.app import create_app
from memx_server.demo.board import Board
from memx_server.demo.minds import Mind
from memx_server.demo.team import Outcome, run_team
from memx_server.demo.view import View
from memx_server.serving import background_server
from memx_server.settings import Settings

T = TypeVar("T")


def run_demo(console: Console, question: str, *, mind: Mind, pace: float, deadline: float) -> None:
    """Start a server, let the team answer ``question`` on it, and show how.

    Args:
        console: The terminal or file that shows the run.
        question: The question.
        mind: The source of the agents' ideas.
        pace: Seconds that an agent takes over each step.
        deadline: Seconds after which it has failed.

    Raises:
        TeamFailedError: An agent failed, or the deadline passed.
    """
    board = Board(prefix="demo:")
    view = View(console, board)
    with TemporaryDirectory(prefix="memx-demo-", ignore_cleanup_errors=True) as folder:
        api_key = secrets.token_urlsafe(16)
        app = create_app(_settings(Path(folder), api_key))
        with background_server(app) as url:
            view.opening(f"a server of its own at {url}", mind.name)
            outcome = asyncio.run(
                _abandoning_threads(
                    run_team(
                        lambda agent: AsyncMemxContext(api_key, url, agent=agent),
                        question,
                        mind,
                        view.change,
                        board=board,
                        pace=pace,
                        deadline=deadline,
                    )
                )
            )
    view.closing(outcome.summary, _facts(view, outcome))


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
    fact = (
        f"{view.changes} changes by {view.writers} writers in {outcome.seconds:.1f} s, all pushed"
    )
    if outcome.races_lost:
        fact += f". Claims that came second, were refused and lost nothing: {outcome.races_lost}"
    return [f"{fact}."]


def _settings(folder: Path, api_key: str) -> Settings:
    acl_file = folder / "acl.json"
    acl_file.write_text(
        json.dumps({api_key: {"agent": "demo", "read": ["*"], "write": ["*"]}}), encoding="utf-8"
    )
    return Settings(store_url=f"sqlite:{folder / 'memx.db'}", acl_file=acl_file)
