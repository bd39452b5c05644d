"""``memx export`` and ``memx import``: what comes in is what went out, or nothing."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from memx_sdk import memxContext
from memx_sdk.cli.transfer import exporting
from tests.cli.conftest import MEMX, DevServer, Memx, Run


@pytest.fixture
def memory(shared_server: DevServer) -> Iterator[memxContext]:
    with memxContext("local_dev_key", shared_server.url, agent="writer") as context:
        yield context


@pytest.fixture
def dumped(here: Run, memory: memxContext, prefix: str, tmp_path: Path) -> Path:
    """A dump of three entries and a schema, whose space holds none of them any more."""
    memory.set_schema(f"{prefix}n:*", {"type": "number"})
    here("set", f"{prefix}n:1", "1.50")
    here("set", f"{prefix}t", '{"a":  [1e2, "\\u00e9é"]}', "--ttl", "3600", "--reason", "first")
    here("set", f"{prefix}t", '{"a":  [1e2, "\\u00e9é", 2]}', "--ttl", "3600")
    here("set", f"{prefix}u", '"unlogged"', "--no-history")
    path = tmp_path / "dump.jsonl"
    assert here("export", f"{prefix}*", "-o", str(path), "--history").code == 0
    clear(memory, prefix)
    return path


def clear(memory: memxContext, prefix: str) -> None:
    for key in memory.keys(f"{prefix}*"):
        memory.delete(key)
    for schema in memory.schemas():
        if schema["key"].startswith(prefix):
            memory.delete_schema(schema["key"])


def test_what_comes_in_is_what_went_out(
    here: Run, memory: memxContext, prefix: str, dumped: Path
) -> None:
    assert dumped.stat().st_mode & 0o777 == 0o600
    imported = here("import", str(dumped), "--json")

    assert imported.code == 0
    assert imported.document["written"] == 3
    assert here("get", f"{prefix}n:1").out == "1.50\n"
    # To the byte: spaces and escapes are as they were.
    assert here("get", f"{prefix}t").out == '{"a":  [1e2, "\\u00e9é", 2]}\n'
    assert here("get", f"{prefix}t", "--json").document["expires_at"] is not None
    assert memory.get_schema(f"{prefix}n:*")["schema"] == {"type": "number"}
    again = here("import", str(dumped), "--json").document
    assert (again["written"], again["present"]) == (0, 3)


def test_what_others_wrote_is_kept_or_replaced(
    here: Run, memory: memxContext, prefix: str, dumped: Path
) -> None:
    memory.set(f"{prefix}u", "newer")

    kept = here("import", str(dumped), "--json").document
    assert (kept["written"], kept["kept"]) == (2, 1)
    assert memory.get(f"{prefix}u", model=str).value == "newer"  # type: ignore[union-attr]  # it is there
    tried = here("import", str(dumped), "--existing", "replace", "--dry-run", "--json").document
    assert (tried["written"], tried["dry_run"]) == (1, True)
    replaced = here("import", str(dumped), "--existing", "replace", "--json").document
    assert (replaced["written"], replaced["present"]) == (1, 2)
    assert here("get", f"{prefix}u").out == '"unlogged"\n'
    only = here("import", str(dumped), "--pattern", f"{prefix}n:*", "--json").document
    assert only["present"] == 1


def test_the_history_is_replayed_for_keys_that_are_new(memx: Memx, dumped: Path) -> None:
    url = f"embedded:{memx.folder / 'other'}"
    imported = memx("import", str(dumped), "--history", "--url", url, "--json").document
    (key,) = [k for k in memx("keys", "--url", url).out.split() if k.endswith(":t")]
    changes = memx("history", key, "--url", url, "--json").documents

    assert imported["replayed"] == 3
    assert changes[-1]["reason"].startswith("first (by dev/cli at 20")
    assert changes[0]["value"] == {"a": [100.0, "éé", 2]}


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        (lambda text: text[: len(text) // 2], "cut off"),
        (lambda text: b"".join(text.splitlines(keepends=True)[:-1]), "breaks off"),
        (lambda text: text[: text.index(b'{"entry"')] + text[text.index(b'{"end"') :], "are missing"),
        (lambda text: b'{"some": "other file"}\n' + text, "no dump of memX"),
        (lambda text: b"", "empty"),
        (lambda text: b"\x1f\x8b\x00\xff" + text, "no dump of memX"),
        (lambda text: text.replace(b'"format":1', b'"format":2').replace(b'"pattern"', b'"p"'), "newer memX"),
        (lambda text: text.replace(b'"entry":{', b'"entri":{', 1), "no line of a dump"),
        (lambda text: text.replace(b':t"', b':*"', 1), "line"),
    ],
)  # fmt: skip
def test_nothing_of_a_broken_dump_is_written(
    here: Run, memory: memxContext, prefix: str, dumped: Path, broken: Any, why: str
) -> None:
    dumped.write_bytes(broken(dumped.read_bytes()))
    refused = here("import", str(dumped))

    assert refused.code == 1
    assert why in refused.err
    assert "nothing was written" in refused.err
    assert memory.keys(f"{prefix}*") == []


def test_what_a_schema_refuses_now_is_named_and_nothing_is_written(
    here: Run, memory: memxContext, prefix: str, dumped: Path
) -> None:
    memory.set_schema(f"{prefix}*", {"type": "object"})
    refused = here("import", str(dumped))

    assert refused.code == 5
    assert f"{prefix}u" in refused.err
    assert memory.keys(f"{prefix}*") == []
    # `n:*` is governed by the dump's own schema, which comes along.
    skipped = here("import", str(dumped), "--skip-refused", "--json")
    assert skipped.code == 0
    assert f"{prefix}t" in memory.keys(f"{prefix}*")
    assert f"{prefix}u" not in memory.keys(f"{prefix}*")


def test_two_imports_at_once_bring_everything_once(
    online: Memx, memory: memxContext, prefix: str, dumped: Path
) -> None:
    processes = [online.start("import", str(dumped), "--json") for _ in range(2)]
    ended = [process.communicate(timeout=30) for process in processes]

    assert [process.returncode for process in processes] == [0, 0], ended
    assert len(memory.keys(f"{prefix}*")) == 3
    assert {memory.get(key)["version"] for key in memory.keys(f"{prefix}*")} == {1}  # type: ignore[index]  # there


def test_an_export_is_of_one_moment_while_agents_write(
    here: Run, memory: memxContext, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(20):
        memory.set(f"{prefix}{number:02}", 0)
    # Pairs are always written together: no moment has two halves that differ.
    monkeypatch.setattr(exporting, "_PAGE", 3)
    ended = threading.Event()

    def write() -> None:
        for number in range(1, 100_000):
            if ended.is_set():
                return
            pair = [f"{prefix}00", f"{prefix}19"]
            memory.txn(then=[{"op": "set", "key": key, "value": number} for key in pair])
            memory.delete(f"{prefix}10")

    writer = threading.Thread(target=write)
    writer.start()
    path = tmp_path / "d.jsonl"
    try:
        assert here("export", f"{prefix}*", "-o", str(path)).code == 0
    finally:
        ended.set()
        writer.join(10)
    clear(memory, prefix)
    assert here("import", str(path)).code == 0
    assert memory.get(f"{prefix}10") is None
    values = [memory.get(f"{prefix}{end}") for end in ("00", "19")]
    assert values[0] is not None
    assert values[1] is not None
    assert values[0].value == values[1].value > 0


def test_an_interrupted_export_goes_on(
    here: Run, memory: memxContext, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(10):
        memory.set(f"{prefix}{number}", number)
    monkeypatch.setattr(exporting, "_PAGE", 3)
    path, part = tmp_path / "d.jsonl", tmp_path / "d.jsonl.part"
    whole = here("export", f"{prefix}*", "-o", str(path))
    assert whole.code == 0
    text = path.read_bytes()
    path.unlink()

    # The first page, and a line that was being written when the machine went down.
    part.write_bytes(text[: text.index(b'"page"') + 60])
    memory.set(f"{prefix}0", "changed since")
    assert here("export", "other:*", "-o", str(path), "--resume").code == 1
    resumed = here("export", f"{prefix}*", "-o", str(path), "--resume")
    assert resumed.code == 0, resumed.err
    assert not part.exists()
    clear(memory, prefix)
    assert here("import", str(path), "--json").document["written"] == 10
    assert here("get", f"{prefix}0").out == '"changed since"\n'
    assert here("export", "-o", str(path)).code == 2  # it is there


def test_a_full_disk_is_told_and_leaves_no_dump(
    online: Memx, memory: memxContext, prefix: str
) -> None:
    memory.set(f"{prefix}k", "x" * 100_000)
    ended = subprocess.run(
        ["bash", "-c", f"ulimit -f 10; exec {MEMX} export '{prefix}*' -o full.jsonl"],
        env=dict(online.environ),
        cwd=online.folder,
        capture_output=True,
        text=True,
        timeout=30,
    )

    assert ended.returncode == 1
    assert "cannot write" in ended.stderr
    assert "--resume" in ended.stderr
    assert not (online.folder / "full.jsonl").exists()


def test_unlogged_keys_come_back_unlogged(here: Run, memory: memxContext, prefix: str) -> None:
    for name in ("gone", "made"):
        memory.set(f"{prefix}{name}", 1, logged=False)
    exported = here("export", f"{prefix}*")
    for name in ("gone", "made"):
        memory.delete(f"{prefix}{name}")
    memory.set(f"{prefix}made", 2)  # logged now, and stays so

    imported = here("import", "-", "--existing", "replace", stdin=exported.out)
    assert imported.code == 0, imported.err
    entries = {each.key: (each.value, each.logged) for each in memory.entries(f"{prefix}*")}
    assert entries == {f"{prefix}gone": (1, False), f"{prefix}made": (1, True)}


def test_a_dump_goes_through_a_pipe(here: Run, memory: memxContext, prefix: str) -> None:
    memory.set(f"{prefix}k", 1)
    exported = here("export", f"{prefix}*")
    assert [next(iter(json.loads(line))) for line in exported.out.splitlines()] == [
        "memx_dump",
        "entry",
        "page",
        "end",
    ]
    memory.delete(f"{prefix}k")
    assert here("import", "-", stdin=exported.out).code == 0
    assert memory.get(f"{prefix}k") is not None
