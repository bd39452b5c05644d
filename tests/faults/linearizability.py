"""A search for linearizability of single keys (Wing and Gong's algorithm), over windows of concurrent operations."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from tests.faults.history import Operation

SINGLE = {"get", "set", "set_if", "increment", "append", "delete"}
"""Kinds of operations that read or write one key."""

_LONGEST_WINDOW = 14
"""Operations in one window at the most: the search is exponential in those that overlap."""


def not_linearizable(
    operations: Sequence[Operation], log: Sequence[dict[str, Any]], lost: set[int]
) -> Iterator[tuple[str, list[Operation]]]:
    """Yield each key with a window of operations that no sequential order explains.

    An operation is a read or a write of the key's revision; a write's effect is its revision in the log. A window is
    a run of operations that overlap one another; between two windows there is a moment at which none is under way, so
    the state that one leaves is the state in which the next begins. Keys with a lost write are left out: their history
    was cut, which the other checks look at.
    """
    revisions = {change.get("reason"): change["revision"] for change in log}
    removed: dict[str, list[int]] = defaultdict(list)
    for change in log:
        if change["action"] in {"delete", "expire"}:
            removed[change["key"]].append(change["revision"])
    for key, found in _by_key(operations).items():
        known = [_effect(each, revisions) for each in found]
        if any(effect in lost for effect in known):
            continue
        states = {0}
        for window in _windows([(each, effect) for each, effect in zip(found, known, strict=True)]):
            if len(window) > _LONGEST_WINDOW:
                states = _possible(states, window)
                continue
            after = _search(states, window, removed.get(key, []))
            if not after:
                yield key, [each for each, _ in window]
                return
            states = after


def _by_key(operations: Sequence[Operation]) -> dict[str, list[Operation]]:
    found: dict[str, list[Operation]] = defaultdict(list)
    for each in operations:
        single = len(each.keys) == 1 and each.kind in SINGLE
        if single and (each.outcome == "ok" or (each.writes and each.outcome == "unknown")):
            found[each.keys[0]].append(each)
    return found


def _effect(operation: Operation, revisions: dict[Any, int]) -> int | None:
    """Return the revision that it read or wrote; None for a write that never happened."""
    if operation.writes:
        return revisions.get(operation.token)
    return operation.revision


def _end(operation: Operation) -> float:
    """Return when an operation had surely happened: one without an answer may still happen at any time."""
    return float("inf") if operation.outcome == "unknown" else operation.end


Step = tuple[Operation, int | None]


def _windows(steps: list[Step]) -> Iterator[list[Step]]:
    window: list[Step] = []
    until = float("-inf")
    for step in sorted(steps, key=lambda each: each[0].start):
        operation, effect = step
        if operation.writes and effect is None:
            continue
        if window and operation.start > until:
            yield window
            window = []
        window.append(step)
        until = max(until, _end(operation))
    if window:
        yield window


def _possible(states: set[int], window: list[Step]) -> set[int]:
    """Return every state that a window may leave, without a search: too many operations overlap in it."""
    return states | {effect or 0 for _, effect in window} | {0}


def _search(states: set[int], window: list[Step], removed: list[int]) -> set[int]:
    """Return the states that some order of the window leaves; none where no order explains it."""
    ends: set[int] = set()
    seen: set[tuple[int, frozenset[int]]] = set()

    def visit(state: int, done: frozenset[int]) -> None:
        if (state, done) in seen:
            return
        seen.add((state, done))
        if len(done) == len(window):
            ends.add(state)
            return
        first_end = min(_end(each) for at, (each, _) in enumerate(window) if at not in done)
        for at, (operation, effect) in enumerate(window):
            if at in done or operation.start > first_end:
                continue
            after = _apply(state, operation, effect, removed)
            if after is not None:
                visit(after, done | {at})

    for state in states:
        visit(state, frozenset())
    return ends


def _apply(state: int, operation: Operation, effect: int | None, removed: list[int]) -> int | None:
    """Return the key's revision after one operation; None where it cannot happen in this state."""
    if operation.kind == "delete":
        return -(effect or 0) if effect is not None else state
    if operation.writes:
        wanted = operation.arguments.get("if_revision")
        if wanted is not None and max(state, 0) != wanted and not _expired(state, wanted, removed):
            return None
        return effect if (effect or 0) > abs(state) else None
    if effect == max(state, 0) or (not effect and _gone(state, removed)):
        return state
    return None


def _gone(state: int, removed: list[int]) -> bool:
    """Whether the entry may have expired since: an expiry is nobody's operation."""
    return any(revision > state for revision in removed)


def _expired(state: int, wanted: int, removed: list[int]) -> bool:
    return wanted == 0 and _gone(state, removed)
