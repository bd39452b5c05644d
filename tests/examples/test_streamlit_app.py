"""``examples/streamlit_app.py``: a person looks at keys, writes one, and manages a Supabase project's API keys."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
import streamlit as st
from memx_server.auth.supabase import SupabaseKeys
from memx_server.auth.supabase_table import KeyTable
from memx_server.storage.sqlite import SqliteStore
from streamlit.testing.v1 import AppTest

from memx_sdk import memxContext
from tests.access.postgrest import SERVICE_KEY, Project, supabase_project
from tests.support.memx_server import Served, serve_store

APP = Path(__file__).resolve().parents[2] / "examples/streamlit_app.py"


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    with serve_store(SqliteStore(tmp_path / "memx.db")) as server:
        monkeypatch.setenv("MEMX_BASE_URL", server.url)
        monkeypatch.setenv("MEMX_API_KEY", server.api_key)
        monkeypatch.delenv("SUPABASE_URL", raising=False)
        st.cache_resource.clear()
        yield server


@pytest.fixture
def app(served: Served) -> AppTest:
    return AppTest.from_file(str(APP), default_timeout=30)


def test_a_person_sees_the_keys_and_edits_one(app: AppTest, served: Served) -> None:
    with memxContext(served.api_key, served.url, agent="planner") as memory:
        memory.set("team:goal", {"find": "the bug"}, reason="kick-off")
        page = app.run()
        assert not page.exception
        (table,) = [frame.value for frame in page.dataframe]
        assert list(table["key"]) == ["team:goal"]
        assert page.info[0].value.startswith("Set SUPABASE_URL")

        page.text_input[1].set_value("team:goal").run()
        assert any("kick-off" in caption.value for caption in page.caption)
        page.text_area[0].set_value('{"find": "the cause"}')
        page.button[0].click().run()
        assert not page.exception
        held = memory.get("team:goal")
        assert held is not None
        assert held.value == {"find": "the cause"}
        assert held.writer is not None
        assert held.writer.endswith("/explorer")


def test_what_was_drawn_before_somebody_else_wrote_is_not_written_over(
    app: AppTest, served: Served
) -> None:
    with memxContext(served.api_key, served.url) as memory:
        entry = memory.set("team:goal", "first")
        page = app.run()
        page.text_input[1].set_value("team:goal").run()
        page.text_area[0].set_value('"mine"')
        memory.set("team:goal", "theirs", if_revision=entry.revision)
        page.button[0].click().run()
        assert not page.exception
        assert page.warning, "a person is told"
        held = memory.get("team:goal")
        assert held is not None
        assert held.value == "theirs"


def test_without_a_server_it_says_so(app: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMX_API_KEY", "wrong")
    st.cache_resource.clear()
    page = app.run()
    assert not page.exception
    assert "MEMX_API_KEY" in page.error[0].value


@pytest.fixture
def project() -> Iterator[Project]:
    with supabase_project() as project:
        yield project


def test_api_keys_of_a_supabase_project(
    app: AppTest, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUPABASE_URL", project.url)
    monkeypatch.setenv("SUPABASE_SERVICE_KEY", SERVICE_KEY)
    page = app.run()
    assert not page.exception
    page.text_input[2].set_value("critic")
    page.text_input[3].set_value("draft:*")
    page.text_input[4].set_value("review:*")
    page.button[0].click().run()
    assert not page.exception
    (key,) = [code.value for code in page.code]
    principal = asyncio.run(SupabaseKeys(KeyTable(project.url, SERVICE_KEY)).authenticate(key))
    assert principal.name == "critic"

    page.run()
    (table,) = [frame.value for frame in page.dataframe if "state" in frame.value]
    assert list(table["agent"]) == ["critic"]
    assert key not in str(table)
    page.selectbox[0].select(table["label"][0]).run()
    page.button[1].click().run()
    (table,) = [frame.value for frame in page.dataframe if "state" in frame.value]
    assert list(table["state"]) == ["revoked"]
