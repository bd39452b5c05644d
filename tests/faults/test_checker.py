"""The checker finds each kind of violation that a history can hold, and nothing in a history without one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.faults.checker import check, stale_at_a_failover
from tests.faults.history import FinalState, History, Observation, Operation


def change(
    revision: int, key: str, value: Any, token: str = "", version: int = 1, action: str = "set"
) -> dict[str, Any]:
    """One change as the log tells it."""
    return {
        "event": "value",
        "action": action,
        "key": key,
        "revision": revision,
        "version": version if action == "set" else 0,
        "value": value,
        "reason": token,
    }


def write(token: str, revision: int, start: float, end: float, **more: Any) -> Operation:
    """An acknowledged write of ``a``."""
    kind, keys = more.pop("kind", "set"), more.pop("keys", ("a",))
    return Operation(
        "client", kind, keys, token, more, start, end, "ok", revision, f"lineage-{revision}"
    )


def read(revision: int, start: float, end: float) -> Operation:
    """A read of ``a`` that saw a revision."""
    return Operation("client", "get", ("a",), f"read-{start}", {}, start, end, "ok", revision)


@pytest.fixture
def history() -> History:
    """Two writes of ``a``, a pair, a reader and a subscriber; nothing is wrong with it."""
    log = [
        change(1, "a", "x", "t1"),
        change(2, "a", "y", "t2", version=2),
        change(3, "p:a", "z", "t3"),
        change(3, "p:b", "z", "t3"),
    ]
    entries = {each["key"]: each for each in log}
    operations = [
        write("t1", 1, 0, 1),
        write("t2", 2, 2, 3),
        read(2, 4, 5),
        write("t3", 3, 6, 7, kind="pair", keys=("p:a", "p:b")),
    ]
    seen = Observation("observer", "ws", "*")
    seen.segment.events = [dict(each) for each in log]
    seen.segment.begins_after, seen.segment.reached = 0, 3
    return History(operations, [seen], FinalState(log, entries))


def broken(history: History) -> set[str]:
    """The promises that a history breaks, cross-checks left out."""
    return {each.promise for each in check(history)}


def test_a_sound_history_breaks_nothing(history: History) -> None:
    assert check(history) == []


def lost(history: History) -> None:
    history.operations.append(write("t9", 9, 8, 9))


def refused_but_there(history: History) -> None:
    history.operations[1].outcome = "refused"


def applied_twice(history: History) -> None:
    history.final.log.append(change(4, "a", "y", "t2", version=3))
    history.final.entries["a"] = history.final.log[-1]
    history.observations.clear()


def shared_revision(history: History) -> None:
    history.operations[0].revision = 2


def out_of_real_time(history: History) -> None:
    history.operations[1].start, history.operations[1].end = -2, -1


def state_differs(history: History) -> None:
    history.final.entries["a"] = change(2, "a", "another", "t2", version=2)


def version_skips(history: History) -> None:
    history.final.log[1]["version"] = 3


def log_falls(history: History) -> None:
    history.final.log.reverse()


def condition_did_not_hold(history: History) -> None:
    history.operations[1].kind = "set_if"
    history.operations[1].arguments["if_revision"] = 0


def increment_lost_one(history: History) -> None:
    history.operations[1].kind = "increment"
    history.operations[1].arguments["by"] = 1
    history.final.log[0]["value"], history.final.log[1]["value"] = 5, 7


def append_lost_one(history: History) -> None:
    history.operations[1].kind = "append"
    history.operations[1].arguments["item"] = "y"
    history.final.log[0]["value"], history.final.log[1]["value"] = ["x"], ["y"]


def half_applied(history: History) -> None:
    history.final.log.pop()
    history.observations.clear()


def half_read(history: History) -> None:
    seen: dict[str, dict[str, Any] | None] = {"p:a": history.final.log[2], "p:b": None}
    history.operations.append(
        Operation("client", "pair_read", ("p:a", "p:b"), "r", {}, 8, 9, "ok", seen=seen)
    )


def stale_read(history: History) -> None:
    history.operations.append(read(1, 8, 9))


def missing_read(history: History) -> None:
    history.operations.append(read(0, 8, 9))


def expired_and_read(history: History) -> None:
    late = read(2, 8, 9)
    late.seen, late.arguments["wall"] = {"a": {"revision": 2, "expires_at": 100.0}}, 102.0
    history.operations.append(late)


def expired_twice(history: History) -> None:
    gone = [change(at, "a", None, version=0, action="expire") for at in (4, 5)]
    history.final.log += gone
    del history.final.entries["a"]
    history.observations.clear()


def against_its_schema(history: History) -> None:
    schema = {"key": "a", "action": "schema", "revision": 0, "schema": {"type": "integer"}}
    history.final.log.insert(0, schema)


def subscriber_out_of_order(history: History) -> None:
    history.observations[0].segment.events.reverse()


def subscriber_twice(history: History) -> None:
    events = history.observations[0].segment.events
    events.append(dict(events[-1]))


def subscriber_gap(history: History) -> None:
    del history.observations[0].segment.events[1]


def subscriber_half_a_transaction(history: History) -> None:
    del history.observations[0].segment.events[-1]


def subscriber_below_its_cursor(history: History) -> None:
    history.observations[0].segment.begins_after = 1


def subscriber_phantom(history: History) -> None:
    history.observations[0].segment.events.append(change(4, "a", "ghost"))


def conflated_back(history: History) -> None:
    history.observations[0].conflate = True
    history.observations[0].segment.events.append(change(1, "a", "x"))


def conflated_without_the_newest(history: History) -> None:
    history.observations[0].conflate = True
    del history.observations[0].segment.events[1]


PLANTED: dict[Callable[[History], None], str] = {
    lost: "lost write",
    refused_but_there: "refused write",
    applied_twice: "applied twice",
    shared_revision: "shared revision",
    out_of_real_time: "real-time order",
    state_differs: "fold",
    version_skips: "version",
    log_falls: "log order",
    condition_did_not_hold: "condition",
    increment_lost_one: "update",
    append_lost_one: "update",
    half_applied: "half a transaction",
    half_read: "half a transaction",
    stale_read: "stale read",
    missing_read: "stale read",
    expired_and_read: "expiry",
    expired_twice: "expiry",
    against_its_schema: "schema",
    subscriber_out_of_order: "ordered",
    subscriber_twice: "unique",
    subscriber_gap: "reliable",
    subscriber_half_a_transaction: "reliable",
    subscriber_below_its_cursor: "bookmarkable",
    subscriber_phantom: "phantom",
    conflated_back: "conflate",
    conflated_without_the_newest: "conflate",
}


@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: str(plant.__name__))
def test_a_planted_violation_is_found(history: History, plant: Callable[[History], None]) -> None:
    plant(history)
    assert PLANTED[plant] in broken(history)


def test_a_loss_that_everybody_is_told_of_is_none(history: History) -> None:
    history.operations.append(write("t9", 9, 8, 9))
    history.final.diverged["lineage-9"] = True
    seen = history.observations[0]
    seen.segment.events.append(change(9, "a", "gone", "t9", version=3))
    seen.segment.reached = 9
    seen.reset("diverged")
    seen.segment.begins_after = seen.segment.reached = 3
    assert check(history) == []


def test_a_loss_that_one_subscriber_is_not_told_of_is_found(history: History) -> None:
    history.operations.append(write("t9", 9, 8, 9))
    history.final.diverged["lineage-9"] = True
    history.observations[0].segment.events.append(change(9, "a", "gone", "t9", version=3))
    assert {"unannounced loss", "phantom"} <= broken(history)


@pytest.mark.parametrize(
    ("replicated", "read_at", "found"), [(True, 9.5, False), (True, 30, True), (False, 9.5, True)]
)
def test_a_stale_read_counts_apart_only_beside_a_write_that_a_failover_lost(
    history: History, replicated: bool, read_at: float, found: bool
) -> None:
    history.replicated = replicated
    history.operations.append(write("t9", 9, 8, 9))
    history.final.diverged["lineage-9"] = True
    history.operations.append(read(1, read_at, read_at + 0.1))
    assert ("stale read" in broken(history)) is found
    assert stale_at_a_failover(history) == (not found)


def test_a_key_that_a_lost_delete_had_removed_was_gone_for_readers(history: History) -> None:
    history.operations.append(read(0, 8, 9))
    assert "stale read" in broken(history)
    gone = write("t9", 0, 7, 7.5, kind="delete")
    gone.outcome, gone.revision, gone.cursor = "unknown", None, None
    history.operations.append(gone)
    assert "stale read" not in broken(history)


def test_a_lost_write_to_a_deposed_primary_may_lie_below_what_the_new_one_took(
    history: History,
) -> None:
    history.operations.append(write("t9", 1, 8, 9))  # 3 had been acknowledged by then
    history.operations[-1].cursor = "lineage-9"
    history.final.diverged["lineage-9"] = True
    assert "real-time order" in broken(history)
    history.replicated = True
    assert "real-time order" not in broken(history)


def test_a_segment_of_a_history_that_was_cut_is_not_measured_by_the_log_that_is_kept(
    history: History,
) -> None:
    subscriber_gap(history)
    assert "reliable" in broken(history)
    history.observations[0].reset("diverged")
    assert "reliable" not in broken(history)


def test_the_search_for_an_order_finds_what_no_order_explains(history: History) -> None:
    # Two reads that overlap the write of revision 2: one after the other, the later one sees the older value.
    history.operations[1].start, history.operations[1].end = 2, 9
    history.operations[2] = read(2, 3, 4)
    history.operations.append(read(1, 5, 6))
    assert "linearizable" in broken(history)


def test_reads_beside_a_write_may_see_either_value(history: History) -> None:
    history.operations[1].start, history.operations[1].end = 2, 9
    history.operations[2] = read(1, 3, 4)
    history.operations.append(read(2, 5, 6))
    assert check(history) == []
