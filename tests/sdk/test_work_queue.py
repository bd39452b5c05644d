"""The queue of an agent's workers: which change may be worked on, and which cursor may be acknowledged."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from memx_sdk.core.work_queue import WorkItem, WorkQueue
from memx_sdk.models import Change


def change(key: str, revision: int) -> Change:
    return Change(key=key, revision=revision)


def taken(queue: WorkQueue) -> list[WorkItem]:
    items = []
    while (item := queue.take()) is not None:
        items.append(item)
    return items


def names(items: list[WorkItem]) -> list[tuple[str, int]]:
    return [(item.change.key, item.change.revision) for item in items if item.change is not None]


def test_different_keys_are_worked_on_at_the_same_time() -> None:
    queue = WorkQueue()
    for revision, key in enumerate("abc", start=1):
        queue.add(change(key, revision), f"c-{revision}")

    assert names(taken(queue)) == [("a", 1), ("b", 2), ("c", 3)]


def test_one_key_is_worked_on_in_order() -> None:
    queue = WorkQueue()
    queue.add(change("a", 1), "c-1")
    queue.add(change("a", 2), "c-2")

    (first,) = taken(queue)
    assert queue.take() is None
    queue.finish(first)

    assert names(taken(queue)) == [("a", 2)]


def test_the_cursor_waits_for_the_oldest() -> None:
    queue = WorkQueue()
    queue.add(change("a", 1), "c-1")
    queue.add(change("b", 2), "c-2")
    first, second = taken(queue)

    queue.finish(second)
    assert queue.cursor is None
    queue.finish(first)
    assert queue.cursor == "c-2"


def test_a_position_without_a_change_moves_the_cursor_in_its_turn() -> None:
    queue = WorkQueue()
    queue.add(None, "c-1")
    assert queue.cursor == "c-1"
    queue.add(change("a", 2), "c-2")
    queue.add(None, "c-9")
    assert (queue.cursor, len(queue)) == ("c-1", 2)

    queue.finish(taken(queue)[0])
    assert (queue.cursor, len(queue)) == ("c-9", 0)


@given(
    keys=st.lists(st.sampled_from("abc"), max_size=20),
    picks=st.lists(st.integers(0, 100), min_size=60, max_size=60),
)
def test_whatever_the_order_of_work(keys: list[str], picks: list[int]) -> None:
    queue = WorkQueue()
    for revision, key in enumerate(keys, start=1):
        queue.add(change(key, revision), str(revision))
    working: list[WorkItem] = []
    finished: list[tuple[str, int]] = []
    for pick in picks:
        working += taken(queue)
        in_work = [key for key, _ in names(working)]
        assert len(set(in_work)) == len(in_work)
        if not working:
            break
        item = working.pop(pick % len(working))
        queue.finish(item)
        finished += names([item])
        done = {revision for _, revision in finished}
        contiguous = next(n for n in range(len(keys) + 1) if n + 1 not in done)
        assert queue.cursor == (str(contiguous) if contiguous else None)

    assert len(finished) == len(keys)
    for key in "abc":
        revisions = [revision for name, revision in finished if name == key]
        assert revisions == sorted(revisions)
