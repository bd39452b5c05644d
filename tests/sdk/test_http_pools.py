"""Many requests under way are dealt out to pools of few connections."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from memx_sdk._async.transports.http_pools import AsyncHttpPools
from memx_sdk._sync.transports.http_pools import HttpPools


class Client:
    """Stands for an httpx client whose server answers on demand."""

    def __init__(self, answering: asyncio.Event) -> None:
        self.under_way = self.most = self.sent = 0
        self.closed = False
        self._answering = answering

    async def send(self, _: Any) -> None:
        self.sent += 1
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        await self._answering.wait()
        self.under_way -= 1

    async def aclose(self) -> None:
        self.closed = True


async def _send(pools: AsyncHttpPools, clients: list[Client], count: int) -> None:
    request: Any = None
    sending = [asyncio.create_task(pools.send(request)) for _ in range(count)]
    await asyncio.sleep(0)  # they all have been sent and wait
    clients[0]._answering.set()
    await asyncio.gather(*sending)
    clients[0]._answering.clear()


def _opened() -> tuple[Any, list[Client]]:
    clients: list[Client] = []
    answering = asyncio.Event()

    def open_client() -> Any:
        clients.append(Client(answering))
        return clients[-1]

    return AsyncHttpPools(open_client), clients


async def test_there_is_one_pool_until_more_are_needed() -> None:
    pools, clients = _opened()
    for _ in range(3):
        await _send(pools, clients, 8)
    assert [client.most for client in clients] == [8]
    await _send(pools, clients, 20)
    assert sorted(client.most for client in clients) == [4, 8, 8]


async def test_all_pools_are_used_by_turns_so_that_each_drops_its_old_connections() -> None:
    pools, clients = _opened()
    await _send(pools, clients, 24)
    before = [client.sent for client in clients]
    for _ in range(6):
        await _send(pools, clients, 1)
    assert [client.sent - held for client, held in zip(clients, before, strict=True)] == [2, 2, 2]


async def test_the_number_of_pools_is_bounded() -> None:
    pools, clients = _opened()
    await _send(pools, clients, 100)
    assert len(clients) == 8
    assert max(client.most for client in clients) == 13
    await pools.close()
    assert all(client.closed for client in clients)


def test_threads_are_dealt_out_too() -> None:
    begun, answering = threading.Semaphore(0), threading.Event()
    opened: list[object] = []

    class Blocking:
        def send(self, _: Any) -> None:
            begun.release()
            assert answering.wait(10)

    def open_client() -> Any:
        opened.append(Blocking())
        return opened[-1]

    pools: Any = HttpPools(open_client)
    with ThreadPoolExecutor(32) as pool:
        sending = [pool.submit(pools.send, None) for _ in range(32)]
        assert all(begun.acquire(timeout=10) for _ in range(32))
        answering.set()
        for each in sending:
            each.result(10)
    assert 4 <= len(opened) <= 8
