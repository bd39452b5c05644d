"""URLs of Redis: which topology one names, and with which credentials."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from redis.asyncio.connection import RedisSSLContext, parse_url

from memx_server.storage.redis.network.cluster import Cluster
from memx_server.storage.redis.network.connection import Endpoint
from memx_server.storage.redis.network.sentinel import Sentinel
from memx_server.storage.redis.network.topology import Standalone, Topology


def topology_of(url: str, timeout: float) -> Topology:
    """Choose how to reach what ``url`` names; nothing is connected yet.

    ``redis://``, ``rediss://`` (TLS) and ``unix://`` as redis-py reads them, or
    ``redis+sentinel://host:port,host:port/service/db`` and ``redis+cluster://host:port,host:port``
    (with ``rediss`` the same over TLS). User and password are those of Redis; those of the Sentinels are the
    options ``sentinel_username`` and ``sentinel_password``. TLS is spoken with both.

    Args:
        url: The address, with user, password and TLS options as redis-py takes them.
        timeout: As for ``RedisClient``.

    Raises:
        ValueError: No such URL.
    """
    scheme, _, kind = urlsplit(url).scheme.partition("+")
    if not kind:
        return Standalone(_endpoint(url), timeout)
    rest, user, password = _without_sentinel_credentials(url.partition("://")[2])
    seeds, path = _seeds(scheme, rest)
    if kind == "sentinel":
        service, _, db = path.partition("/")
        if not service:
            raise ValueError("name the service: redis+sentinel://host:port,host:port/service")
        primary = replace(seeds[0], db=int(db or 0), primary_only=True)
        sentinels = [
            Endpoint(seed.host, seed.port, tls=seed.tls, username=user, password=password)
            for seed in seeds
        ]
        return Sentinel(primary, sentinels, service, timeout)
    if kind == "cluster":
        return Cluster(seeds, timeout)
    raise ValueError(f"unknown kind of Redis URL: {scheme}+{kind}")


def _without_sentinel_credentials(rest: str) -> tuple[str, str | None, str | None]:
    """Take ``sentinel_username`` and ``sentinel_password`` out of the query of a URL."""
    place, mark, query = rest.partition("?")
    options = parse_qsl(query, keep_blank_values=True)
    own = {name: value for name, value in options if name.startswith("sentinel_")}
    unknown = own.keys() - {"sentinel_username", "sentinel_password"}
    if unknown:
        raise ValueError(f"unknown option of a Redis URL: {sorted(unknown)[0]}")
    others = [(name, value) for name, value in options if name not in own]
    rest = place + mark + urlencode(others)
    return rest, own.get("sentinel_username"), own.get("sentinel_password")


def _seeds(scheme: str, rest: str) -> tuple[list[Endpoint], str]:
    """Read the hosts of a URL that names several, and the path behind them."""
    place, _, query = rest.partition("?")
    hosts, _, path = place.partition("/")
    user, at, hosts = hosts.rpartition("@")
    return [_endpoint(f"{scheme}://{user}{at}{host}?{query}") for host in hosts.split(",")], path


def _endpoint(url: str) -> Endpoint:
    parts = urlsplit(url)
    if parts.scheme != "unix" and parts.path.strip("/") and not parts.path.strip("/").isdecimal():
        # redis-py would take database 0.
        raise ValueError(f"the database is a number, as in redis://host:6379/0, not {parts.path!r}")
    options: dict[str, Any] = dict(parse_url(url))
    known = {"host", "port", "path", "username", "password", "db"}
    endpoint = Endpoint(**{name: value for name, value in options.items() if name in known})
    if parts.scheme != "rediss":
        return endpoint
    tls = {
        name.removeprefix("ssl_"): value for name, value in options.items() if name[:4] == "ssl_"
    }
    context = RedisSSLContext(**{"cert_reqs": "required", "check_hostname": True, **tls}).get()
    return Endpoint(**{**vars(endpoint), "tls": context})
