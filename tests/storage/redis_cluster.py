"""Redis servers of a test's own: started when asked for, joined into a cluster, their slots moved."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.storage.helpers import eventually
from tests.support.redis_server import RedisServer, free_port

SLOTS = 16384

Start = Callable[..., RedisServer]
"""Starts a server (binary, options) that ends with the test."""


def low_port() -> int:
    """A port that leaves room for the bus of a cluster, 10,000 above."""
    while (port := free_port()) > 55_000:
        pass
    return port


async def cluster_of(servers: list[RedisServer]) -> str:
    """Make a cluster of servers that share the slots; returns its URL."""
    share = SLOTS // len(servers)
    for number, server in enumerate(servers):
        first = number * share
        last = SLOTS if server is servers[-1] else first + share
        ask(server, "CLUSTER ADDSLOTS", *range(first, last))
        ask(server, "CLUSTER SET-CONFIG-EPOCH", number + 1)
        ask(server, "CLUSTER MEET", "127.0.0.1", servers[0].port)

    async def agreed() -> bool:
        states = [ask(server, "CLUSTER INFO") for server in servers]
        return all(
            state["cluster_state"] == "ok" and int(state["cluster_known_nodes"]) == len(servers)
            for state in states
        )

    await eventually(agreed)
    return "redis+cluster://" + ",".join(f"127.0.0.1:{server.port}" for server in servers)


def ask(server: RedisServer, *command: Any) -> Any:
    """Run a command."""
    with server.client() as client:
        return client.execute_command(*command)
