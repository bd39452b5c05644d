"""Where the first memX's SDK had its client; ``from memx_sdk.client import memxContext`` goes on."""

from __future__ import annotations

from memx_sdk._sync.client import memxContext

__all__ = ["memxContext"]
