"""An AutoGen cache whose entries all processes share."""

from __future__ import annotations

import logging
import os
from typing import Any, Generic, TypeVar

from autogen_core import CacheStore, Component
from autogen_core.models import CreateResult
from pydantic import BaseModel, ConfigDict, Field

from autogen_memx.connection import MemxConnectionConfig
from memx_sdk import MemxError, memxContext
from memx_sdk.collections import ObjectForm, Records

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
        self._records: Records[Any] | None = None

    def get(self, key: str, default: T | None = None) -> T | None:
        """Read an entry: a model's result as it was, of other objects what JSON made of them."""
        # A cache must never fail the call that it is to save: memX that is away is a miss.
        try:
            record = self._entries.get(key)
        except MemxError as error:
            log.warning("the cache cannot be read: %s", error)
            return default
        return default if record is None else record.value

    def set(self, key: str, value: T) -> None:
        """Store an entry of any size; pydantic models but results, also in a list, become JSON."""
        try:
            self._entries.put(key, _plain(value), ttl=self._ttl)
        except (MemxError, ValueError) as error:  # ValueError: it is larger than a record can be
            log.warning("the cache cannot be written: %s", error)

    def close(self) -> None:
        """Close the connection."""
        opened, self._opened, self._records = self._opened, None, None
        if opened is not None:
            opened.close()

    @property
    def _entries(self) -> Records[Any]:
        # CacheStore's methods are synchronous, so it has a synchronous context of its own.
        if self._records is None:
            context = self._given or memxContext(
                os.environ.get(self._config.api_key_env),
                self._config.base_url,
                agent=self._config.agent,
            )
            self._opened = None if context is self._given else context
            # ChatCompletionCache of AutoGen 0.6 takes nothing but the object that it has stored.
            self._records = Records(
                context, self._prefix, form=ObjectForm([CreateResult]), plain=True, logged=False
            )
        return self._records

    def _to_config(self) -> MemxCacheStoreConfig:
        return MemxCacheStoreConfig(connection=self._config, prefix=self._prefix, ttl=self._ttl)

    @classmethod
    def _from_config(cls, config: MemxCacheStoreConfig) -> MemxCacheStore[Any]:
        return MemxCacheStore(config.prefix, ttl=config.ttl, connection=config.connection)


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel) and not isinstance(value, CreateResult):
        return value.model_dump(mode="json")
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value
