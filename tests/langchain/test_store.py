"""LangGraph's long-term memory, as its documentation describes it."""

from __future__ import annotations

import secrets
import time
from typing import Any

import pytest
from langchain_memx import MemxConnection, MemxItem, MemxSaver, MemxStore
from langgraph.graph import END, START, StateGraph
from langgraph.store.base import (
    BaseStore,
    GetOp,
    InvalidNamespaceError,
    ListNamespacesOp,
    MatchCondition,
    PutOp,
    SearchOp,
)
from typing_extensions import TypedDict

from memx_sdk import ConflictError
from tests.support.memx_server import Served


@pytest.fixture
def store(connection: MemxConnection) -> MemxStore:
    return MemxStore(connection)


def test_puts_gets_updates_and_deletes(store: MemxStore) -> None:
    store.put(("users", "ann"), "prefs", {"theme": "dark", "deep": {"list": [1, None]}})
    first = store.get(("users", "ann"), "prefs")
    assert first is not None
    assert first.value == {"theme": "dark", "deep": {"list": [1, None]}}
    assert (first.namespace, first.key) == (("users", "ann"), "prefs")
    store.put(("users", "ann"), "prefs", {"theme": "light"})
    second = store.get(("users", "ann"), "prefs")
    assert second is not None
    assert second.value == {"theme": "light"}
    assert second.created_at == first.created_at
    assert second.updated_at > first.updated_at
    store.delete(("users", "ann"), "prefs")
    assert store.get(("users", "ann"), "prefs") is None


def test_any_text_is_a_key_or_label_and_none_is_taken_for_another(store: MemxStore) -> None:
    hostile = ["a:b", "a/b", "a", "*", "?[x]", "^", "~", "%7E", "ä" * 300, "x" * 2000, "\n", " "]
    for number, text in enumerate(hostile):
        store.put((text,), text, {"number": number})
        store.put(("deep", *[text] * 5), "k", {"number": number})
    for number, text in enumerate(hostile):
        item = store.get((text,), text)
        assert item is not None
        assert item.value == {"number": number}
        assert (item.namespace, item.key) == ((text,), text)
        assert [i.value["number"] for i in store.search((text,))] == [number]
        assert [i.value["number"] for i in store.search(("deep", text, text))] == [number]


def test_a_namespace_is_not_found_under_another_that_it_starts_like(store: MemxStore) -> None:
    store.put(("user",), "k", {})
    store.put(("users",), "k", {})
    assert [item.namespace for item in store.search(("user",))] == [("user",)]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({"kind": "a"}, ["2", "1"]),
        ({"kind": {"$eq": "a"}}, ["2", "1"]),
        ({"kind": {"$ne": "a"}}, ["3"]),
        ({"score": {"$gt": 1}}, ["3", "2"]),
        ({"score": {"$gte": 2, "$lt": 3}}, ["2"]),
        ({"score": {"$lte": 1}, "kind": "a"}, ["1"]),
        ({"nested": {"x": 1}}, ["1"]),
        ({"missing": 1}, []),
        (None, ["3", "2", "1"]),
    ],
)
def test_search_filters(store: MemxStore, wanted: Any, found: list[str]) -> None:
    store.put(("n", "x"), "1", {"kind": "a", "score": 1, "nested": {"x": 1, "y": 2}})
    store.put(("n", "x"), "2", {"kind": "a", "score": 2})
    store.put(("n", "y"), "3", {"kind": "b", "score": 3.5})
    store.put(("other",), "4", {"kind": "a", "score": 9})
    assert [item.key for item in store.search(("n",), filter=wanted)] == found


def test_search_refuses_an_unknown_operator_and_pages(store: MemxStore) -> None:
    for number in range(25):
        store.put(("many",), f"{number:02}", {"n": number})
    assert [i.value["n"] for i in store.search(("many",), limit=3, offset=2)] == [22, 21, 20]
    assert len(store.search(("many",))) == 10
    with pytest.raises(ValueError, match=r"\$regex"):
        store.search(("many",), filter={"n": {"$regex": "1"}})


@pytest.mark.parametrize("wanted", [{"n": {"$regex": "1"}}, {"a": {"b": [{"$x": 1}]}}, {"$or": []}])
def test_an_unknown_operator_is_refused_also_where_there_is_nothing(
    store: MemxStore, wanted: Any
) -> None:
    with pytest.raises(ValueError, match=r"use \$eq, \$ne, \$gt"):
        store.search(("nothing",), filter=wanted)


def test_numbers_of_any_size_are_compared_exactly(store: MemxStore) -> None:
    values: dict[str, Any] = {"near": 2**53 + 1, "half": 0.5, "text": "7", "no": "x", "flag": True}
    values |= {"list": [], "null": None}
    for key, value in values.items():
        store.put(("n",), key, {"score": value})

    def found(**operators: Any) -> list[str]:
        wanted = {"score": {f"${name}": operand for name, operand in operators.items()}}
        return [item.key for item in store.search(("n",), filter=wanted)]

    assert found(gt=10**400) == []
    assert found(lt=10**400) == ["half", "near"]
    assert found(gt=2**53) == ["near"]
    assert found(gte=1) == ["near"]
    assert found(lte=0.5) == ["half"]
    assert found(gte="7") == ["no", "text"]


def test_what_a_search_finds_knows_its_revision(store: MemxStore) -> None:
    store.put(("r",), "a", {"n": 1})
    (found,) = store.search(("r",))
    assert store.put_if(("r",), "a", {"n": 2}, found.revision) > found.revision


def test_values_of_any_size_are_kept(store: MemxStore, connection: MemxConnection) -> None:
    text = secrets.token_hex(1_000_000)
    store.put(("files",), "large", {"content": text}, ttl=10)
    item = store.get(("files",), "large", refresh_ttl=True)
    assert item is not None
    assert item.value == {"content": text}
    assert [found.key for found in store.search((), limit=5)] == ["large"]
    assert [found.value for found in store.search(("files",))] == [{"content": text}]
    store.put(("files",), "other", {"content": 5})
    found = store.search(("files",), filter={"content": text})
    assert [item.key for item in found] == ["large"]
    store.delete(("files",), "other")
    store.put(("files",), "large", {"content": "small"})
    assert len(connection.context.keys("memx:store:*")) == 1


def test_lists_namespaces_by_prefix_suffix_and_depth(store: MemxStore) -> None:
    for namespace in [("a", "b", "c"), ("a", "b", "d"), ("a", "x", "c"), ("z",)]:
        store.put(namespace, "k", {})
    assert store.list_namespaces(prefix=("a", "b")) == [("a", "b", "c"), ("a", "b", "d")]
    assert store.list_namespaces(suffix=("c",)) == [("a", "b", "c"), ("a", "x", "c")]
    assert store.list_namespaces(prefix=("a", "*", "c")) == [("a", "b", "c"), ("a", "x", "c")]
    assert store.list_namespaces(max_depth=2) == [("a", "b"), ("a", "x"), ("z",)]
    assert store.list_namespaces(limit=1, offset=1, max_depth=1) == [("z",)]


def test_a_batch_reads_before_it_writes_and_its_last_put_wins(store: MemxStore) -> None:
    store.put(("b",), "k", {"n": 0})
    condition = MatchCondition("prefix", ("b",))
    got, found, _, _, listed = store.batch(
        [
            GetOp(("b",), "k"),
            SearchOp(("b",), None, 10, 0),
            PutOp(("b",), "k", {"n": 1}),
            PutOp(("b",), "k", {"n": 2}),
            ListNamespacesOp(match_conditions=(condition,)),
        ]
    )
    assert isinstance(got, MemxItem)
    assert got.value == {"n": 0}
    assert isinstance(found, list)
    assert len(found) == 1
    assert listed == [("b",)]
    after = store.get(("b",), "k")
    assert after is not None
    assert after.value == {"n": 2}


@pytest.mark.parametrize("namespace", [(), ("",), ("a.b",), ("langgraph",)])
def test_bad_namespaces_are_refused(store: MemxStore, namespace: tuple[str, ...]) -> None:
    with pytest.raises(InvalidNamespaceError):
        store.put(namespace, "k", {})


def test_an_item_expires_unless_it_is_read(connection: MemxConnection) -> None:
    ttl = 1.2 / 60
    store = MemxStore(connection, ttl={"default_ttl": ttl, "refresh_on_read": True})
    store.put(("t",), "read", {})
    store.put(("t",), "left", {})
    store.put(("t",), "kept", {}, ttl=None)
    deadline = time.monotonic() + 5
    while store.get(("t",), "left", refresh_ttl=False) is not None:
        assert time.monotonic() < deadline
        assert store.get(("t",), "read") is not None
        time.sleep(0.1)
    assert {item.key for item in store.search(("t",))} == {"read", "kept"}


def test_a_conditional_put_expires_as_any_other(connection: MemxConnection) -> None:
    store = MemxStore(connection, ttl={"default_ttl": 10})
    revision = store.put_if(("tmp",), "k", {"v": 1}, 0)
    (entry,) = connection.context.entries("memx:store:*")
    assert entry.expires_at is not None
    store.put_if(("tmp",), "k", {"v": 2}, revision, ttl=None)
    (entry,) = connection.context.entries("memx:store:*")
    assert entry.expires_at is None


def test_who_may_only_read_reads_what_expires_too(
    served: Served, connection: MemxConnection, api_key: str
) -> None:
    MemxStore(connection).put(("tmp",), "k", {"v": 1}, ttl=10)
    key = served.keys.add(space=served.keys.space_of(api_key), write=())
    reader = MemxStore(MemxConnection(key, served.url))
    assert reader.get(("tmp",), "k", refresh_ttl=True) is not None
    assert len(reader.search(("tmp",), refresh_ttl=True)) == 1


def test_what_others_wrote_among_the_items_disturbs_nobody(
    store: MemxStore, connection: MemxConnection
) -> None:
    store.put(("users",), "ann", {"v": 1})
    (item,) = connection.context.keys("memx:store:*")
    connection.context.set(f"{item}ika", "a stray note")
    assert [found.key for found in store.search(("users",))] == ["ann"]
    assert store.list_namespaces() == [("users",)]
    good = {"namespace": ["users"], "key": "k", "value": {}, "created_at": "2026-11-27T18:00:00"}
    wrong: list[dict[str, Any]] = [{"namespace": 5}, {"namespace": [5]}, {"key": 5}, {"value": 5}]
    for part in [*wrong, {"created_at": "x"}, {"created_at": 5}, {"ttl": "x"}, {"ttl": -1}]:
        connection.context.set(f"{item}ika", {**good, **part})
        assert [found.key for found in store.search(("users",), refresh_ttl=True)] == ["ann"]
        assert store.list_namespaces() == [("users",)]
    connection.context.set(item, ["overwritten"])
    assert store.get(("users",), "ann") is None
    store.put(("users",), "ann", {"v": 2})
    assert store.get(("users",), "ann") is not None


def test_a_conditional_put_succeeds_for_one_of_two(store: MemxStore) -> None:
    revision = store.put_if(("c",), "k", {"by": "first"}, 0)
    with pytest.raises(ConflictError) as refused:
        store.put_if(("c",), "k", {"by": "second"}, 0)
    assert refused.value.entry is not None
    assert refused.value.entry.revision == revision
    item = store.get(("c",), "k")
    assert isinstance(item, MemxItem)
    assert item.revision == revision
    assert store.put_if(("c",), "k", {"by": "second"}, item.revision) > revision


def test_an_item_in_a_graphs_state_comes_back_whole(
    store: MemxStore, connection: MemxConnection
) -> None:
    store.put(("seen",), "ann", {"times": 1})
    saver = MemxSaver(connection)
    item = store.get(("seen",), "ann")
    restored = saver.serde.loads_typed(saver.serde.dumps_typed({"item": item}))["item"]
    assert isinstance(restored, MemxItem)
    assert restored == item
    assert isinstance(item, MemxItem)
    assert restored.revision == item.revision


async def test_a_graph_uses_it_as_its_store(connection: MemxConnection) -> None:
    class State(TypedDict):
        name: str

    async def remember(state: State, *, store: BaseStore) -> dict[str, Any]:
        await store.aput(("seen",), state["name"], {"times": 1})
        return {}

    builder = StateGraph(State)
    builder.add_node("remember", remember)
    builder.add_edge(START, "remember")
    builder.add_edge("remember", END)
    store = MemxStore(connection)
    await builder.compile(store=store).ainvoke({"name": "ann"})
    item = await store.aget(("seen",), "ann")
    assert item is not None
    assert item.value == {"times": 1}
    await connection.aclose()
