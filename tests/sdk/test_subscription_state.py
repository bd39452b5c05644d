"""What a subscriber sees is the log, wherever its streams break. No sockets here."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from memx_sdk.core.subscription import NOW, FeedRequest, FeedState
from memx_sdk.models import Change, Reset

LIVE = {"event": "live", "cursor": "a-7"}


def change(key: str, revision: int, **members: Any) -> dict[str, Any]:
    return {"event": "value", "action": "set", "key": key, "revision": revision, **members}


def started(**wish: Any) -> FeedState:
    state = FeedState(FeedRequest("k*", **wish))
    state.receive(LIVE)
    return state


def test_a_subscription_from_now_asks_for_a_cursor_at_once() -> None:
    state = FeedState(FeedRequest("k*"))

    assert state.query() == {"event": "value", "since": NOW}


def test_it_resumes_from_the_position_told_even_before_the_first_change() -> None:
    state = started()

    state.disconnected()

    assert state.query() == {"event": "value", "since": "a-7"}


def test_it_resumes_behind_the_last_change() -> None:
    state = started(event="all", conflate=True)

    (step,) = state.receive(change("k", 8, cursor="a-8"))

    assert step.item == change("k", 8, cursor="a-8")
    assert step.cursor == "a-8"
    assert state.query() == {"event": "all", "since": "a-8", "conflate": "true"}


def test_a_transaction_is_handed_on_whole() -> None:
    state = started()

    assert state.receive(change("k1", 8, more=True)) == []
    assert state.receive(change("k2", 8, more=True)) == []
    steps = state.receive(change("k3", 8, cursor="a-8"))

    assert [step.item.key for step in steps if step.item] == ["k1", "k2", "k3"]
    assert [step.cursor for step in steps] == ["a-7", "a-7", "a-8"]


def test_half_a_transaction_is_asked_for_again() -> None:
    state = started()
    state.receive(change("k1", 8, more=True))

    state.disconnected()

    assert state.query()["since"] == "a-7"
    state.receive(change("k1", 8, more=True))
    steps = state.receive(change("k2", 8, cursor="a-8"))
    assert [step.item.key for step in steps if step.item] == ["k1", "k2"]


def test_marks_move_the_position_without_a_change() -> None:
    state = started()

    (step,) = state.receive({"event": "mark", "cursor": "a-90"})

    assert (step.item, step.cursor, step.live) == (None, "a-90", False)
    assert state.query()["since"] == "a-90"


def test_a_snapshot_has_no_position_until_it_is_complete() -> None:
    state = FeedState(FeedRequest("k*", snapshot=True))
    assert state.query() == {"event": "value", "snapshot": "true"}

    (entry,) = state.receive(change("k", 3, snapshot=True))
    assert entry.cursor is None
    assert state.query() == {"event": "value", "snapshot": "true"}

    (live,) = state.receive(LIVE)
    assert (live.cursor, live.live) == ("a-7", True)
    assert state.query() == {"event": "value", "since": "a-7"}


def test_a_cursor_goes_before_a_snapshot() -> None:
    state = FeedState(FeedRequest("k*", since="a-3", snapshot=True))

    assert state.query() == {"event": "value", "since": "a-3"}


def test_an_interrupted_snapshot_begins_again_and_says_so() -> None:
    state = FeedState(FeedRequest("k*", snapshot=True))
    state.receive(change("k1", 3, snapshot=True))

    state.disconnected()
    state.disconnected()

    assert state.query() == {"event": "value", "snapshot": "true"}
    reset, entry = state.receive(change("k2", 4, snapshot=True))
    assert reset.item == Reset(event="reset", reason="interrupted")
    assert entry.item == change("k2", 4, snapshot=True)


def test_an_interrupted_snapshot_is_taken_back_even_if_nothing_is_left_of_it() -> None:
    state = FeedState(FeedRequest("k*", snapshot=True))
    state.receive(change("k1", 3, snapshot=True))
    state.disconnected()

    reset, live = state.receive(LIVE)

    assert reset.item == Reset(event="reset", reason="interrupted")
    assert live.cursor == "a-7"


def test_a_snapshot_of_which_nothing_came_is_no_interruption() -> None:
    state = FeedState(FeedRequest("k*", snapshot=True))

    state.disconnected()

    assert [step.item for step in state.receive(LIVE)] == [None]


def test_a_reset_is_handed_on_and_replaces_the_position() -> None:
    state = started()
    state.receive(change("k1", 8, more=True))

    (step,) = state.receive({"event": "reset", "reason": "compacted"})

    assert step.item == Reset(event="reset", reason="compacted")
    assert step.cursor is None
    assert state.query() == {"event": "value", "snapshot": "true"}


def test_what_the_first_memx_sends_is_handed_on() -> None:
    state = FeedState(FeedRequest("k"))

    (step,) = state.receive({"event": "value", "key": "k", "value": 1})

    assert isinstance(step.item, Change)
    assert step.item.value == 1


def test_unknown_kinds_say_nothing() -> None:
    state = started()

    assert state.receive({"event": "weather", "cursor": "x-1"}) == []
    assert state.receive({}) == []
    assert state.cursor == "a-7"


def test_presence_moves_no_one() -> None:
    state = started(event="presence")

    (step,) = state.receive({"event": "presence", "agent": "critic"})

    assert step.item == {"event": "presence", "agent": "critic"}
    assert step.cursor == "a-7"


class Space:
    """A log with a floor, and the stream that a server would send of it."""

    def __init__(self) -> None:
        self.log: list[list[str | None]] = []  # the keys of each transaction; its index is its revision - 1
        self.floor = 0
        self.stream: list[dict[str, Any]] | None = None

    def commit(self, keys: list[str]) -> None:
        self.log.append(list(keys))
        if self.stream is not None:
            self.stream += self._frames(len(self.log))

    def connect(self, query: dict[str, str]) -> None:
        self.stream = []
        if "snapshot" in query:
            self._snapshot()
            return
        head = len(self.log)
        since = head if query["since"] == NOW else int(query["since"])
        if since < self.floor:
            self.stream.append({"event": "reset", "reason": "compacted"})
            self._snapshot()
            return
        for revision in range(since + 1, head + 1):
            self.stream += self._frames(revision)
        self.stream.append({"event": "live", "cursor": str(head)})

    def state(self) -> dict[str, int]:
        return {key: revision for revision, keys in enumerate(self.log, start=1) for key in keys}

    def _snapshot(self) -> None:
        assert self.stream is not None
        self.stream += [change(key, at, snapshot=True) for key, at in self.state().items()]
        self.stream.append({"event": "live", "cursor": str(len(self.log))})

    def _frames(self, revision: int) -> list[dict[str, Any]]:
        *earlier, last = self.log[revision - 1]
        frames = [change(key, revision, more=True) for key in earlier]
        return [*frames, change(last, revision, cursor=str(revision))]


class User:
    """Keeps what a subscriber is handed, and the state that it derives from that."""

    def __init__(self) -> None:
        self.changes: list[tuple[str, int]] = []
        self.state: dict[str, int] = {}
        self.resets = 0

    def take(self, item: Change | Reset) -> None:
        if isinstance(item, Reset):
            self.resets += 1
            self.state.clear()
            return
        if not item.snapshot:
            self.changes.append((item.key, item.revision))
        self.state[item.key] = item.revision


keys = st.lists(st.sampled_from(["k1", "k2", "k3", "k4"]), min_size=1, max_size=3, unique=True)
actions = st.one_of(
    st.tuples(st.just("commit"), keys),
    st.tuples(st.just("deliver"), st.integers(1, 6)),
    st.tuples(st.just("cut"), st.none()),
    st.tuples(st.just("trim"), st.integers(0, 3)),
)


def play(space: Space, state: FeedState, user: User, course: list[tuple[str, Any]]) -> None:
    def deliver(count: int) -> None:
        if space.stream is None:
            space.connect(state.query())
        assert space.stream is not None
        frames, space.stream = space.stream[:count], space.stream[count:]
        for frame in frames:
            for step in state.receive(frame):
                if step.item is not None:
                    user.take(step.item)

    for action, detail in course:
        match action:
            case "commit":
                space.commit(detail)
            case "deliver":
                deliver(detail)
            case "cut":
                space.stream = None
                state.disconnected()
            case "trim":
                space.floor = max(space.floor, len(space.log) - detail)
    deliver(10_000)


@given(before=st.lists(keys, max_size=3), course=st.lists(actions, max_size=30))
def test_without_trimming_the_user_sees_exactly_the_log(
    before: list[list[str]], course: list[tuple[str, Any]]
) -> None:
    space, user = Space(), User()
    for transaction in before:
        space.commit(transaction)
    state = FeedState(FeedRequest("*", since=str(len(before))))

    play(space, state, user, [step for step in course if step[0] != "trim"])

    expected = [
        (key, revision)
        for revision, transaction in enumerate(space.log, start=1)
        if revision > len(before)
        for key in transaction
    ]
    assert user.changes == expected
    assert user.resets == 0


@given(
    before=st.lists(keys, max_size=3), course=st.lists(actions, max_size=30), snapshot=st.booleans()
)
def test_whatever_happens_the_user_ends_with_the_space_s_state(
    before: list[list[str]], course: list[tuple[str, Any]], snapshot: bool
) -> None:
    space, user = Space(), User()
    for transaction in before:
        space.commit(transaction)
    since = None if snapshot else "0"
    state = FeedState(FeedRequest("*", since=since, snapshot=snapshot))

    play(space, state, user, course)

    assert user.state == space.state()
    revisions = [revision for _, revision in user.changes]
    assert revisions == sorted(revisions)
    assert len(set(user.changes)) == len(user.changes)


@given(course=st.lists(actions, max_size=30))
def test_a_transaction_is_never_seen_in_part(course: list[tuple[str, Any]]) -> None:
    space, user = Space(), User()
    state = FeedState(FeedRequest("*", since="0"))
    seen: list[list[tuple[str, int]]] = []

    def receive(frame: dict[str, Any], original: Any = state.receive) -> Any:
        steps = original(frame)
        seen.append([(s.item.key, s.item.revision) for s in steps if isinstance(s.item, Change)])
        return steps

    state.receive = receive  # type: ignore[method-assign]  # to look at each step as it is made
    play(space, state, user, [step for step in course if step[0] != "trim"])

    for batch in seen:
        for _, revision in batch:
            assert batch == [(key, revision) for key in space.log[revision - 1]]
