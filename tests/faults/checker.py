"""The checker of a run under faults: which of memX's promises its history breaks.

Each function looks at one promise. The log at the end is the ground truth: what is in it happened; what was
acknowledged and is not in it was lost, and the checker asks whether everybody who could know was told so.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from fnmatch import fnmatchcase
from typing import Any

from tests.faults.history import FinalState, History, Observation, Operation, Segment, Violation
from tests.faults.linearizability import SINGLE, not_linearizable

_CLOCK_TOLERANCE = 0.5
"""Seconds by which an expired entry may outlive its time: the store's clock and the client's are read apart."""

_DEPOSED_AT_MOST = 3.0
"""Seconds that a server may read from a deposed primary before and after a write to it that was lost."""


def check(history: History) -> list[Violation]:
    """Return every broken promise; an empty list where all held."""
    return [found for look in CHECKS for found in look(history)]


def acknowledged_writes_are_kept_or_announced(history: History) -> Iterator[Violation]:
    """Every acknowledged write is in the log, or its cursor is refused as diverged."""
    kept = _revisions_by_token(history.final)
    for operation in _acknowledged(history):
        if operation.revision in kept.get(operation.token, ()):
            continue
        if operation.kind == "delete" and not operation.arguments.get("deleted", True):
            continue  # there was nothing to delete: no change
        cursor = operation.cursor
        if cursor is None or not history.final.diverged.get(cursor, False):
            yield Violation(
                "lost write", f"{_name(operation)} is not in the log, and nobody says so"
            )


def refused_writes_did_not_happen(history: History) -> Iterator[Violation]:
    """What was refused left no trace."""
    kept = _revisions_by_token(history.final)
    for operation in history.operations:
        if operation.writes and operation.outcome == "refused" and operation.token in kept:
            yield Violation("refused write", f"{_name(operation)} was refused and is in the log")


def writes_are_applied_once(history: History) -> Iterator[Violation]:
    """No write has two revisions, whatever its client knows of it."""
    for token, revisions in _revisions_by_token(history.final).items():
        if token and len(revisions) > 1:
            yield Violation("applied twice", f"{token} has the revisions {sorted(revisions)}")


def revisions_are_unique_and_in_real_time_order(history: History) -> Iterator[Violation]:
    """Two writes never share a revision; one that began after another had ended has a higher one."""
    holders: dict[int, Operation] = {}
    # What a deposed primary took beside the new one belongs to a history that was cut, and is counted as lost.
    cut = {id(each) for each in lost_writes(history)} if history.replicated else set()
    written = [each for each in _acknowledged(history) if _changed(each) and id(each) not in cut]
    for operation in written:
        assert operation.revision is not None
        other = holders.setdefault(operation.revision, operation)
        if other is not operation:
            yield Violation("shared revision", f"{_name(other)} and {_name(operation)}")
    ends = sorted(written, key=lambda each: each.end)
    newest = _running_maximum(ends)
    moments = [each.end for each in ends]
    for operation in written:
        at = bisect_right(moments, operation.start) - 1
        if at >= 0 and newest[at] >= (operation.revision or 0):
            yield Violation(
                "real-time order",
                f"{_name(operation)} is below {newest[at]}, which had ended before",
            )


def the_state_is_the_fold_of_the_log(history: History) -> Iterator[Violation]:
    """Entries are what their changes make of them: value, revision and version."""
    if history.final.trimmed:
        return
    folded: dict[str, dict[str, Any]] = {}
    for change in history.final.log:
        yield from _fold(folded, change)
    for key in folded.keys() | history.final.entries.keys():
        made, held = folded.get(key), history.final.entries.get(key)
        for member in ("revision", "version", "value"):
            if (made or {}).get(member) != (held or {}).get(member):
                yield Violation("fold", f"{key}: the log makes {made}, the store holds {held}")
                break


def _fold(folded: dict[str, dict[str, Any]], change: dict[str, Any]) -> Iterator[Violation]:
    key, action = change["key"], change["action"]
    if action == "schema":
        return
    before = folded.get(key)
    if action == "set":
        version = 1 if before is None else before["version"] + 1
        if change["version"] != version:
            yield Violation(
                "version", f"{key} at {change['revision']}: {change['version']}, not {version}"
            )
        folded[key] = change
    elif before is None:
        yield Violation(
            "removal", f"{action} of {key} at {change['revision']}, which was not there"
        )
    else:
        del folded[key]


def the_log_is_ordered(history: History) -> Iterator[Violation]:
    """Revisions never fall in the log."""
    newest = 0
    for change in history.final.log:
        if change["revision"] < newest:
            yield Violation("log order", f"{change['revision']} comes behind {newest}")
        newest = max(newest, change["revision"])


def conditions_held(history: History) -> Iterator[Violation]:
    """A conditional write that is in the log found the revision that it asked for."""
    if history.final.trimmed:
        return
    asked = {each.token: each for each in history.operations if each.kind == "set_if"}
    present: dict[str, int] = {}
    for change in history.final.log:
        key, action = change["key"], change["action"]
        if action == "schema":
            continue
        operation = asked.get(change.get("reason", ""))
        if operation is not None and present.get(key, 0) != operation.arguments["if_revision"]:
            yield Violation("condition", f"{_name(operation)} was applied on {present.get(key, 0)}")
        if action == "set":
            present[key] = change["revision"]
        else:
            present.pop(key, None)


def updates_are_computed_from_the_value_before(history: History) -> Iterator[Violation]:
    """Increments add and appends append, each to what the change before left."""
    if history.final.trimmed:
        return
    asked = {
        each.token: each for each in history.operations if each.kind in {"increment", "append"}
    }
    values: dict[str, Any] = {}
    for change in history.final.log:
        key = change["key"]
        operation = asked.get(change.get("reason", ""))
        if operation is not None and change["action"] == "set":
            if operation.kind == "increment":
                expected = values.get(key, 0) + operation.arguments["by"]
            else:
                expected = [*values.get(key, []), operation.arguments["item"]]
            if change["value"] != expected:
                yield Violation("update", f"{_name(operation)} made {change['value']!r:.80}")
        if change["action"] == "set":
            values[key] = change.get("value")
        elif change["action"] != "schema":
            values.pop(key, None)


def transactions_are_whole(history: History) -> Iterator[Violation]:
    """Both keys of a pair change under one revision; no reader and no subscriber sees one of them alone."""
    changes: dict[int, set[str]] = defaultdict(set)
    for change in history.final.log:
        changes[change["revision"]].add(change["key"])
    for operation in history.operations:
        if operation.kind == "pair" and operation.revision in changes:
            missing = set(operation.keys) - changes[operation.revision]
            if missing:
                yield Violation("half a transaction", f"{_name(operation)} lacks {missing}")
        if operation.kind == "pair_read" and operation.outcome == "ok":
            revisions = {(entry or {}).get("revision") for entry in operation.seen.values()}
            if len(revisions) > 1:
                yield Violation("half a transaction", f"{_name(operation)} saw {operation.seen}")


def reads_never_go_back(history: History) -> Iterator[Violation]:
    """A read sees at least what an operation on its key that had ended before it began saw or wrote."""
    deposed = _moments_of_a_deposed_primary(history)
    for read, detail in _stale_reads(history):
        if not _is_near(deposed, read.start):
            yield Violation("stale read", detail)


def stale_at_a_failover(history: History) -> int:
    """Return how many reads went back since their server still read from a primary that had been deposed.

    Nothing but a quorum for each read could prevent them. They count as violations where no lost write is near: a
    server must leave such a primary within seconds.
    """
    deposed = _moments_of_a_deposed_primary(history)
    return sum(_is_near(deposed, read.start) for read, _ in _stale_reads(history))


def _stale_reads(history: History) -> Iterator[tuple[Operation, str]]:
    lost = _lost_revisions(history)
    removed = _removals(history.final)
    unkept = _lost_deletes(history)
    by_key: dict[str, list[Operation]] = defaultdict(list)
    for operation in history.operations:
        if operation.outcome == "ok" and operation.kind in SINGLE:
            by_key[operation.keys[0]].append(operation)
    for key, operations in by_key.items():
        known = [
            each for each in operations if (each.revision or 0) > 0 and each.revision not in lost
        ]
        ends = sorted(known, key=lambda each: each.end)
        newest, moments = _running_maximum(ends), [each.end for each in ends]
        for read in operations:
            at = bisect_right(moments, read.start) - 1
            if read.kind != "get" or at < 0 or read.revision is None or read.revision >= newest[at]:
                continue
            if read.revision in lost:
                yield read, f"{_name(read)} saw what had been lost"
            elif read.revision > 0 or not (
                any(gone >= newest[at] for gone in removed.get(key, ()))
                or any(each < read.end for each in unkept.get(key, ()))
            ):
                yield read, f"{_name(read)} is older than {newest[at]}"


def _lost_deletes(history: History) -> dict[str, list[float]]:
    """Return when deletes began that are not in the log: until a store lost them, their keys were gone for readers."""
    kept = _revisions_by_token(history.final)
    found: dict[str, list[float]] = defaultdict(list)
    for each in history.operations:
        if each.kind == "delete" and each.outcome != "refused" and each.token not in kept:
            found[each.keys[0]].append(each.start)
    return found


def _moments_of_a_deposed_primary(history: History) -> list[float]:
    """Return when writes were acknowledged that a failover lost, in order."""
    return sorted(each.end for each in lost_writes(history)) if history.replicated else []


def _is_near(moments: list[float], moment: float) -> bool:
    at = bisect_right(moments, moment)
    return any(abs(each - moment) <= _DEPOSED_AT_MOST for each in moments[max(at - 1, 0) : at + 1])


def expired_keys_are_gone(history: History) -> Iterator[Violation]:
    """No read shows an entry after its time, and each expiry is in the log once."""
    for operation in history.operations:
        asked_at = operation.arguments.get("wall", 0.0)
        for entry in operation.seen.values():
            expires = None if entry is None else entry.get("expires_at")
            if expires is not None and expires < asked_at - _CLOCK_TOLERANCE:
                yield Violation("expiry", f"{_name(operation)} saw {entry}, which had expired")
    if history.final.trimmed:
        return
    alive: dict[str, bool] = {}
    for change in history.final.log:
        if change["action"] == "expire" and not alive.get(change["key"]):
            yield Violation(
                "expiry", f"{change['key']} expired at {change['revision']} without being there"
            )
        if change["action"] != "schema":
            alive[change["key"]] = change["action"] == "set"


def no_value_against_its_schema(history: History) -> Iterator[Violation]:
    """What is set fits the schema that stands before it in the log (``type`` is the only rule that runs use)."""
    if history.final.trimmed:
        return
    types: dict[str, type] = {"integer": int, "string": str}
    schemas: dict[str, dict[str, Any]] = {}
    for change in history.final.log:
        if change["action"] == "schema":
            schemas[change["key"]] = change.get("schema") or {}
            continue
        for pattern, schema in schemas.items():
            wanted = types.get(schema.get("type", ""))
            fits = fnmatchcase(change["key"], pattern)
            if (
                fits
                and change["action"] == "set"
                and wanted
                and not isinstance(change["value"], wanted)
            ):
                yield Violation(
                    "schema", f"{change['key']} at {change['revision']}: {change['value']!r:.60}"
                )


def subscribers_see_the_log(history: History) -> Iterator[Violation]:
    """Ordered, unique, atomic, reliable, resumable and bookmarkable, as etcd names a watch's promises."""
    log = history.final.log
    for observation in history.observations:
        yield from (
            Violation("message", f"{observation.name}: {fault}") for fault in observation.faults
        )
        wanted = [change for change in log if _matches(change, observation)]
        for segment in observation.segments:
            if observation.conflate:
                yield from _check_conflated(observation, segment, wanted)
            else:
                yield from _check_segment(observation, segment, wanted)


def _check_segment(
    observation: Observation, segment: Segment, wanted: list[dict[str, Any]]
) -> Iterator[Violation]:
    name = f"{observation.name} ({observation.road} {observation.pattern})"
    identities = [_identity(event) for event in segment.events]
    revisions = [event["revision"] for event in segment.events]
    if revisions != sorted(revisions):
        yield Violation("ordered", f"{name} saw revisions fall")
    if len(set(identities)) != len(identities):
        yield Violation("unique", f"{name} saw a change twice")
    if segment.begins_after is not None and revisions and revisions[0] <= segment.begins_after:
        yield Violation("bookmarkable", f"{name} saw {revisions[0]}, at or below its cursor")
    kept = {_identity(change) for change in wanted}
    unkept = [event for event in segment.events if _identity(event) not in kept]
    if unkept and segment.reset is None:
        yield Violation(
            "phantom", f"{name} saw {unkept[0]}, which is not in the log, and heard of no reset"
        )
    begin = segment.begins_after if segment.begins_after is not None else (revisions or [0])[0] - 1
    last = max([segment.reached, *revisions, 0])
    if segment.reset == "diverged":
        return  # it followed a history that was cut; the log that is kept may be another one's
    seen = set(identities)
    for change in wanted:
        if begin < change["revision"] <= last and _identity(change) not in seen:
            yield Violation("reliable", f"{name} missed {change['key']} at {change['revision']}")


def _check_conflated(
    observation: Observation, segment: Segment, wanted: list[dict[str, Any]]
) -> Iterator[Violation]:
    newest: dict[str, int] = {}
    for event in segment.events:
        if event["revision"] <= newest.get(event["key"], 0):
            yield Violation("conflate", f"{observation.name} saw {event['key']} go back")
        newest[event["key"]] = event["revision"]
    if segment.reset is not None:
        return
    begin = segment.begins_after or min(newest.values(), default=0)
    last = {
        change["key"]: change["revision"]
        for change in wanted
        if change["revision"] <= segment.reached
    }
    for key, revision in last.items():
        if revision > begin and newest.get(key, revision) < revision:
            yield Violation("conflate", f"{observation.name} never saw the newest value of {key}")


def lost_history_was_announced(history: History) -> Iterator[Violation]:
    """Every subscriber that had seen what was then lost heard a reset behind it."""
    lost = _lost_revisions(history)
    for observation in history.observations:
        last = observation.segments[-1]
        seen = {event["revision"] for event in last.events} & lost
        if seen:
            yield Violation("unannounced loss", f"{observation.name} still believes in {min(seen)}")


def single_keys_are_linearizable(history: History) -> Iterator[Violation]:
    """A cross-check of the other promises: a search for an order of each key's operations that explains them."""
    lost = _lost_revisions(history)
    deposed = _moments_of_a_deposed_primary(history)
    operations = [
        each
        for each in history.operations
        if each.kind != "get" or not _is_near(deposed, each.start)
    ]
    for key, window in not_linearizable(operations, history.final.log, lost):
        yield Violation(
            "linearizable", f"{key}: no order explains {[_name(each) for each in window][:4]}"
        )


CHECKS: tuple[Callable[[History], Iterator[Violation]], ...] = (
    acknowledged_writes_are_kept_or_announced,
    refused_writes_did_not_happen,
    writes_are_applied_once,
    revisions_are_unique_and_in_real_time_order,
    the_state_is_the_fold_of_the_log,
    the_log_is_ordered,
    conditions_held,
    updates_are_computed_from_the_value_before,
    transactions_are_whole,
    reads_never_go_back,
    expired_keys_are_gone,
    no_value_against_its_schema,
    subscribers_see_the_log,
    lost_history_was_announced,
    single_keys_are_linearizable,
)


def lost_writes(history: History) -> list[Operation]:
    """Return the acknowledged writes that the log does not hold."""
    kept = _revisions_by_token(history.final)
    return [
        each
        for each in _acknowledged(history)
        if _changed(each) and each.revision not in kept.get(each.token, ())
    ]


def _lost_revisions(history: History) -> set[int]:
    """Return revisions that somebody saw and that the log does not hold."""
    kept = {change["revision"] for change in history.final.log}
    seen = {each.revision for each in _acknowledged(history) if _changed(each) and each.revision}
    for observation in history.observations:
        seen |= {event["revision"] for segment in observation.segments for event in segment.events}
    oldest = min(kept, default=0)
    return {revision for revision in seen - kept if not history.final.trimmed or revision > oldest}


def _acknowledged(history: History) -> Iterator[Operation]:
    return (each for each in history.operations if each.writes and each.outcome == "ok")


def _changed(operation: Operation) -> bool:
    return operation.kind != "delete" or operation.arguments.get("deleted", True)


def _revisions_by_token(final: FinalState) -> dict[str, set[int]]:
    found: dict[str, set[int]] = defaultdict(set)
    for change in final.log:
        if reason := change.get("reason"):
            found[reason].add(change["revision"])
    return found


def _removals(final: FinalState) -> dict[str, list[int]]:
    found: dict[str, list[int]] = defaultdict(list)
    for change in final.log:
        if change["action"] in {"delete", "expire"}:
            found[change["key"]].append(change["revision"])
    return found


def _running_maximum(operations: Iterable[Operation]) -> list[int]:
    newest, result = 0, []
    for operation in operations:
        newest = max(newest, operation.revision or 0)
        result.append(newest)
    return result


def _matches(change: dict[str, Any], observation: Observation) -> bool:
    return change["action"] != "schema" and fnmatchcase(change["key"], observation.pattern)


def _identity(event: dict[str, Any]) -> tuple[int, str]:
    return event["revision"], event["key"]


def _name(operation: Operation) -> str:
    return f"{operation.kind} {','.join(operation.keys)} {operation.token} at {operation.revision}"
