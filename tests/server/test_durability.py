"""``durability`` of a write over HTTP and a socket: what the answer says of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from memx_server.settings import Settings

from tests.server.conftest import Api


def test_a_write_says_whether_it_is_confirmed(api: Api) -> None:
    for wanted in ("replica", "fsync"):
        headers = {"x-memx-durability": wanted, "idempotency-key": f"once-{wanted}"}
        body = {"key": f"k-{wanted}", "value": 1}
        first = api.call("POST", "/set", json=body, headers=headers)
        assert first["ok"] is True
        assert isinstance(first["confirmed"], bool)
        again = api.call("POST", "/set", json=body, headers=headers)
        assert again["revision"] == first["revision"]
        assert "confirmed" in again
    headers = {"x-memx-durability": "replica"}
    updated = api.call("POST", "/update", json={"key": "n", "increment": 1}, headers=headers)
    then = [{"op": "set", "key": "t", "value": 1}]
    transaction = api.call("POST", "/txn", json={"then": then}, headers=headers)
    assert updated["confirmed"] is transaction["confirmed"] is False
    deleted = api.call("DELETE", "/delete", params={"key": "n"}, headers=headers)
    assert deleted["confirmed"] is False


def test_memory_is_the_default_and_says_nothing(api: Api) -> None:
    assert "confirmed" not in api.post("/set", {"key": "k", "value": 1})
    headers = {"x-memx-durability": "memory"}
    answer = api.call("POST", "/set", json={"key": "k", "value": 1}, headers=headers)
    assert "confirmed" not in answer


def test_what_is_none_is_refused(api: Api) -> None:
    headers = {"x-memx-durability": "for ever"}
    answer = api.call("POST", "/set", 400, json={"key": "k", "value": 1}, headers=headers)
    assert answer["field"] == "durability"
    assert "replica" in answer["detail"]


def test_the_setting(tmp_path: Path) -> None:
    assert Settings.from_env({}).durability == "memory"
    assert Settings.from_env({"MEMX_DURABILITY": "fsync"}).durability == "fsync"
    with pytest.raises(ValueError, match="MEMX_DURABILITY"):
        Settings.from_env({"MEMX_DURABILITY": "disk"})
