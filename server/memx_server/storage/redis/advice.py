"""Advice on a Redis server's own settings: what in them could lose memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from memx_server.storage.base import StoreFull, StoreUnavailable
from memx_server.storage.redis.network.faults import RedisCannotSave

_NOTHING_DROPPED = "noeviction"


def fault_from(facts: Mapping[str, str]) -> StoreUnavailable | None:
    """Why Redis takes no writes at the moment, as far as the facts of INFO tell; None where it seems to."""
    if _is_full(facts) and facts.get("maxmemory_policy", _NOTHING_DROPPED) == _NOTHING_DROPPED:
        return StoreFull("Redis has reached its maxmemory")
    if facts.get("aof_last_write_status") == "err":
        return RedisCannotSave("Redis could not write to its append-only file")
    return None


def advice_from(facts: Mapping[str, str]) -> Iterator[str]:
    """Yield a sentence for each fault, from the facts of INFO: it works where CONFIG is not permitted."""
    if facts.get("aof_enabled") == "0":
        yield (
            "Redis keeps no append-only file: a crash loses what was written since its last "
            "snapshot; set appendonly yes"
        )
    if "err" in (facts.get("aof_last_write_status"), facts.get("rdb_last_bgsave_status")):
        yield "Redis could not write to its disk the last time; look into its log"
    if _is_full(facts):
        yield "Redis's memory is full, so that it refuses writes; raise maxmemory, or delete keys"
    policy = facts.get("maxmemory_policy", _NOTHING_DROPPED)
    if policy != _NOTHING_DROPPED:
        yield (
            f"Redis may drop keys when its memory is full ({policy}); "
            "set maxmemory-policy noeviction, which refuses writes instead"
        )


def advice_on_rights(missing: str, *, writes: bool) -> Iterator[str]:
    """Say what follows from missing rights, and whether memX can write all the same."""
    if writes:
        yield (
            "Redis lets memX's user not publish or subscribe, so that those who watch hear of changes only "
            f"by the position check, up to 10 seconds late; give it {missing}"
        )
    else:
        yield (
            f"Redis denies memX's user what it needs, so that nothing can be written; give it {missing}"
        )


def advice_on_sentinels(reached: int, sentinels: int, facts: Mapping[str, str]) -> Iterator[str]:
    """Say whether enough Sentinels are in reach, and whether a lonely primary would take writes."""
    if 2 * reached <= sentinels:
        yield (
            f"memX reaches only {reached} of {sentinels} Sentinels, so that it may miss a failover and serve "
            "what is out of date; start the others, or mend the way to them"
        )
    if facts.get("role") == "master" and "min_slaves_good_slaves" not in facts:
        yield (
            "a primary that the Sentinels have given up takes writes that will be lost; set "
            "min-replicas-to-write 1 and min-replicas-max-lag 10, so that one without replicas takes none"
        )


def facts_of(info: str) -> dict[str, str]:
    """The fields of INFO by name."""
    return dict(line.split(":", 1) for line in info.splitlines() if ":" in line)


def _is_full(facts: Mapping[str, str]) -> bool:
    return 0 < int(facts.get("maxmemory", 0)) <= int(facts.get("used_memory", 0))
