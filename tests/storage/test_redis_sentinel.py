"""The Redis store behind Sentinels: failovers, passwords and TLS, Sentinels that are gone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from memx_server.storage.base import Put, Store, StoreUnavailable, Transaction
from memx_server.storage.redis import RedisStore
from memx_server.storage.redis.network.sentinel import Sentinel
from memx_server.storage.redis.network.urls import topology_of

from tests.storage.helpers import (
    SPACE,
    WRITER,
    Listener,
    commit_one,
    eventually,
    put,
    read,
    value,
    whole_log,
)
from tests.storage.redis_cluster import Start, ask, low_port
from tests.support.redis_server import RedisServer, newest_redis

PATIENCE = 40.0
"""Seconds for a failover and for the old primary to become a replica."""


@dataclass
class Service:
    """A primary, two replicas and three Sentinels."""

    nodes: list[RedisServer]
    sentinels: list[RedisServer]

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{each.port}" for each in self.sentinels)
        return f"redis+sentinel://{hosts}/main"

    def primaries(self) -> set[int]:
        """The ports that the Sentinels name."""
        named = (ask(each, "SENTINEL GET-MASTER-ADDR-BY-NAME", "main") for each in self.sentinels)
        return {int(port) for _, port in named}

    async def settled(self) -> None:
        """Wait until all agree, and both others follow."""
        async with asyncio.timeout(PATIENCE):
            while not await asyncio.to_thread(self._is_settled):  # noqa: ASYNC110 - only asking can tell
                await asyncio.sleep(0.1)

    def _is_settled(self) -> bool:
        primaries = self.primaries()
        if len(primaries) != 1:
            return False
        roles = {each.port: ask(each, "ROLE") for each in self.nodes}
        replicas = [role for port, role in roles.items() if port not in primaries]
        known = [ask(each, "SENTINEL MASTER", "main") for each in self.sentinels]
        return (
            roles[next(iter(primaries))][0] == b"master"
            and all(role[0] == b"slave" and role[3] == b"connected" for role in replicas)
            and all(
                int(each["num-slaves"]) == 2 and int(each["num-other-sentinels"]) == 2
                for each in known
            )
            and all(each["flags"] == "master" for each in known)
        )


def monitor(start: Start, primary: RedisServer, options: dict[str, str]) -> RedisServer:
    line = f"monitor main 127.0.0.1 {primary.port} 2"
    sentinel = start(newest_redis(), {"sentinel": line, **options})
    for name, setting in (("down-after-milliseconds", 1000), ("failover-timeout", 3000)):
        ask(sentinel, "SENTINEL SET", "main", name, setting)
    return sentinel


@pytest.fixture
async def service(start: Start) -> Service:
    primary = start(newest_redis(), {})
    follow = {"replicaof": f"127.0.0.1 {primary.port}"}
    replicas = [start(newest_redis(), follow) for _ in range(2)]
    made = Service([primary, *replicas], [monitor(start, primary, {}) for _ in range(3)])
    await made.settled()
    return made


@asynccontextmanager
async def opened_at(url: str) -> AsyncIterator[RedisStore]:
    store = RedisStore(url)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


@dataclass
class Tally:
    """What the writers saw."""

    acknowledged: set[int]
    refused: int = 0
    stale: int = 0
    longest_silence: float = 0.0


async def write_on(
    number: int, writes_to: Store, reads_from: Store, tally: Tally, stop: asyncio.Event
) -> None:
    """Write a key over and over, and read each write by the other server."""
    key, count, heard = f"k{number}", 0, time.monotonic()
    while not stop.is_set():
        count += 1
        try:
            transaction = Transaction(WRITER, [Put(key, b"%d" % count)])
            outcome: Any = await commit_one(writes_to, SPACE, transaction)
            tally.acknowledged.add(outcome.position.revision)
            tally.longest_silence = max(tally.longest_silence, time.monotonic() - heard)
            heard = time.monotonic()
            found = await read(reads_from, key)
            tally.stale += found is None or found.revision < outcome.position.revision
        except StoreUnavailable:
            tally.refused += 1
            await asyncio.sleep(0.02)


async def test_planned_failovers_under_load_lose_nothing(
    service: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    async with opened_at(service.url) as one, opened_at(service.url) as two:
        listener = Listener()
        await two.tail(SPACE, listener)
        tally, stop = Tally(set()), asyncio.Event()
        async with asyncio.TaskGroup() as group:
            for number in range(8):
                stores = (one, two) if number % 2 else (two, one)
                group.create_task(write_on(number, *stores, tally, stop))
            for turn in range(2):
                await asyncio.sleep(0.5)
                before = service.primaries()
                await asyncio.to_thread(ask, service.sentinels[turn], "SENTINEL FAILOVER", "main")
                await service.settled()
                assert service.primaries() != before
            await asyncio.sleep(0.5)
            stop.set()

        logged = {record.position.revision for record in await whole_log(one)}
        # A fast machine writes more than the log keeps: what was trimmed from its beginning is not lost.
        oldest = min(logged)
        lost = {each for each in tally.acknowledged - logged if each > oldest}
        with capsys.disabled():
            print(
                f"\n{len(tally.acknowledged)} acknowledged, {len(lost)} lost, {tally.refused} refused, "
                f"{tally.stale} stale, {tally.longest_silence:.2f} s silence at the most"
            )
        assert len(tally.acknowledged) > 100
        assert not lost
        assert not tally.stale
        await listener.heard(await put(one, "last"))


async def test_a_primary_that_most_sentinels_no_longer_name_is_left(service: Service) -> None:
    async with opened_at(service.url) as store:
        await put(store, "a", 1)
        topology = store._topology
        assert isinstance(topology, Sentinel)
        topology._on_announcement = lambda channel, text: None  # type: ignore[method-assign]  # deaf
        for task in topology._tasks[:3]:
            task.cancel()
        await asyncio.to_thread(ask, service.sentinels[0], "SENTINEL FAILOVER", "main")
        await service.settled()

        async def moved() -> bool:
            assert topology._current is not None
            return topology._current[1] in service.primaries()

        await eventually(moved)
        await put(store, "b", 2)


async def test_a_server_that_has_lost_its_sentinels_says_so(service: Service) -> None:
    async with opened_at(service.url) as store:
        await put(store, "a", 1)
        assert not [line for line in await store.advice() if "Sentinels, so" in line]
        assert [line for line in await store.advice() if "min-replicas-to-write" in line]
        for sentinel in service.sentinels[:2]:
            sentinel.pause()

        async def says_so() -> bool:
            return any("only 1 of 3 Sentinels" in line for line in await store.advice())

        await eventually(says_so)
        await put(store, "a", 2)  # it goes on all the same
        for sentinel in service.sentinels[:2]:
            sentinel.resume()

        async def found_again() -> bool:
            return not await says_so()

        await eventually(found_again)


# Passwords


def test_urls_hold_both_passwords() -> None:
    topology = topology_of(
        "redis+sentinel://me:p%40ss@a:1,b:2/main/3?sentinel_username=watcher&sentinel_password=s%26cret",
        1,
    )
    assert isinstance(topology, Sentinel)
    assert (topology._endpoint.username, topology._endpoint.password) == ("me", "p@ss")
    assert {(at.username, at.password) for at in topology._sentinels} == {("watcher", "s&cret")}
    with pytest.raises(ValueError, match="sentinel_pasword"):
        topology_of("redis+sentinel://a:1/main?sentinel_pasword=x", 1)


async def test_sentinels_and_redis_with_passwords_of_their_own(start: Start) -> None:
    primary = start(newest_redis(), {})
    ask(primary, "CONFIG SET", "requirepass", "redis-secret")
    sentinel = start(newest_redis(), {"sentinel": f"monitor main 127.0.0.1 {primary.port} 1"})
    ask(sentinel, "SENTINEL SET", "main", "auth-pass", "redis-secret")
    ask(sentinel, "ACL SETUSER", "default", "resetpass", ">sentinel-secret")
    base = f"127.0.0.1:{sentinel.port}/main"

    url = f"redis+sentinel://:redis-secret@{base}?sentinel_password=sentinel-secret"
    async with opened_at(url) as store:
        await put(store, "a", 1)
        assert await value(store, "a") == 1
        assert not [line for line in await store.advice() if "Sentinels, so" in line]
    for wrong in (
        f"redis+sentinel://:redis-secret@{base}",
        f"redis+sentinel://:redis-secret@{base}?sentinel_password=wrong",
        f"redis+sentinel://{base}?sentinel_password=sentinel-secret",
    ):
        store = RedisStore(wrong)
        with pytest.raises(StoreUnavailable):
            await store.open()
        await store.close()


# TLS


def certificate(folder: Path) -> Path:
    """A certificate for 127.0.0.1 that has signed itself, and its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "redis.pem"
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(made.public_bytes(Encoding.PEM) + private)
    return path


async def test_tls_is_spoken_with_both(start: Start, tmp_path: Path) -> None:
    pem = str(certificate(tmp_path))
    files = {"tls-cert-file": pem, "tls-key-file": pem, "tls-ca-cert-file": pem}

    def tls(port: int) -> dict[str, str]:
        options = {"tls-port": str(port), "tls-auth-clients": "no", "tls-replication": "yes"}
        return {**files, **options}

    primary_port, sentinel_port = low_port(), low_port()
    primary = start(newest_redis(), tls(primary_port))
    line = f"monitor main 127.0.0.1 {primary_port} 1"
    start(newest_redis(), {"sentinel": line, **tls(sentinel_port)})
    hosts = f"127.0.0.1:{sentinel_port}"

    async with opened_at(f"rediss+sentinel://{hosts}/main?ssl_ca_certs={pem}") as store:
        await put(store, "a", 1)
        assert await value(store, "a") == 1
        assert {client["laddr"].rpartition(":")[2] for client in clients_of(primary)} >= {
            str(primary_port)
        }
    store = RedisStore(f"rediss+sentinel://{hosts}/main")  # nobody vouches for the certificate
    with pytest.raises(StoreUnavailable):
        await store.open()
    await store.close()


def clients_of(server: RedisServer) -> list[dict[str, str]]:
    with server.client(decode_responses=True) as client:
        found: list[dict[str, str]] = client.client_list()
        return found
