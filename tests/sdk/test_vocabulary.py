"""The words of errors: the SDK names its calls, the command line its commands, tools the tools; none names a route."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from memx_server.auth.base import missing_credential
from memx_server.domain.memory.commits import _mismatch

from memx_sdk import NotFoundError, SchemaViolationError
from memx_sdk.core.vocabulary import in_calls, in_commands, in_tools
from memx_sdk.errors import error_from
from memx_sdk.tools import explain_error
from tests.sdk.halves import Half, make_context

ROOT = Path(__file__).resolve().parents[2]
ROUTE = re.compile(r"\b(GET|POST|DELETE|PUT) /\w+")
DETAIL = "GET /keys?values=true or GET /keys; GET /schemas lists them, POST /validate tries it"


def test_each_reader_gets_words_of_its_own() -> None:
    error = error_from({"error": "not_found", "detail": DETAIL})
    assert error.detail == "entries() or keys(); schemas() lists them, validate() tries it"
    assert in_commands(error.detail) == (
        "`memx keys --values` or `memx keys`; `memx schema list` lists them, "
        "`memx schema check` tries it"
    )
    assert "memx_list with values: true or memx_list;" in explain_error(error)
    assert in_tools("rekeys()") == "rekeys()"


def test_headers_are_arguments_and_options_elsewhere() -> None:
    for refusal in (missing_credential(), _mismatch()):
        error = error_from(refusal.as_dict())
        for text in (error.detail, in_commands(error.detail), explain_error(error)):
            assert not re.search("header|Bearer|request|Idempotency-Key", text), text
    assert "pass it as api_key" in error_from(missing_credential().as_dict()).detail


def test_every_route_that_the_server_names_to_clients_of_the_sdk_has_its_words() -> None:
    texts = {
        node.value
        for folder in ("domain", "storage")
        for path in (ROOT / "server" / "memx_server" / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    named = {text for text in texts if ROUTE.search(text)}
    assert named, "the server names none any more: this test has nothing to look at"
    assert {text for text in named if ROUTE.search(in_calls(text))} == set()


async def test_a_real_refusal_names_calls(half: Half, base_url: str, prefix: str) -> None:
    async with make_context(half, "full_key", base_url) as ctx:
        await ctx.set_schema(prefix, {"type": "number"})
        with pytest.raises(SchemaViolationError, match=r"validate\(\) tries a value"):
            await ctx.set(prefix, "text")
        with pytest.raises(NotFoundError, match=r"schemas\(\) lists all"):
            await ctx.get_schema(f"{prefix}:none")
