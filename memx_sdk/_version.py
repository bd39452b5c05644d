"""The version that all five distributions of memX carry."""

from __future__ import annotations

__version__ = "0.2.0"
