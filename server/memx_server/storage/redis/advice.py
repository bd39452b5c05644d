"""Advice on a Redis server's own settings: what in them could lose memory."""

from __future__ import annotations

from collections.abc import Iterator


def advice_from(info: str) -> Iterator[str]:
    """Yield a sentence for each fault, from the text of INFO: it works where CONFIG is not permitted."""
    facts = dict(line.split(":", 1) for line in info.splitlines() if ":" in line)
    if facts.get("aof_enabled") == "0":
        yield (
            "Redis keeps no append-only file: a crash loses what was written since its last "
            "snapshot; set appendonly yes"
        )
    if "err" in (facts.get("aof_last_write_status"), facts.get("rdb_last_bgsave_status")):
        yield "Redis could not write to its disk the last time; look into its log"
    limit = int(facts.get("maxmemory", 0))
    if 0 < limit <= int(facts.get("used_memory", 0)):
        yield "Redis's memory is full, so that it refuses writes; raise maxmemory, or delete keys"
    policy = facts.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        yield (
            f"Redis may drop keys when its memory is full ({policy}); "
            "set maxmemory-policy noeviction, which refuses writes instead"
        )
