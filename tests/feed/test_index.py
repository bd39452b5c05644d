"""A change finds exactly those who are concerned, at a cost that the others do not raise."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from memx_server.domain.access import KeySet
from memx_server.domain.feed.index import Audience, AudienceIndex
from memx_server.domain.feed.messages import Packet, Rendered
from memx_server.storage.base import Change, Record

from memx_sdk.protocol.cursors import Position
from memx_sdk.protocol.errors import ProtocolError
from memx_sdk.protocol.keys import matches, validate_pattern

VALUE = frozenset({"value"})
ALL = KeySet(["*"])


class Listener:
    """Notes which keys it is offered."""

    def __init__(self) -> None:
        self.keys: list[str] = []

    def offer(self, packet: Packet) -> None:
        self.keys += [event.key for event in packet.events]

    def mark(self, packet: Packet) -> None:
        """Not of interest here."""

    def reset(self, reason: str) -> None:
        """Not of interest here."""


def record(*keys: str) -> Rendered:
    """A transaction that changed ``keys``."""
    changes = [Change(key, "set", b'{"event":"value","value":1}') for key in keys]
    return Rendered(Record(Position("a", 1), 0, changes), Position("a", 0))


def _valid(pattern: str) -> bool:
    try:
        return bool(validate_pattern(pattern))
    except ProtocolError:
        return False


patterns = st.text("ab:*?[]!", min_size=1, max_size=6).filter(_valid)
keys = st.lists(st.text("ab:", min_size=1, max_size=5), min_size=1, max_size=4, unique=True)


@given(st.lists(patterns, max_size=12), patterns, keys, st.data())
def test_it_finds_who_a_plain_search_finds(
    wanted: list[str], scope: str, changed: list[str], data: st.DataObject
) -> None:
    index = AudienceIndex()
    readable = KeySet([scope])
    listeners = [(pattern, Listener()) for pattern in wanted]
    audiences = [index.add(pattern, VALUE, readable, each) for pattern, each in listeners]
    gone = data.draw(st.sets(st.sampled_from(range(len(wanted))))) if wanted else set()
    for number in gone:
        index.remove(audiences[number], listeners[number][1])
    index.publish(record(*changed))
    for number, (pattern, listener) in enumerate(listeners):
        expected = [key for key in changed if matches(pattern, key) and matches(scope, key)]
        assert listener.keys == ([] if number in gone else expected)
    assert len(index) == len(wanted) - len(gone)


def test_those_who_are_not_concerned_cost_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    index = AudienceIndex()
    for number in range(10_000):
        index.add(f"other:{number}", VALUE, ALL, Listener())
        index.add(f"elsewhere:{number}:*", VALUE, ALL, Listener())
    concerned = Listener()
    index.add("team:*", VALUE, ALL, concerned)
    decisions = 0
    decide = Audience.sees_change

    def count(audience: Audience, change: Change) -> bool:
        nonlocal decisions
        decisions += 1
        return decide(audience, change)

    monkeypatch.setattr(Audience, "sees_change", count)
    index.publish(record("team:goal"))
    assert concerned.keys == ["team:goal"]
    assert decisions == 1


def test_those_who_see_the_same_share_one_packet() -> None:
    index = AudienceIndex()
    packets: list[Packet] = []

    class Keeping(Listener):
        def offer(self, packet: Packet) -> None:
            packets.append(packet)

    for pattern in ("a", "a*", "*"):
        for _ in range(10):
            index.add(pattern, VALUE, ALL, Keeping())
    index.publish(record("a"))
    assert len(packets) == 30
    assert len({id(message) for packet in packets for message in packet.messages()}) == 1
