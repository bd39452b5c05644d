"""API keys from the ACL file: both forms, hashed keys, re-reading, and what a broken file does."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from pathlib import Path
from typing import Any

import pytest
from memx_server.auth import acl_file
from memx_server.auth.acl_file import AclFile
from memx_server.domain.access import Principal

from memx_sdk.protocol.errors import ProtocolError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def look_at_every_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acl_file, "_STAT_INTERVAL", 0.0)


class File:
    """An ACL file that a test writes; each writing has a time of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._time = time.time_ns()

    def write(self, content: Any) -> None:
        self.path.write_text(content if isinstance(content, str) else json.dumps(content))
        self._time += 1_000_000_000
        os.utime(self.path, ns=(self._time, self._time))

    def keys(self) -> AclFile:
        return AclFile(self.path)


@pytest.fixture
def file(tmp_path: Path) -> File:
    return File(tmp_path / "acl.json")


async def code_of(keys: AclFile, credential: str | None) -> str:
    with pytest.raises(ProtocolError) as refusal:
        await keys.authenticate(credential)
    return refusal.value.code


async def test_a_list_of_patterns_grants_all_three_verbs(file: File) -> None:
    file.write({"k": ["team:*", "a"]})
    principal = await file.keys().authenticate("k")
    assert (principal.space, principal.expires_at) == ("default", None)
    assert principal.name == f"key-{hashlib.sha256(b'k').hexdigest()[:8]}"
    for verb in ("read", "write", "admin"):
        assert [principal.may(verb, key) for key in ("team:x", "a", "b")] == [True, True, False]


async def test_an_object_grants_by_verb(file: File) -> None:
    file.write(
        {
            "k": {"agent": "alice", "space": "s1", "read": ["r*"], "write": ["w*"]},
            "admin": {"read": ["*"], "admin": ["*"]},
        }
    )
    keys = file.keys()
    alice = await keys.authenticate("k")
    assert (alice.name, alice.space) == ("alice", "s1")
    assert [alice.may("read", key) for key in ("r1", "w1")] == [True, False]
    assert [alice.may("write", key) for key in ("r1", "w1")] == [False, True]
    assert [alice.may("admin", key) for key in ("r1", "w1")] == [False, True]
    admin = await keys.authenticate("admin")
    assert [admin.may("write", "x"), admin.may("admin", "x")] == [False, True]


async def test_a_stored_key_may_be_a_digest(file: File) -> None:
    digest = hashlib.sha256(b"secret").hexdigest()
    file.write({f"sha256:{digest.upper()}": ["*"]})
    keys = file.keys()
    assert (await keys.authenticate("secret")).credential == digest
    assert await code_of(keys, f"sha256:{digest}") == "forbidden"
    assert await code_of(keys, digest) == "forbidden"


async def test_missing_and_unknown_keys(file: File) -> None:
    file.write({"k": ["*"]})
    assert await code_of(file.keys(), None) == "unauthenticated"
    for unknown in ("K", "k ", "", "é", "\x00"):
        assert await code_of(file.keys(), unknown) == "forbidden"


@pytest.mark.parametrize(
    ("expires_at", "opens"),
    [
        pytest.param(time.time() + 3600, True, id="in an hour"),
        pytest.param(time.time() - 1, False, id="a second ago"),
        ("2999-01-01T00:00:00Z", True),
        ("2001-01-01T00:00:00+02:00", False),
        ("2001-01-01T00:00:00", False),
    ],
)
async def test_expiry(file: File, expires_at: Any, opens: bool) -> None:
    file.write({"k": {"read": ["*"], "expires_at": expires_at}})
    if opens:
        assert (await file.keys().authenticate("k")).expires_at is not None
    else:
        assert await code_of(file.keys(), "k") == "forbidden"


async def test_a_key_that_expires_while_it_is_used(file: File) -> None:
    file.write({"k": {"read": ["*"], "expires_at": time.time() + 0.05}})
    keys = file.keys()
    await keys.authenticate("k")
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            await keys.authenticate("k")
        except ProtocolError:
            return
    pytest.fail("the key never expired")


async def test_a_changed_file_is_read_again_and_unchanged_keys_keep_their_principal(
    file: File,
) -> None:
    file.write({"a": ["*"], "b": ["*"]})
    keys = file.keys()
    a, b = await keys.authenticate("a"), await keys.authenticate("b")
    file.write({"a": ["*"], "b": ["x"], "c": ["*"]})
    assert await keys.authenticate("a") is a
    changed = await keys.authenticate("b")
    assert (changed is b, changed.may("read", "y")) == (False, False)
    await keys.authenticate("c")
    file.write({"a": ["*"]})
    assert await code_of(keys, "b") == "forbidden"


BROKEN = [
    "",
    "{",
    "[]",
    '"k"',
    '{"k": "*"}',
    '{"k": [1]}',
    '{"k": {"reads": ["*"]}}',
    '{"k": {"read": "*"}}',
    '{"k": ["["]}',
    '{"k": [""]}',
    '{"k": {"agent": "", "read": ["*"]}}',
    '{"k": {"space": 7}}',
    '{"k": {"agent": "a/b", "read": ["*"]}}',
    '{"k": {"agent": "a\\nb", "read": ["*"]}}',
    '{"k": {"agent": " a", "read": ["*"]}}',
    '{"k": {"agent": "a\\u202eb", "read": ["*"]}}',
    '{"k": {"space": "a\\u0007", "read": ["*"]}}',
    '{"k": {"expires_at": "soon"}}',
    '{"secret-key": ["*"], "secret-key": ["a"]}',
    '{"k": {"read": ["*"], "read": ["a"]}}',
]


@pytest.mark.parametrize("broken", BROKEN)
async def test_a_broken_file_keeps_the_last_good_one_and_says_so(
    file: File, broken: str, caplog: pytest.LogCaptureFixture
) -> None:
    file.write({"secret-key": ["*"]})
    keys = file.keys()
    await keys.authenticate("secret-key")
    file.write(broken)
    await keys.authenticate("secret-key")
    await keys.authenticate("secret-key")
    complaints = [each for each in caplog.records if each.levelno >= logging.ERROR]
    assert len(complaints) == 1
    assert "1 API keys read before stay in force" in complaints[0].getMessage()
    assert "secret-key" not in caplog.text
    file.write({"other": ["*"]})
    await keys.authenticate("other")
    assert await code_of(keys, "secret-key") == "forbidden"


async def test_the_same_key_in_plain_and_as_a_digest_is_a_mistake(
    file: File, caplog: pytest.LogCaptureFixture
) -> None:
    file.write({"k": ["*"], f"sha256:{hashlib.sha256(b'k').hexdigest()}": ["a"]})
    assert await code_of(file.keys(), "k") == "forbidden"
    assert "twice" in caplog.text


async def test_a_missing_file_opens_nothing_until_it_is_there(
    file: File, caplog: pytest.LogCaptureFixture
) -> None:
    keys = file.keys()
    assert await code_of(keys, "k") == "forbidden"
    assert await code_of(keys, "k") == "forbidden"
    assert len(caplog.records) == 1
    file.write({"k": ["*"]})
    await keys.authenticate("k")
    file.path.unlink()
    await keys.authenticate("k")


async def test_a_look_at_the_file_is_due_once_a_second(
    file: File, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acl_file, "_STAT_INTERVAL", 1000.0)
    file.write({"k": ["*"]})
    keys = file.keys()
    await keys.authenticate("k")
    file.write({})
    await keys.authenticate("k")


async def test_the_sample_file_is_good() -> None:
    keys = AclFile(ROOT / "config/acl.json")
    principal: Principal = await keys.authenticate("local_dev_key")
    assert principal.scopes.read.everything
    await keys.authenticate("agent_key_1")
