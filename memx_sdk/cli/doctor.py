"""``memx doctor``: finds what is wrong with a setup, and says how to mend it."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

import typer
from rich.text import Text

from memx_sdk import AsyncMemxContext, ForbiddenError, MemxError, UnauthenticatedError
from memx_sdk.cli.checks import (
    Answer,
    Finding,
    ask,
    check_clock,
    check_url,
    check_version,
    is_network,
    over_http,
)
from memx_sdk.cli.exits import ExitCode
from memx_sdk.cli.output import Output
from memx_sdk.cli.session import Connection, connection_options, finish
from memx_sdk.cli.values import printable
from memx_sdk.cli.watch import first_attempt
from memx_sdk.config import DEFAULT_BASE_URL
from memx_sdk.display import isolated

LocalCheck = Callable[[], Iterable[Finding]]
"""Looks at this machine's own setup, without a server."""

LOCAL_CHECKS: list[LocalCheck] = []
"""Plug-ins add theirs: the server its ACL file's."""

_MARKS = {"ok": ("✓", "green"), "warning": ("!", "yellow"), "problem": ("✗", "bold red")}
_SOON = 7 * 86_400
"""Seconds before its end from which an API key is worth a word."""


@connection_options
def doctor(connection: Connection) -> None:
    """Find out what is wrong with the setup, and how to mend it. Exit code 1 where something is."""
    finish(_examine(connection))


async def _examine(connection: Connection) -> None:
    output = Output(as_json=connection.json)
    # Findings are printed as they are made: a check may take as long as the timeout, and the ones
    # before it are known already.
    worst = set()
    async for finding in _findings(connection):
        worst.add(finding.state)
        _print(output, finding)
    if "problem" in worst:
        raise typer.Exit(ExitCode.ERROR)
    if not output.as_json:
        output.note("works, with warnings" if "warning" in worst else "all is well")


async def _findings(connection: Connection) -> AsyncIterator[Finding]:
    url = (connection.url or os.environ.get("MEMX_BASE_URL") or DEFAULT_BASE_URL).rstrip("/")
    address = check_url(url)
    yield address
    for check in LOCAL_CHECKS:
        for finding in check():
            yield finding
    # What comes later needs what comes before. After a problem the rest would only repeat it in
    # other words.
    problems = {address.check} if address.state == "problem" else set()
    if not problems and is_network(url):
        async for finding in _server_findings(over_http(url), connection.timeout):
            yield finding
            if finding.state == "problem":
                problems.add(finding.check)
    # A store that is away leaves the API key to be looked at: the server may still know it.
    if problems <= {"store"}:
        async for finding in _key_findings(connection, with_push=not problems):
            yield finding


async def _server_findings(url: str, timeout: float) -> AsyncIterator[Finding]:
    # The standard library's HTTP and not the SDK's, in a thread: it needs no API key, and tells
    # causes apart that the SDK sums up.
    answer = await asyncio.to_thread(ask, f"{url}/healthz", timeout)
    if isinstance(answer, Finding):
        yield answer
        return
    health = _health_finding(answer, url)
    yield health
    # A stranger's answers to the further questions would mislead.
    if health.state == "problem":
        return
    if clock := check_clock(answer.skew):
        yield clock
    async for finding in _store_findings(url, timeout):
        yield finding


def _health_finding(answer: Answer, url: str) -> Finding:
    if answer.status == 200 and answer.body.get("ok"):
        return Finding("server", "ok", f"a memX server answers at {url}")
    return Finding(
        "server",
        "problem",
        f"what answers at {url} is no memX server (status {answer.status} for /healthz)",
        "check the port, and any proxy on the way",
    )


async def _store_findings(url: str, timeout: float) -> AsyncIterator[Finding]:
    answer = await asyncio.to_thread(ask, f"{url}/readyz", timeout)
    if isinstance(answer, Finding):
        yield answer
    elif answer.status != 200:
        yield Finding(
            "store",
            "problem",
            "the server cannot reach its store, or that takes no writes: "
            + printable(str(answer.body.get("detail") or "it answers 503 until it can")),
            "start Redis, correct REDIS_URL where the server was started, or give Redis what it lacks",
        )
    else:
        for advice in answer.body.get("advice", ()):
            # The server writes its advice as ``fault; remedy``.
            fault, _, remedy = str(advice).partition("; ")
            yield Finding("store", "warning", printable(fault), printable(remedy))
        if not answer.body.get("advice"):
            yield Finding("store", "ok", "answers, and keeps what is written")


async def _key_findings(connection: Connection, *, with_push: bool) -> AsyncIterator[Finding]:
    async with connection.open() as memory:
        try:
            me = await memory.whoami()
        except (UnauthenticatedError, ForbiddenError) as error:
            yield Finding("key", "problem", printable(error.detail), _key_remedy(error))
            return
        except MemxError as error:
            yield Finding("key", "problem", printable(error.detail))
            return
        yield check_version(version("memx-sdk"), me.get("server", {}).get("version"))
        yield _key_finding(me)
        yield _scopes_finding(me["scopes"])
        # A pattern that the API key may read, since another would be refused and be taken for the
        # proxy's doing.
        if with_push and me["scopes"]["read"]:
            yield await _push_finding(memory, me["scopes"]["read"][0], connection.timeout)


def _key_remedy(error: MemxError) -> str:
    if isinstance(error, UnauthenticatedError):
        return "set MEMX_API_KEY or pass --api-key; `memx dev` prints the key it made"
    return "check MEMX_API_KEY against the server's ACL file or its api_keys table"


def _key_finding(me: dict[str, Any]) -> Finding:
    who = f"accepted: {printable(me['principal'])} in space {printable(me['space'])}"
    left = None if me.get("expires_at") is None else me["expires_at"] - time.time()
    if left is not None and left < _SOON:
        return Finding(
            "key", "warning", f"{who}, but it ends in {left / 3600:.0f} h", "ask for a new one"
        )
    return Finding("key", "ok", who)


def _scopes_finding(scopes: dict[str, list[str]]) -> Finding:
    held = ", ".join(f"{verb} {printable(' '.join(scopes[verb])) or 'nothing'}" for verb in scopes)
    if scopes["read"] and scopes["write"]:
        return Finding("scopes", "ok", held)
    return Finding("scopes", "warning", held, "a key that only reads or writes may be meant so")


async def _push_finding(memory: AsyncMemxContext, pattern: str, timeout: float) -> Finding:
    """Subscribe, since a proxy that lets requests through may still stop WebSockets."""
    try:
        async with memory.subscribe(pattern) as changes:
            with first_attempt():
                await changes.ready(timeout)
    except MemxError as error:
        return Finding(
            "push",
            "problem",
            f"no WebSocket to the server: {printable(error.detail)}",
            "let the proxy pass on the headers Upgrade and Connection (HTTP/1.1)",
        )
    return Finding("push", "ok", "changes are pushed as they happen")


def _print(output: Output, finding: Finding) -> None:
    if output.as_json:
        output.document(asdict(finding))
        return
    mark, style = _MARKS[finding.state]
    output.line(
        Text.assemble(
            (f"{mark} ", style),
            (f"{finding.check:<8} ", "bold"),
            isolated(printable(finding.detail)),
        )
    )
    if finding.remedy:
        output.line(Text(f"           → {printable(finding.remedy)}", style="dim"))
