"""How safe a write is when it is answered."""

from __future__ import annotations

from typing import Literal

Durability = Literal["memory", "replica", "fsync"]
"""In the memory of the store, on a replica too, or on its disk."""

HEADER = "x-memx-durability"
