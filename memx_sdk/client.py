"""The import path of the first memX's client: ``from memx_sdk.client import memxContext``."""

from __future__ import annotations

from memx_sdk._sync.client import memxContext

__all__ = ["memxContext"]
