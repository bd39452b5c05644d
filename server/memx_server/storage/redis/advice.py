"""Advice on a Redis server's own settings: what in them could lose memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from memx_server.storage.base import StoreFull, StoreUnavailable
from memx_server.storage.redis.network.faults import RedisCannotSave

_NOTHING_DROPPED = "noeviction"


def fault_from(info: str) -> StoreUnavailable | None:
    """Why Redis takes no writes at the moment, as far as its INFO tells; None where nothing speaks against it."""
    facts = _facts(info)
    if _is_full(facts) and facts.get("maxmemory_policy", _NOTHING_DROPPED) == _NOTHING_DROPPED:
        return StoreFull("Redis has reached its maxmemory")
    if facts.get("aof_last_write_status") == "err":
        return RedisCannotSave("Redis could not write to its append-only file")
    return None


def advice_from(info: str) -> Iterator[str]:
    """Yield a sentence for each fault, from the text of INFO: it works where CONFIG is not permitted."""
    facts = _facts(info)
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


def _facts(info: str) -> dict[str, str]:
    return dict(line.split(":", 1) for line in info.splitlines() if ":" in line)


def _is_full(facts: Mapping[str, str]) -> bool:
    return 0 < int(facts.get("maxmemory", 0)) <= int(facts.get("used_memory", 0))
