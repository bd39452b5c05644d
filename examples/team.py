"""The agents of `memx demo` against a server of your choice.

Start a server (`memx dev` or `memx serve`), open its dashboard, then:

    MEMX_API_KEY=local_dev_key python examples/team.py --pace 1 "Why do batteries age?"
"""

from __future__ import annotations

import argparse
import asyncio

from memx_server.demo.board import Board
from memx_server.demo.minds import Librarian, chat_model
from memx_server.demo.team import run_team
from memx_server.demo.view import View
from rich.console import Console

from memx_sdk import AsyncMemxContext


def main() -> None:
    """Read the arguments and run the team once."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("question", nargs="?", default="How do honeybees choose a new home?")
    parser.add_argument("--url", help="the server; default: MEMX_BASE_URL")
    parser.add_argument("--model", help="a LangChain chat model, as provider:name")
    parser.add_argument("--pace", type=float, default=0.0, help="seconds for each step")
    given = parser.parse_args()

    board, mind = Board(), chat_model(given.model) if given.model else Librarian()
    view = View(Console(highlight=False), board)
    view.opening(f"keys {board.everything}", mind.name)
    outcome = asyncio.run(
        run_team(
            lambda agent: AsyncMemxContext(base_url=given.url, agent=agent),
            given.question,
            mind,
            view.change,
            tell=view.note,
            board=board,
            pace=given.pace,
        )
    )
    view.closing(outcome.summary, [f"{view.changes} changes in {outcome.seconds:.1f} s"])


if __name__ == "__main__":
    main()
