"""The order of one socket's writes: they overlap where nothing shows the difference."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from memx_server.routes.ws.write_pipeline import Overlap, WritePipeline


class Journal:
    """Writes that note when they begin and end, and end when the test lets them.

    The name of a write says how it may run: ``set a`` writes the key ``a`` and may share a batch, ``txn a b`` may
    overlap
    but shares no batch, everything else runs alone. With an exclamation mark it may repeat.
    """

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.rules = "the first"
        self.order = WritePipeline(self._run, self._overlap, lambda: self.rules)
        self._ends: dict[str, asyncio.Event] = {}
        self._failing: set[str] = set()

    def add(self, *names: str) -> None:
        for name in names:
            self.order.add(name)

    async def end(self, name: str, *, answered: bool = True) -> None:
        if not answered:
            self._failing.add(name)
        self._ends.setdefault(name, asyncio.Event()).set()
        await self.settle()

    async def settle(self) -> None:
        for _ in range(10):
            await asyncio.sleep(0)

    async def _run(self, writes: Sequence[str]) -> bool:
        name = ", ".join(writes)
        self.notes.append(f"{name} begins")
        await self._ends.setdefault(name, asyncio.Event()).wait()
        self.notes.append(f"{name} ends")
        return name not in self._failing

    def _overlap(self, name: str) -> Overlap | None:
        kind, *keys = name.removesuffix("!").split()
        again = name.endswith("!")
        return Overlap(keys, kind == "set", again) if kind in ("set", "txn") else None


async def _warm() -> Journal:
    journal = Journal()
    journal.add("set first")
    await journal.end("set first")
    journal.notes.clear()
    return journal


async def test_overlapping_writes_of_different_keys_share_a_batch() -> None:
    journal = await _warm()
    journal.add("set a", "set b", "set c")
    await journal.settle()
    assert journal.notes == ["set a, set b, set c begins"]
    journal.add("set d")
    await journal.settle()
    assert journal.notes[1:] == ["set d begins"]
    await journal.end("set d")
    await journal.end("set a, set b, set c")


async def test_no_more_are_run_together_than_keep_the_peer_busy() -> None:
    journal = await _warm()
    names = [f"set k{number}" for number in range(120)]
    journal.add(*names)
    await journal.settle()
    runs = [note.removesuffix(" begins").split(", ") for note in journal.notes]
    assert [len(run) for run in runs] == [48, 48, 24]
    assert [name for run in runs for name in run] == names
    for run in runs:
        await journal.end(", ".join(run))


async def test_those_that_run_by_themselves_begin_in_their_turn() -> None:
    journal = await _warm()
    journal.add("set a", "set b", "txn c d", "txn e", "set f")
    await journal.settle()
    assert journal.notes == [
        *("set a, set b begins", "txn c d begins", "txn e begins", "set f begins")
    ]
    for name in ("set f", "txn e", "txn c d", "set a, set b"):
        await journal.end(name)


async def test_what_passes_nothing_that_may_be_sent_again_waits_and_so_does_what_follows() -> None:
    journal = await _warm()
    journal.add("set a!", "set k!", "set k", "set b!", "txn b j", "set c")
    await journal.settle()
    assert journal.notes == ["set a!, set k! begins"]
    await journal.end("set a!, set k!")
    assert journal.notes[2:] == ["set k, set b! begins"]
    await journal.end("set k, set b!")
    assert journal.notes[4:] == ["txn b j begins", "set c begins"]
    await journal.end("txn b j")
    await journal.end("set c")


async def test_writes_of_one_key_that_are_sent_once_do_not_wait() -> None:
    journal = await _warm()
    journal.add("set k", "set k", "txn k", "set k!", "set j")
    await journal.settle()
    assert journal.notes == ["set k, set k begins", "txn k begins", "set k!, set j begins"]
    journal.add("set k")
    await journal.settle()
    assert len(journal.notes) == 3
    await journal.end("set k!, set j")
    assert journal.notes[4:] == ["set k begins"]
    for name in ("set k", "txn k", "set k, set k"):
        await journal.end(name)


async def test_a_write_without_an_overlap_has_the_socket_to_itself() -> None:
    journal = await _warm()
    journal.add("set a", "alone", "set b", "set c")
    await journal.settle()
    assert journal.notes == ["set a begins"]
    await journal.end("set a")
    assert journal.notes[2:] == ["alone begins"]
    await journal.end("alone")
    assert journal.notes[3:] == ["alone ends", "set b, set c begins"]
    await journal.end("set b, set c")


async def test_after_a_pause_or_a_failure_one_goes_ahead_alone() -> None:
    journal = Journal()
    journal.add("set a", "set b", "set c", "set d")
    await journal.settle()
    assert journal.notes == ["set a begins"]
    await journal.end("set a", answered=False)
    assert journal.notes[2:] == ["set b begins"]
    await journal.end("set b")
    assert journal.notes[4:] == ["set c, set d begins"]
    journal.add("set e", "set f")
    await journal.settle()
    await journal.end("set c, set d", answered=False)
    assert journal.notes[5:] == ["set e, set f begins", "set c, set d ends"]
    journal.add("set g")
    await journal.settle()
    assert len(journal.notes) == 7
    await journal.end("set e, set f")


async def test_nothing_checked_by_new_rules_passes_what_was_begun_with_others() -> None:
    journal = await _warm()
    journal.add("set a", "set b")
    await journal.settle()
    journal.rules = "the second"
    journal.add("set c", "set d", "set e")
    await journal.settle()
    assert journal.notes == ["set a, set b begins"]
    await journal.end("set a, set b")
    assert journal.notes[2:] == ["set c begins"]
    await journal.end("set c")
    assert journal.notes[4:] == ["set d, set e begins"]
    await journal.end("set d, set e")


async def test_rules_that_come_after_the_gathering_are_waited_for_too() -> None:
    journal = await _warm()
    journal.add("set a")
    await journal.settle()
    journal.add("set b")
    await asyncio.sleep(0)  # gathered, and not begun yet
    journal.rules = "the second"
    await journal.settle()
    assert journal.notes == ["set a begins"]
    await journal.end("set a")
    assert journal.notes[2:] == ["set b begins"]
    await journal.end("set b")
