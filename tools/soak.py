"""A soak: many sockets at a steady pace for minutes, to see errors and growth that a short test cannot.

    python tools/soak.py [--store sqlite|redis] [--seconds 600] [--sockets 200] [--rate 2]

Each socket is one SDK client over `WS /ws` that sets keys of its own, some of them once and for a while only, reads,
updates a key that all share, and every third one watches its neighbours. Each connects anew about once a minute. Every
ten seconds all sockets increment one key at the same moment. The SDK repeats nothing here, so each 503 is seen.

It prints a line for every half minute: operations, errors by code, the slowest operation, the server's memory. It fails
where the store was unavailable once, where an increment was lost, or where the memory after the second minute rose by
more than `--growth` megabytes. Redis needs a `redis-server` on the PATH.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import shutil
import sys
import time
from collections import Counter
from collections.abc import Awaitable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

from memx_sdk import AsyncMemxContext
from memx_sdk.errors import MemxClosedError, MemxError
from tests.support.memx_server import MemxServer
from tests.support.redis_server import RedisServer

KEYS = 20
"""Keys that each socket sets in turns."""
TURNS = 100
"""Operations after which a client connects anew."""
BURST_EVERY = 10.0
"""Seconds between two moments at which all sockets increment one key."""
LINE_EVERY = 30.0
SETTLED_AFTER = 120.0
"""Seconds after which the memory must be flat."""


@dataclass
class Tally:
    """What happened since the last line, and in all."""

    operations: int = 0
    slowest: float = 0.0
    incremented: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    all_errors: Counter[str] = field(default_factory=Counter)

    async def of(self, operation: Awaitable[object]) -> bool:
        """Await one operation and count what became of it; returns whether it succeeded."""
        begun = time.monotonic()
        try:
            await operation
        except MemxError as error:
            self.errors[error.code] += 1
            self.all_errors[error.code] += 1
            return False
        finally:
            self.operations += 1
            self.slowest = max(self.slowest, time.monotonic() - begun)
        return True

    def line(self) -> str:
        """What happened since the last line."""
        text = f"{self.operations:8,} operations, slowest {self.slowest:6.2f} s, "
        text += ", ".join(f"{n} {code}" for code, n in self.errors.items()) or "no error"
        self.operations, self.slowest = 0, 0.0
        self.errors.clear()
        return text


class Client:
    """One agent, on one socket after the other."""

    def __init__(self, url: str, number: int) -> None:
        self.number = number
        self._url = url
        self.lock = (
            asyncio.Lock()
        )  # held for each operation: a socket is not left with one under way
        self.memx = self._connected()

    async def reconnect(self) -> None:
        """Leave the present socket and take a new one."""
        async with self.lock:
            left, self.memx = self.memx, self._connected()
            await left.aclose()

    async def increment(self, tally: Tally) -> bool:
        """Increment the contended key."""
        async with self.lock:
            return await tally.of(self.memx.increment("contended"))

    def _connected(self) -> AsyncMemxContext:
        return AsyncMemxContext(
            "local_dev_key",
            self._url,
            agent=f"a{self.number}",
            transport="websocket",
            max_retries=0,
        )


async def work(client: Client, tally: Tally, pause: float) -> None:
    """Be one client, for ever."""
    turn, number = random.randrange(TURNS), client.number
    while True:
        await asyncio.sleep(random.uniform(0.5, 1.5) * pause)
        turn += 1
        if turn % TURNS == 0:
            await client.reconnect()
        async with client.lock:
            await tally.of(operation(client.memx, number, turn))


def operation(memx: AsyncMemxContext, number: int, turn: int) -> Awaitable[object]:
    """What a client does in a turn."""
    mine = f"agent:{number}:{turn % KEYS}"
    match turn % 5:
        case 0:
            return memx.get(mine)
        case 1:
            return memx.append("shared:list", [number], cap=50)
        case 2:
            return memx.set(f"agent:{number}:once:{turn}", turn, ttl=20)
        case _:
            return memx.set(mine, {"turn": turn, "text": "x" * 200})


async def burst(clients: list[Client], tally: Tally) -> None:
    """Increment one key on all sockets at once, again and again."""
    while True:
        await asyncio.sleep(BURST_EVERY)
        done = await asyncio.gather(*(client.increment(tally) for client in clients))
        tally.incremented += sum(done)


async def watch(client: Client) -> None:
    """Read the changes of the next agents, for ever."""
    while True:
        memx = client.memx
        with suppress(MemxClosedError):  # it has connected anew
            async with memx.subscribe(f"agent:{client.number + 1}*") as changes:
                async for _ in changes:
                    pass


def memory_of(pid: int) -> float:
    """The resident megabytes of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise ValueError("the process has ended")


async def soak(server: MemxServer, arguments: argparse.Namespace) -> list[str]:
    """Run it; returns what is wrong."""
    tally = Tally()
    clients = [Client(server.url, number) for number in range(arguments.sockets)]
    pause = 1 / arguments.rate
    tasks = [asyncio.create_task(work(client, tally, pause)) for client in clients]
    tasks += [asyncio.create_task(watch(client)) for client in clients[::3]]
    tasks.append(asyncio.create_task(burst(clients, tally)))
    begun, settled, memory = time.monotonic(), None, 0.0
    while (passed := time.monotonic() - begun) < arguments.seconds:
        await asyncio.sleep(min(LINE_EVERY, arguments.seconds - passed + 0.01))
        passed, memory = time.monotonic() - begun, memory_of(server.pid)
        if settled is None and passed >= SETTLED_AFTER:
            settled = memory
        print(f"{passed:6.0f} s  {memory:6.1f} MB  {tally.line()}", flush=True)
    for task in tasks:
        task.cancel()
    ended = await asyncio.gather(*tasks, return_exceptions=True)
    count = await clients[0].memx.get("contended")
    await asyncio.gather(*(client.memx.aclose() for client in clients))
    faults = [repr(each) for each in ended if not isinstance(each, asyncio.CancelledError)]
    faults += [f"{n} times {code}" for code, n in tally.all_errors.items()]
    if count is not None and count.value < tally.incremented:
        faults.append(f"{tally.incremented} increments were acknowledged, {count.value} are there")
    if settled is not None and memory - settled > arguments.growth:
        faults.append(f"the memory rose from {settled:.1f} to {memory:.1f} MB")
    return faults


def main() -> None:
    """Start a store and a server, soak them, and exit with 1 where something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", choices=("sqlite", "redis"), default="sqlite")
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--sockets", type=int, default=200)
    parser.add_argument("--rate", type=float, default=2, help="operations a second of a socket")
    parser.add_argument("--growth", type=float, default=5, help="megabytes that are flat")
    arguments = parser.parse_args()
    with ExitStack() as stack:
        if arguments.store == "redis":
            redis = RedisServer(shutil.which("redis-server") or "redis-server").start()
            stack.callback(redis.stop)
            server = MemxServer("serve", environ={"REDIS_URL": redis.url})
        else:
            server = MemxServer("dev")
        stack.enter_context(server)
        faults = asyncio.run(soak(server, arguments))
        for line in server.log.splitlines()[-20:]:
            print(f"server: {line}")
    print(f"{arguments.store}: {'; '.join(faults) or 'nothing wrong'}")
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
