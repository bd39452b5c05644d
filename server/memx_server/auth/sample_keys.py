"""The sample API keys, which everybody knows: those of ``config/acl.json`` and of ``memx dev``."""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterable
from functools import lru_cache

LOCAL_DEV_KEY = "local_dev_key"
"""The API key that ``memx dev`` makes where there is none; good for this machine only."""

_SAMPLES = (LOCAL_DEV_KEY, "agent_key_1", "agent_key_2", "agent_key_3", "guest_key")

SAMPLE_CREDENTIALS = frozenset(hashlib.sha256(key.encode()).hexdigest() for key in _SAMPLES)
"""The digests of the sample keys, as in ``Principal.credential``: an ACL file may hold either form of a key."""

MAKE_A_KEY = "memx api-keys create --agent NAME --read '*' --write '*'"
"""The command that makes an API key which nobody else knows."""


def sample_keys_in(digests: Iterable[bytes]) -> int:
    """Count the sample keys among the keys of these SHA-256 digests."""
    return sum(digest.hex() in SAMPLE_CREDENTIALS for digest in digests)


@lru_cache(maxsize=64)  # a server has few addresses, and asks for each request
def is_loopback(host: str) -> bool:
    """Tell whether a server that listens on ``host`` is reached from this machine alone."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    # A socket that takes both versions shows an address of IPv4 as one of IPv6.
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback
