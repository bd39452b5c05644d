"""The lines that a server prints when it is ready: its addresses, its files, and the first commands to try."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from memx_sdk.config import DEFAULT_BASE_URL, shown_url
from memx_server.cli.local_setup import LocalSetup
from memx_server.settings import Settings


def dev(console: Console, url: str, setup: LocalSetup) -> None:
    """Print the banner of ``memx dev``."""
    key = setup.shown_key or "<a key of that file>"
    made = "  (made just now, for this machine only)" if setup.key_was_made else ""
    _facts(
        console,
        ("dashboard", url),
        ("API docs", f"{url}/docs"),
        ("API key", f"{key}{made}"),
        ("keys file", str(setup.acl_file)),
        ("memory", str(setup.folder)),
    )
    elsewhere = "" if url == DEFAULT_BASE_URL else f" MEMX_BASE_URL={url}"
    console.print("  Try in another terminal:", style="dim")
    for command in (
        f"export MEMX_API_KEY={setup.shown_key or '...'}{elsewhere}",
        "memx set greeting '\"hello\"' && memx get greeting",
        "memx watch",
    ):
        console.print(Text(f"    {command}"), soft_wrap=True)
    console.print("  Ctrl-C ends it; the memory stays.\n", style="dim")


def serve(console: Console, url: str, settings: Settings, workers: int) -> None:
    """Print the banner of ``memx serve``."""
    _facts(
        console,
        ("address", url if workers == 1 else f"{url} ({workers} workers)"),
        ("API docs", f"{url}/docs"),
        ("store", shown_url(settings.store_url)),
        ("API keys", settings.supabase.url if settings.supabase else str(settings.acl_file)),
    )


def _facts(console: Console, *facts: Sequence[str]) -> None:
    console.print(Text.assemble("\n  ", ("memX", "bold cyan"), " is ready\n"))
    for name, fact in facts:
        line = Text.assemble((f"  {name:<10} ", "dim"), (fact, "bold"))
        console.print(line, soft_wrap=True)
    console.print()
