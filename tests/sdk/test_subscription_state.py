"""The state of a subscription: the log in order, wherever its streams break. No sockets here."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from memx_sdk.core.subscription import NOW, FeedRequest, FeedState, Received
from memx_sdk.models import Change, Reset
from tests.sdk.made_up_log import Frame, Space

LIVE = {"event": "live", "cursor": "a-7"}


def change(key: str, revision: int, **members: Any) -> dict[str, Any]:
    return {"event": "value", "action": "set", "key": key, "revision": revision, **members}


def started(**options: Any) -> FeedState:
    state = FeedState(FeedRequest("k*", **options))
    state.receive(LIVE)
    return state


def test_a_subscription_from_now_asks_for_a_cursor_at_once() -> None:
    state = FeedState(FeedRequest("k*"))

    assert state.query() == {"event": "value", "since": NOW}


def test_it_resumes_from_the_first_position_even_before_the_first_change() -> None:
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

    assert [step.item["key"] for step in steps if step.item] == ["k1", "k2", "k3"]
    assert [step.cursor for step in steps] == ["a-7", "a-7", "a-8"]


def test_half_a_transaction_is_asked_for_again() -> None:
    state = started()
    state.receive(change("k1", 8, more=True))

    state.disconnected()

    assert state.query()["since"] == "a-7"
    state.receive(change("k1", 8, more=True))
    steps = state.receive(change("k2", 8, cursor="a-8"))
    assert [step.item["key"] for step in steps if step.item] == ["k1", "k2"]


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
    assert state.cursor is None
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


class User:
    """Keeps what a subscriber is handed, and the state that it derives from that."""

    def __init__(self) -> None:
        self.steps: list[list[tuple[str, int]]] = []
        self.state: dict[str, int] = {}
        self.resets = 0

    @property
    def changes(self) -> list[tuple[str, int]]:
        return [change for step in self.steps for change in step]

    def take(self, steps: list[Received]) -> None:
        for step in steps:
            if isinstance(step.item, Reset):
                self.resets += 1
                self.state.clear()
            elif step.item is not None:
                self.state[step.item.key] = step.item.revision
        items = [step.item for step in steps if isinstance(step.item, Change)]
        self.steps.append([(item.key, item.revision) for item in items if not item.snapshot])


class Play:
    """A space, a subscription, its user, and the stream between them."""

    def __init__(self, before: list[list[str]], **options: Any) -> None:
        self.space, self.user = Space(), User()
        for transaction in before:
            self.space.commit(*transaction)
        self.state = FeedState(FeedRequest("*", **options))
        self._stream: list[Frame] | None = None

    def run(self, course: list[tuple[str, Any]]) -> None:
        for action, detail in course:
            getattr(self, action)(detail)
        self.deliver(10_000)

    def commit(self, names: list[str]) -> None:
        revision = self.space.commit(*names)
        if self._stream is not None:
            self._stream += self.space.frames(revision)

    def deliver(self, count: int) -> None:
        if self._stream is None:
            self._stream = self.space.opening(self.state.query())
        frames, self._stream = self._stream[:count], self._stream[count:]
        for frame in frames:
            self.user.take(self.state.receive(frame))

    def cut(self, _: None) -> None:
        self._stream = None
        self.state.disconnected()

    def trim(self, kept: int) -> None:
        self.space.floor = max(self.space.floor, self.space.head - kept)


keys = st.lists(st.sampled_from(["k1", "k2", "k3", "k4"]), min_size=1, max_size=3, unique=True)
earlier = st.lists(keys, max_size=3)
commits = st.tuples(st.just("commit"), keys)
deliveries = st.tuples(st.just("deliver"), st.integers(1, 6))
cuts = st.tuples(st.just("cut"), st.none())
trims = st.tuples(st.just("trim"), st.integers(0, 3))
calm = st.lists(st.one_of(commits, deliveries, cuts), max_size=30)
rough = st.lists(st.one_of(commits, deliveries, cuts, trims), max_size=30)


@given(before=earlier, course=calm)
def test_the_user_sees_exactly_the_log(
    before: list[list[str]], course: list[tuple[str, Any]]
) -> None:
    play = Play(before, since=f"a-{len(before)}")

    play.run(course)

    later = list(enumerate(play.space.log, start=1))[len(before) :]
    assert play.user.changes == [(key, revision) for revision, names in later for key in names]
    assert play.user.resets == 0


@given(before=earlier, course=rough, snapshot=st.booleans())
def test_whatever_happens_the_user_ends_with_the_space_s_state(
    before: list[list[str]], course: list[tuple[str, Any]], snapshot: bool
) -> None:
    play = Play(before, since=None if snapshot else "a-0", snapshot=snapshot)

    play.run(course)

    assert play.user.state == play.space.state()
    revisions = [revision for _, revision in play.user.changes]
    assert revisions == sorted(revisions)
    assert len(set(play.user.changes)) == len(revisions)


@given(course=calm)
def test_a_transaction_is_never_seen_in_part(course: list[tuple[str, Any]]) -> None:
    play = Play([], since="a-0")

    play.run(course)

    for step in play.user.steps:
        for _, revision in step:
            assert step == [(key, revision) for key in play.space.log[revision - 1]]
