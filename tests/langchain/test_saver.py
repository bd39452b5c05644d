"""Graphs that stop here and go on there."""

from __future__ import annotations

import base64
import hashlib
import operator
import secrets
import subprocess
import sys
import uuid
from collections.abc import Iterator
from typing import Annotated, Any

import pytest
from langchain_memx import MemxConnection, MemxSaver
from langchain_memx.packing import unpack
from langgraph.checkpoint.base import BaseCheckpointSaver, empty_checkpoint
from langgraph.checkpoint.base.id import uuid6
from langgraph.graph import END, START, StateGraph
from langgraph.store.base import TTLConfig
from langgraph.types import Command, interrupt
from typing_extensions import TypedDict

from tests.support.memx_server import Served


class State(TypedDict):
    steps: Annotated[list[str], operator.add]


def _graph(saver: MemxSaver, size: int = 10) -> Any:
    def first(state: State) -> dict[str, Any]:
        return {"steps": ["first" * size]}

    def ask(state: State) -> dict[str, Any]:
        return {"steps": [interrupt("go on?")]}

    builder = StateGraph(State)
    builder.add_node("first", first)
    builder.add_node("ask", ask)
    builder.add_edge(START, "first")
    builder.add_edge("first", "ask")
    builder.add_edge("ask", END)
    return builder.compile(checkpointer=saver)


_RESUME = """
import sys
from langgraph.store.base import TTLConfig
from langgraph.types import Command
from langchain_memx import MemxConnection, MemxSaver
from tests.langchain.test_saver import _graph

graph = _graph(MemxSaver(MemxConnection(sys.argv[1], sys.argv[2])))
result = graph.invoke(Command(resume="yes"), {"configurable": {"thread_id": sys.argv[3]}})
print(result["steps"][-1])
"""


def test_a_graph_that_stopped_here_goes_on_in_another_process(
    served: Served, api_key: str, connection: MemxConnection
) -> None:
    thread = "any thread/id * ?"
    graph = _graph(MemxSaver(connection))
    stopped = graph.invoke({"steps": []}, {"configurable": {"thread_id": thread}})
    assert stopped["__interrupt__"][0].value == "go on?"
    resumed = subprocess.run(
        [sys.executable, "-c", _RESUME, api_key, served.url, thread],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert resumed.stdout.strip() == "yes", resumed.stderr
    state = graph.get_state({"configurable": {"thread_id": thread}})
    assert state.values["steps"][-1] == "yes"
    assert state.next == ()


def test_splits_what_is_larger_than_a_value_may_be(connection: MemxConnection) -> None:
    graph = _graph(MemxSaver(connection), size=600_000)
    config = {"configurable": {"thread_id": "big"}}
    graph.invoke({"steps": []}, config)
    result = graph.invoke(Command(resume="yes"), config)
    assert len(result["steps"][0]) == 3_000_000
    assert len(list(graph.get_state_history(config))) == 4
    saver = MemxSaver(connection)
    saver.delete_thread("big")
    assert connection.context.keys("memx:graph:*") == []


def test_the_log_never_tells_of_checkpoints(connection: MemxConnection) -> None:
    connection.context.set("team:goal", 1)
    graph = _graph(MemxSaver(connection))
    graph.invoke({"steps": []}, {"configurable": {"thread_id": "quiet"}})
    MemxSaver(connection).delete_thread("quiet")
    page = connection.context.changes("*", limit=1000)
    assert [change.key for change in page.changes] == ["team:goal"]


def test_no_thread_is_confused_with_another(connection: MemxConnection) -> None:
    saver = MemxSaver(connection)
    threads = ["a", "a:b", "a/b", "*", "a*", "", "ä" * 400, "x" * 400, "x" * 401]
    for thread in threads:
        config: Any = {"configurable": {"thread_id": thread, "checkpoint_ns": ""}}
        saver.put(config, empty_checkpoint(), {"source": "input", "step": 1}, {})
    for thread in threads:
        found = list(saver.list({"configurable": {"thread_id": thread}}))
        assert [item.config["configurable"]["thread_id"] for item in found] == [thread]
    saver.delete_thread("a")
    assert len(list(saver.list(None))) == len(threads) - 1


def test_what_others_wrote_among_the_checkpoints_disturbs_nobody(
    connection: MemxConnection,
) -> None:
    saver = MemxSaver(connection)
    config: Any = {"configurable": {"thread_id": "t", "checkpoint_ns": ""}}
    saver.put(config, empty_checkpoint(), {"source": "input", "step": 1}, {})
    (own,) = connection.context.entries("memx:graph:*")
    place, content = ["t", "", "a"], {"type": "msgpack", "data": "wQ=="}
    strays = ["a note", {"place": None}, None, own.value, {"place": place}, {"place": 5}]
    strays += [
        {"place": ["u", "", "zzz"], "parent": 5, "run_id": None, "content": content},
        {
            "place": place,
            "parent": None,
            "run_id": None,
            "content": {"type": "msgpack", "parts": -1},
        },
    ]
    for stray in strays:
        connection.context.set("memx:graph:u:c:~:zzz", stray)
        # Its key sorts before that of every checkpoint: "the newest one".
        connection.context.set("memx:graph:t:c:~:0", stray)
        assert len(list(saver.list(None))) == 1
        newest = saver.get_tuple(config)
        assert newest is not None
        assert newest.checkpoint["id"] == own.value["place"][2]


def test_what_others_wrote_in_place_of_a_value_counts_as_not_there(
    connection: MemxConnection, caplog: pytest.LogCaptureFixture
) -> None:
    graph = _graph(MemxSaver(connection))
    config: Any = {"configurable": {"thread_id": "t"}}
    graph.invoke({"steps": []}, config)
    steps = len(list(graph.get_state_history(config)))
    for stray in ("text", {"content": 5}, {"content": {"type": "msgpack", "data": "wQ=="}}):
        for kind in ("v", "w"):
            for key in connection.context.keys(f"memx:graph:t:{kind}:*"):
                connection.context.set(key, stray)
        assert graph.get_state(config).values == {"steps": []}
        assert len(list(graph.get_state_history(config))) == steps
    assert "counts as not there" in caplog.text


def test_a_state_with_a_hole_is_not_taken_for_a_whole_one(connection: MemxConnection) -> None:
    graph = _graph(MemxSaver(connection))
    config: Any = {"configurable": {"thread_id": "t"}}
    large = secrets.token_hex(1_000_000)
    graph.invoke({"steps": [large]}, config)
    assert graph.get_state(config).values["steps"][0] == large
    connection.context.delete(connection.context.keys("memx:graph:t:^:*")[0])
    with pytest.raises(LookupError, match="missing"):
        list(graph.get_state_history(config))


def test_what_earlier_versions_wrote_goes_on(connection: MemxConnection) -> None:
    saver = MemxSaver(connection)
    graph = _graph(saver)
    config: Any = {"configurable": {"thread_id": "t"}}
    graph.invoke({"steps": []}, config)
    # As they wrote it: nothing compressed, no list of channels, and what was long in parts of another form.
    for entry in connection.context.entries("memx:graph:t:*"):
        content: Any = entry.value.pop("content")
        entry.value.pop("held", None)
        data = unpack(content)
        if entry.key.startswith("memx:graph:t:v:") and entry.value["channel"] == "steps":
            owner = hashlib.sha256(entry.key.encode()).hexdigest()
            for number, part in enumerate((data[:5], data[5:])):
                text = base64.b64encode(part).decode()
                connection.context.set(f"memx:graph:t:p:{owner}:{number:06d}", text)
            new = {"type": content["type"], "parts": 2}
        else:
            new = {"type": content["type"], "data": base64.b64encode(data).decode()}
        connection.context.set(entry.key, {**entry.value, "content": new})
    saver.copy_thread("t", "copied")
    for thread in ("t", "copied"):
        where: Any = {"configurable": {"thread_id": thread}}
        result = _graph(MemxSaver(connection)).invoke(Command(resume="yes"), where)
        assert result["steps"] == ["first" * 10, "yes"]
        saver.delete_thread(thread)
    assert connection.context.keys("memx:graph:*") == []


@pytest.fixture
def requests(connection: MemxConnection) -> Iterator[list[str]]:
    """The operations that were asked for so far."""
    asked: list[str] = []
    transport: Any = connection.context._caller.transport
    request = transport.request

    def count(each: Any) -> Any:
        asked.append(each.op)
        return request(each)

    transport.request = count
    yield asked
    transport.request = request


def _thread(saver: MemxSaver, thread: str, steps: int) -> list[Any]:
    config: Any = {"configurable": {"thread_id": thread, "checkpoint_ns": ""}}
    made = []
    for step in range(steps):
        version = saver.get_next_version(f"{step}.0", None)
        checkpoint: Any = {
            **empty_checkpoint(),
            "id": str(uuid6(clock_seq=step)),
            "channel_values": {"messages": [f"{number}" for number in range(step)]},
            "channel_versions": {"messages": version},
        }
        config = saver.put(
            config, checkpoint, {"source": "loop", "step": step}, {"messages": version}
        )
        saver.put_writes(config, [("messages", step), ("other", step)], f"task{step}")
        made.append(config)
    return made


def test_a_long_thread_is_written_deleted_pruned_and_copied_in_few_requests(
    connection: MemxConnection, requests: list[str]
) -> None:
    saver = MemxSaver(connection)
    _thread(saver, "long", 150)
    assert len(requests) == 300  # one for each put and put_writes
    for action, most in (
        (lambda: saver.copy_thread("long", "copy"), 40),
        (lambda: saver.prune(["copy"]), 15),
        (lambda: saver.get_tuple({"configurable": {"thread_id": "copy"}}), 3),
        (lambda: list(saver.list({"configurable": {"thread_id": "long"}})), 35),
        (lambda: saver.delete_thread("long"), 4),
    ):
        requests.clear()
        action()
        assert len(requests) <= most, requests
    (kept,) = saver.list({"configurable": {"thread_id": "copy"}})
    assert kept.checkpoint["channel_values"]["messages"] == [str(n) for n in range(149)]
    assert len(kept.pending_writes or ()) == 2
    assert len(connection.context.keys("memx:graph:*")) == 4


def test_the_history_of_a_delta_channel_is_read_in_few_requests(
    connection: MemxConnection, requests: list[str]
) -> None:
    saver = MemxSaver(connection)
    config: Any = {"configurable": {"thread_id": "delta", "checkpoint_ns": ""}}
    for step in range(80):
        checkpoint: Any = {**empty_checkpoint(), "id": str(uuid6(clock_seq=step))}
        checkpoint["channel_versions"] = {"log": f"{step}", "full": f"{step}"}
        checkpoint["channel_values"] = {"full": step, **({"log": "snapshot"} if step == 20 else {})}
        new: Any = {"full": f"{step}", "log": f"{step}"}
        config = saver.put(config, checkpoint, {"source": "loop", "step": step}, new)
        saver.put_writes(config, [("log", step), ("other", step)], f"b{step}")
        saver.put_writes(config, [("log", -step)], f"a{step}")
    requests.clear()
    found = saver.get_delta_channel_history(config=config, channels=["log", "full", "none"])
    assert len(requests) <= 12, requests
    expected = BaseCheckpointSaver.get_delta_channel_history(
        saver, config=config, channels=["log", "full", "none"]
    )
    assert found == expected
    assert found["log"]["seed"] == "snapshot"
    assert len(found["log"]["writes"]) == 2 * 59
    assert saver.get_delta_channel_history(config=config, channels=[]) == {}


def test_a_threads_memory_is_no_more_than_its_values_compressed(connection: MemxConnection) -> None:
    saver = MemxSaver(connection)
    config: Any = {"configurable": {"thread_id": "t", "checkpoint_ns": ""}}
    text = [f"message {number}: the same words again and again" for number in range(400)]
    checkpoint: Any = {
        **empty_checkpoint(),
        "channel_values": {"m": text},
        "channel_versions": {"m": "1"},
    }
    saver.put(config, checkpoint, {"source": "loop", "step": 1}, {"m": "1"})
    checkpoint = {**checkpoint, "id": str(uuid6())}
    saver.put(config, checkpoint, {"source": "loop", "step": 2}, {})
    entries = connection.context.entries("memx:graph:t:v:*")
    assert len(entries) == 1
    assert len(str(entries[0].value)) < len(str(text)) / 4
    bomb = {**entries[0].value["content"], "bytes": 10}
    connection.context.set(entries[0].key, {**entries[0].value, "content": bomb})
    found = saver.get_tuple(config)
    assert found is not None
    assert found.checkpoint["channel_values"] == {}


def test_a_thread_expires_after_its_last_use(connection: MemxConnection) -> None:
    ttl: TTLConfig = {"default_ttl": 10, "refresh_on_read": True}
    saver = MemxSaver(connection, ttl=ttl)
    first = _thread(saver, "t", 3)[0]
    context = connection.context
    assert all(entry.expires_at for entry in context.entries("memx:graph:t:*"))
    # As if it had been written long ago by another process: the next use renews all of it.
    for key in context.keys("memx:graph:t:*"):
        context.touch(key, 100)
    before = max(entry.expires_at or 0 for entry in context.entries("memx:graph:t:*"))
    MemxSaver(connection, ttl=ttl).get_tuple(first)
    assert all((e.expires_at or 0) > before + 400 for e in context.entries("memx:graph:t:*"))


def test_the_newest_checkpoint_is_found_without_reading_the_others(
    connection: MemxConnection,
) -> None:
    saver = MemxSaver(connection)
    config: Any = {"configurable": {"thread_id": "t", "checkpoint_ns": ""}}
    ids = sorted([*(str(uuid.uuid1()) for _ in range(30)), "short", "z" * 60])
    for checkpoint_id in ids:
        checkpoint = {**empty_checkpoint(), "id": checkpoint_id}
        saver.put(config, checkpoint, {"source": "loop", "step": 1}, {})  # type: ignore[arg-type]  # a dict is a TypedDict
    newest = saver.get_tuple(config)
    assert newest is not None
    assert newest.checkpoint["id"] == ids[-1]
    assert [item.checkpoint["id"] for item in saver.list(config)] == ids[::-1]


def test_an_unknown_pruning_strategy_is_refused(connection: MemxConnection) -> None:
    with pytest.raises(ValueError, match="keep_latest or delete"):
        MemxSaver(connection).prune(["t"], strategy="keep_none")
