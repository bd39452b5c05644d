"""The error of a store that cannot be opened, free of imports: a process may raise it before it has loaded a store."""

from __future__ import annotations


class CannotOpen(Exception):  # noqa: N818 - reads as the sentence that is shown
    """The store cannot be opened; the message names it, and says why and what to do."""
