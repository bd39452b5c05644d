"""What a forked child must let go of: locks, sockets and servers that are its parent's."""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class ForkAware(Protocol):
    """An object that holds what works in one process only."""

    def forget_in_child(self) -> None:
        """Let go of it in a child, without a word to the parent's side of it."""


_held: weakref.WeakSet[ForkAware] = weakref.WeakSet()


def forget_after_fork(holder: ForkAware) -> None:
    """Have ``holder.forget_in_child`` called in every child that this process forks from now on."""
    _held.add(holder)


def _in_child() -> None:
    for holder in list(_held):
        holder.forget_in_child()


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_in_child)
