"""An AutoGen cache whose entries all processes share."""

from __future__ import annotations

import hashlib
import logging
import os
from typing import Any, Generic, TypeVar

from autogen_core import CacheStore, Component
from pydantic import BaseModel, ConfigDict, Field

from autogen_memx.connection import MemxConnectionConfig
from memx_sdk import MemxError, memxContext

T = TypeVar("T")

log = logging.getLogger(__name__)


class MemxCacheStoreConfig(BaseModel):
    """A cache in JSON."""

    model_config = ConfigDict(extra="forbid")

    connection: MemxConnectionConfig = MemxConnectionConfig()
    prefix: str = "memx:cache"
    ttl: float | None = Field(default=None, gt=0, description="Seconds until an entry expires.")


class MemxCacheStore(CacheStore[T], Component[MemxCacheStoreConfig], Generic[T]):
    """A cache for ``ChatCompletionCache`` and the like; memX that is away counts as a miss.

    Args:
        prefix: What its keys start with. Under the default one agents' tools do not see them.
        ttl: Seconds until an entry expires.
        connection: Where memX is; by default what the environment says.
        context: A context that the caller opened and will close.
    """

    component_config_schema = MemxCacheStoreConfig
    component_provider_override = "autogen_memx.MemxCacheStore"

    def __init__(
        self,
        prefix: str = "memx:cache",
        *,
        ttl: float | None = None,
        connection: MemxConnectionConfig | None = None,
        context: memxContext | None = None,
    ) -> None:
        self._prefix = prefix
        self._ttl = ttl
        self._config = connection or MemxConnectionConfig()
        self._given = context
        self._opened: memxContext | None = None

    def get(self, key: str, default: T | None = None) -> T | None:
        """Read an entry: what JSON made of it, as ``ChatCompletionCache`` expects."""
        # A cache must never fail the call that it is to save: memX that is away is a miss.
        try:
            entry = self._context.get(self._key(key))
        except MemxError as error:
            log.warning("the cache cannot be read: %s", error)
            return default
        return default if entry is None else entry.value

    def set(self, key: str, value: T) -> None:
        """Store an entry; pydantic models, also in a list, become JSON."""
        try:
            self._context.set(self._key(key), _plain(value), ttl=self._ttl, history=False)
        except MemxError as error:
            log.warning("the cache cannot be written: %s", error)

    def close(self) -> None:
        """Close the connection."""
        opened, self._opened = self._opened, None
        if opened is not None:
            opened.close()

    @property
    def _context(self) -> memxContext:
        if self._given is not None:
            return self._given
        # CacheStore's methods are synchronous, so it has a synchronous context of its own.
        if self._opened is None:
            self._opened = memxContext(
                os.environ.get(self._config.api_key_env),
                self._config.base_url,
                agent=self._config.agent,
            )
        return self._opened

    def _key(self, key: str) -> str:
        # Callers' keys are of any length, and mostly hashes already.
        return f"{self._prefix}:{hashlib.sha256(key.encode()).hexdigest()}"

    def _to_config(self) -> MemxCacheStoreConfig:
        return MemxCacheStoreConfig(connection=self._config, prefix=self._prefix, ttl=self._ttl)

    @classmethod
    def _from_config(cls, config: MemxCacheStoreConfig) -> MemxCacheStore[Any]:
        return MemxCacheStore(config.prefix, ttl=config.ttl, connection=config.connection)


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value
