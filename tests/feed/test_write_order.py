"""Writes of one socket: side by side where that cannot be told from one after the other."""

from __future__ import annotations

import asyncio

from memx_server.routes.write_order import WriteOrder


class Journal:
    """Works that note when they begin and end, and end when they are told to."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self._ends: dict[str, asyncio.Event] = {}

    async def work(self, name: str, answered: bool = True) -> bool:
        end = self._ends.setdefault(name, asyncio.Event())
        self.notes.append(f"{name} begins")
        await end.wait()
        self.notes.append(f"{name} ends")
        return answered

    async def end(self, name: str) -> None:
        self._ends.setdefault(name, asyncio.Event()).set()
        await self.settle()

    async def settle(self) -> None:
        for _ in range(10):
            await asyncio.sleep(0)


async def _warm() -> tuple[Journal, WriteOrder]:
    journal, order = Journal(), WriteOrder()
    order.add(journal.work("first of all"), "k")
    await journal.end("first of all")
    journal.notes.clear()
    return journal, order


async def test_plain_writes_of_different_keys_begin_in_order_without_waiting() -> None:
    journal, order = await _warm()
    for name in "abc":
        order.add(journal.work(name), name)
    await journal.settle()
    assert journal.notes == ["a begins", "b begins", "c begins"]
    for name in "cba":
        await journal.end(name)
    assert journal.notes[3:] == ["c ends", "b ends", "a ends"]


async def test_a_second_write_of_a_key_waits_and_what_follows_waits_too() -> None:
    journal, order = await _warm()
    order.add(journal.work("first"), "k")
    order.add(journal.work("second"), "k")
    order.add(journal.work("other"), "j")
    await journal.settle()
    assert journal.notes == ["first begins"]
    await journal.end("first")
    assert journal.notes == ["first begins", "first ends", "second begins", "other begins"]
    await journal.end("second")
    await journal.end("other")


async def test_a_write_that_is_not_plain_has_the_socket_to_itself() -> None:
    journal, order = await _warm()
    order.add(journal.work("before"), "k")
    order.add(journal.work("alone"), None)
    order.add(journal.work("after"), "j")
    await journal.settle()
    assert journal.notes == ["before begins"]
    await journal.end("before")
    assert journal.notes[2:] == ["alone begins"]
    await journal.end("alone")
    assert journal.notes[3:] == ["alone ends", "after begins"]
    await journal.end("after")


async def test_after_a_pause_or_a_failure_one_goes_ahead_alone() -> None:
    journal, order = Journal(), WriteOrder()
    order.add(journal.work("scout", answered=False), "a")
    order.add(journal.work("second scout"), "b")
    order.add(journal.work("third"), "c")
    order.add(journal.work("fourth"), "d")
    await journal.settle()
    assert journal.notes == ["scout begins"]
    await journal.end("scout")
    assert journal.notes[2:] == ["second scout begins"]
    await journal.end("second scout")
    assert journal.notes[4:] == ["third begins", "fourth begins"]
    await journal.end("third")
    await journal.end("fourth")
