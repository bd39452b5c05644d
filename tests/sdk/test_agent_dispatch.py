"""Which changes an agent may work on, and how far it may say that it has got."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from memx_sdk.core.dispatch import Board, Job
from memx_sdk.models import Change


def change(key: str, revision: int) -> Change:
    return Change(key=key, revision=revision)


def taken(board: Board) -> list[Job]:
    jobs = []
    while (job := board.take()) is not None:
        jobs.append(job)
    return jobs


def names(jobs: list[Job]) -> list[tuple[str, int]]:
    return [(job.change.key, job.change.revision) for job in jobs if job.change is not None]


def test_different_keys_are_worked_on_at_the_same_time() -> None:
    board = Board()
    for revision, key in enumerate("abc", start=1):
        board.add(change(key, revision), f"c-{revision}")

    assert names(taken(board)) == [("a", 1), ("b", 2), ("c", 3)]


def test_one_key_is_worked_on_in_order() -> None:
    board = Board()
    board.add(change("a", 1), "c-1")
    board.add(change("a", 2), "c-2")

    (first,) = taken(board)
    assert board.take() is None
    board.finish(first)

    assert names(taken(board)) == [("a", 2)]


def test_the_cursor_waits_for_the_oldest() -> None:
    board = Board()
    board.add(change("a", 1), "c-1")
    board.add(change("b", 2), "c-2")
    first, second = taken(board)

    board.finish(second)
    assert board.cursor is None
    board.finish(first)
    assert board.cursor == "c-2"


def test_a_position_without_a_change_moves_the_cursor_in_its_turn() -> None:
    board = Board()
    board.add(None, "c-1")
    assert board.cursor == "c-1"
    board.add(change("a", 2), "c-2")
    board.add(None, "c-9")
    assert (board.cursor, len(board)) == ("c-1", 2)

    board.finish(taken(board)[0])
    assert (board.cursor, len(board)) == ("c-9", 0)


@given(
    keys=st.lists(st.sampled_from("abc"), max_size=20),
    picks=st.lists(st.integers(0, 100), min_size=60, max_size=60),
)
def test_whatever_the_order_of_work(keys: list[str], picks: list[int]) -> None:
    board = Board()
    for revision, key in enumerate(keys, start=1):
        board.add(change(key, revision), str(revision))
    working: list[Job] = []
    finished: list[tuple[str, int]] = []
    for pick in picks:
        working += taken(board)
        in_work = [key for key, _ in names(working)]
        assert len(set(in_work)) == len(in_work)
        if not working:
            break
        job = working.pop(pick % len(working))
        board.finish(job)
        finished += names([job])
        done = {revision for _, revision in finished}
        contiguous = next(n for n in range(len(keys) + 1) if n + 1 not in done)
        assert board.cursor == (str(contiguous) if contiguous else None)

    assert len(finished) == len(keys)
    for key in "abc":
        revisions = [revision for name, revision in finished if name == key]
        assert revisions == sorted(revisions)
