"""Environment variables that look like settings of memX and are none."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping

from memx_server.settings import Limits

_KNOWN = frozenset(
    (
        *("MEMX_API_KEY", "MEMX_BASE_URL", "MEMX_LOCK_TOKEN"),
        *("MEMX_STORE_URL", "MEMX_ACL_FILE", "MEMX_WORKERS", "MEMX_DURABILITY"),
        *("MEMX_ALLOWED_HOSTS", "MEMX_ALLOWED_ORIGINS", "MEMX_KNOWN_HOSTS_ONLY"),
        *("MEMX_HEAD_TIMEOUT", "MEMX_BODY_TIMEOUT"),
        *("MEMX_WRITE_DEADLINE", "MEMX_VALIDATION_DEADLINE"),
        *("MEMX_OAUTH_ISSUER", "MEMX_OAUTH_RESOURCE"),
        *("MEMX_RATE_LIMIT", "MEMX_RATE_BURST"),
        *("MEMX_SUPABASE_CACHE", "MEMX_SUPABASE_GRACE", "MEMX_SUPABASE_PLAIN_KEYS"),
        *("MEMX_METRICS", "MEMX_ACCESS_LOG", "MEMX_LOG_FORMAT", "MEMX_LOG_LEVEL"),
        *("MEMX_PUBLISHED_ON_LOOPBACK", "MEMX_WORKER_FIGURES", "MEMX_MCP_SESSIONS"),
        # Compose's own, which it passes on with all others of the file .env.
        *("MEMX_PUBLISH", "MEMX_REDIS_PASSWORD", "MEMX_REDIS_MEMORY", "MEMX_REDIS_MAXMEMORY"),
        *("MEMX_MEMORY", "MEMX_REPLICAS"),
        *(f"MEMX_MAX_{name.upper()}" for name in Limits().as_dict()),
    )
)
_ALIKE = 0.75
"""From which likeness a name is offered as the one that was meant."""


def unknown_settings(environ: Mapping[str, str]) -> Iterator[str]:
    """Yield a sentence for each variable that begins with ``MEMX_`` and is read by nothing.

    They keep no server from starting, since they may belong to another program: but a misspelt limit that is no
    limit should not be found out later.
    """
    for name in sorted(environ):
        if not name.startswith("MEMX_") or name in _KNOWN:
            continue
        nearest = difflib.get_close_matches(name, _KNOWN, 1, _ALIKE)
        meant = f"; did you mean {nearest[0]}?" if nearest else ""
        yield f"{name} is no setting of memX, and has no effect{meant}"
