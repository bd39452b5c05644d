"""What a hostile caller costs the others: their p99 during each attack, beside their p99 without it.

``python -m benchmarks.attacks [--seconds 8] [--store sqlite|redis] [--only NAME,...] [--json FILE]``

One server is attacked by one process with an ordinary API key, one request after the other, while another
caller sets small values in a space of its own. The first rows are no attacks: nobody else, and callers who
do the same amount of ordinary work. An attack is an entry of ``ATTACKS``; to add one, add an entry.
"""

from __future__ import annotations

import argparse
import http.client
import json
import multiprocessing
import statistics
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from benchmarks import servers, wire_attacks

_PAUSE = 0.004
"""Seconds between two requests of the caller who is not the attacker."""
_MIB = 1024 * 1024
_ACL = {
    "victim": {"agent": "victim", "space": "victim", "read": ["*"], "write": ["*"]},
    "attacker": {"agent": "attacker", "space": "attacker", "read": ["*"], "write": ["*"]},
    "reader": {"agent": "reader", "space": "attacker", "read": ["*"], "write": []},
}


class Caller:
    """One API key on one connection."""

    def __init__(self, url: str, api_key: str) -> None:
        self.url = url
        self.api_key = api_key
        host, _, port = url.removeprefix("http://").partition(":")
        self._connection = http.client.HTTPConnection(host, int(port), timeout=60)

    def post(self, path: str, body: bytes | dict[str, Any]) -> int:
        """Send a request; return the status."""
        text = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"x-api-key": self.api_key, "content-type": "application/json"}
        self._connection.request("POST", path, text, headers)
        response = self._connection.getresponse()
        response.read()
        return response.status


Steps = Callable[[Caller], Iterator[int]]
"""An attack: it prepares itself, then yields the status of each request that it has made."""


def _again_and_again(path: str, body: bytes) -> Steps:
    def steps(caller: Caller) -> Iterator[int]:
        while True:
            yield caller.post(path, body)

    return steps


def _with_schema(schema: Any, *values: bytes) -> Steps:
    """Register a schema for many keys, then send values for it in turns."""

    def steps(caller: Caller) -> Iterator[int]:
        yield caller.post("/schema", {"key": "k:*", "schema": schema})
        for number in range(sys.maxsize):
            value = values[number % len(values)]
            yield caller.post("/set", b'{"key":"k:%d","value":%b}' % (number % 1000, value))

    return steps


def _with_patterns(caller: Caller) -> Iterator[int]:
    """A thousand subscriptions on one socket, then writes whose keys come close to all of them."""
    patterns = ["aa" + "*a" * (n % 12 + 1) + "*b*" + "a" * (n // 12 + 1) for n in range(1000)]
    url = caller.url.replace("http", "ws", 1) + "/ws"
    with connect(url, additional_headers={"x-api-key": caller.api_key}) as socket:
        threading.Thread(target=_read_all, args=(socket,), daemon=True).start()
        for number, pattern in enumerate(patterns):
            socket.send(json.dumps({"id": number, "op": "subscribe", "pattern": pattern}))
        for number in range(sys.maxsize):
            yield caller.post("/set", {"key": "a" * 500 + str(number % 1000), "value": number})


def _read_all(socket: ClientConnection) -> None:
    with suppress(ConnectionClosed):
        for _ in socket:
            pass


def _names(count: int, last: int) -> bytes:
    return b'{%b,"n%d":1}' % (b",".join(b'"n%d":1' % n for n in range(count)), last)


def _list_of(part: bytes, length: int = _MIB - 100) -> bytes:
    return b"[%b]" % b",".join([part] * (length // (len(part) + 1)))


def _set(value: bytes) -> Steps:
    return _again_and_again("/set", b'{"key":"k","value":%b}' % value)


def _doubling(levels: int) -> dict[str, Any]:
    chain: dict[str, Any] = {
        str(n): {"allOf": [{"$ref": f"#/$defs/{n + 1}"}] * 2} for n in range(levels)
    }
    chain[str(levels)] = {"type": "string"}
    return {"$defs": chain, "properties": {"definitions": {"$ref": "#/$defs/0"}}}


def _on_wires(attack: Callable[[str, str], Iterator[int]]) -> Steps:
    """Take an attack that makes its own connections, given the server's URL and an API key."""
    return lambda caller: attack(caller.url, caller.api_key)


_CONSTANTS = [{"const": n} for n in range(200)]
_CHOICE_OF_ITEMS = _with_schema({"items": {"anyOf": _CONSTANTS}}, _list_of(b"999", 6600))
_CHOICE_WITHIN = _with_schema(
    {"contains": {"anyOf": _CONSTANTS}}, _list_of(b"7", 6600), _list_of(b"999", 6600)
)
_ENDLESS = _with_schema(
    {"items": {"enum": [{"a": n} for n in range(4000)]}}, _list_of(b'{"a":3999}', 680_000)
)
_TREE = {
    "$defs": {
        "n": {"anyOf": [{"properties": {"c": {"$ref": "#/$defs/n"}}, "required": ["z"]}] * 2}
    },
    "$ref": "#/$defs/n",
}


@dataclass(frozen=True)
class Attack:
    """Something that one caller does all the time while others work.

    Attributes:
        name: What it is.
        steps: What it does.
        api_key: Whose key it uses.
        is_ordinary: Whether it is no attack, but what others are compared with.
    """

    name: str
    steps: Steps | None
    api_key: str = "attacker"
    is_ordinary: bool = False


ATTACKS: tuple[Attack, ...] = (
    Attack("nobody else", None, is_ordinary=True),
    Attack("small values", _set(b'{"text":"hello","n":1}'), is_ordinary=True),
    Attack("texts of 1 MiB", _set(b'"' + b"a" * (_MIB - 100) + b'"'), is_ordinary=True),
    Attack("A1 20,000 names, one of them twice", _set(_names(20_000, 7)), "reader"),
    Attack("A1 1 MiB of 1e308", _set(_list_of(b"1e308"))),
    Attack("A1 1 MiB of lists in lists", _set(_list_of(b"[" * 60 + b"]" * 60))),
    Attack("A1 1 MiB of small objects", _set(_list_of(b'{"a": 1}'))),
    Attack(
        "A2 26 definitions, each twice the next",
        _with_schema(_doubling(26), b'{"definitions":"text"}'),
    ),
    Attack("A2 recursive choices", _with_schema(_TREE, b'{"c":' * 60 + b"{}" + b"}" * 60)),
    Attack("A2 contains one of 200 constants", _CHOICE_WITHIN),
    Attack("A2 items of 200 constants, all wrong", _CHOICE_OF_ITEMS),
    Attack("A3 1,000 subscriptions like aa*a*a*b*aa", _with_patterns),
    Attack("C1 values of 680 KB that take too long", _ENDLESS),
    Attack("D heads of 5 MB that do not end", _on_wires(wire_attacks.endless_heads)),
    Attack("D bodies of 7.9 MB, half sent", _on_wires(wire_attacks.half_sent_bodies)),
    Attack("D 1,000 heads, byte by byte", _on_wires(wire_attacks.slow_heads)),
    Attack("D pings, no pong is read", _on_wires(wire_attacks.unread_pongs)),
    Attack("D 5,000 requests ahead of a response", _on_wires(wire_attacks.pipelined_requests)),
)


@dataclass
class Row:
    """What the others saw during one attack, in milliseconds, and what the attacker was told."""

    name: str
    is_ordinary: bool
    requests: int
    median: float
    p99: float
    longest: float
    refused: int
    attacks: float
    statuses: dict[int, int]


def _attack(number: int, url: str, stop: Event, begun: Event, results: Any) -> None:
    """The attacker's process."""
    attack = ATTACKS[number]
    assert attack.steps is not None
    statuses: Counter[int] = Counter()
    began = time.monotonic()
    for status in attack.steps(Caller(url, attack.api_key)):
        statuses[status] += 1
        begun.set()
        if stop.is_set():
            break
    results.put((statuses.total() / (time.monotonic() - began), dict(statuses)))


def measure(number: int, url: str, seconds: float) -> Row:
    """Run one attack for a while and measure what another caller sees."""
    attack = ATTACKS[number]
    context = multiprocessing.get_context("spawn")
    stop, begun, results = context.Event(), context.Event(), context.SimpleQueue()
    attacker = None
    if attack.steps is not None:
        attacker = context.Process(
            target=_attack, args=(number, url, stop, begun, results), daemon=True
        )
        attacker.start()
        begun.wait(60)
    victim = Caller(url, "victim")
    took: list[float] = []
    refused = 0
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        began = time.perf_counter()
        refused += victim.post("/set", {"key": "mine", "value": len(took)}) != 200
        took.append((time.perf_counter() - began) * 1e3)
        time.sleep(_PAUSE)
    stop.set()
    rate, statuses = results.get() if attacker else (0.0, {})
    if attacker:
        attacker.join(60)
    cuts = statistics.quantiles(took, n=100, method="inclusive") if len(took) > 1 else took * 99
    return Row(
        attack.name,
        attack.is_ordinary,
        len(took),
        cuts[49],
        cuts[98],
        max(took),
        refused,
        rate,
        statuses,
    )


def _print(row: Row) -> None:
    told = " ".join(f"{status}:{count}" for status, count in sorted(row.statuses.items()))
    print(
        f"{row.name:42} {row.requests:8} {row.refused:8} {row.median:8.1f} {row.p99:8.1f} {row.longest:8.1f}"
        f" {row.attacks:9.1f}  {told}",
        flush=True,
    )


def main() -> None:
    """Measure every attack against one server."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.attacks", description=__doc__)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--store", choices=("sqlite", "redis"), default="sqlite")
    parser.add_argument("--only", default="", help="parts of names, with commas between")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    wanted = [part for part in options.only.split(",") if part]
    rows = []
    heads = ("sets", "refused", "median", "p99", "longest", "attacks/s")
    print(f"{'others during':42} " + " ".join(f"{head:>8}" for head in heads) + "  answers")
    with ExitStack() as stack:
        redis_url = stack.enter_context(servers.redis()).url if options.store == "redis" else None
        server = stack.enter_context(servers.memx(redis_url, acl=_ACL))
        for number, attack in enumerate(ATTACKS):
            if (
                wanted
                and not attack.is_ordinary
                and not any(part in attack.name for part in wanted)
            ):
                continue
            server.settle()
            rows.append(measure(number, server.url, options.seconds))
            _print(rows[-1])
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")


if __name__ == "__main__":
    main()
