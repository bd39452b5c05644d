"""Graphs that stop here and go on there."""

from __future__ import annotations

import operator
import subprocess
import sys
import uuid
from typing import Annotated, Any

import pytest
from langchain_memx import MemxConnection, MemxSaver
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.graph import END, START, StateGraph
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


def test_writes_without_history(connection: MemxConnection) -> None:
    graph = _graph(MemxSaver(connection))
    graph.invoke({"steps": []}, {"configurable": {"thread_id": "quiet"}})
    page = connection.context.changes("memx:graph:*", limit=1000)
    assert page.changes
    assert all("value" not in change for change in page.changes)


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
    graph = _graph(MemxSaver(connection), size=300_000)
    config: Any = {"configurable": {"thread_id": "t"}}
    graph.invoke({"steps": []}, config)
    connection.context.delete(connection.context.keys("memx:graph:t:p:*")[0])
    with pytest.raises(LookupError, match="missing"):
        list(graph.get_state_history(config))


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
