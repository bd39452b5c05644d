"""What happens to connections, streams and locks in a process that was forked.

``os.fork`` copies a process with one thread only. The child then holds the parent's sockets: two processes that read
one socket take each other's answers, without an error. It also holds mutexes whose owners do not exist there, and
threads that never run. So everything that has a socket, a thread or a position on a server registers here, and in the
child, before any of its code runs, drops what belongs to the parent:

* a transport forgets its connections, and opens new ones at its next request;
* a subscription, an agent, a durable name and a lock stay with the parent: in the child they raise.

Nothing is closed properly in the child, for that would write to the parent's sockets: a close frame, or a TLS alert.
``multiprocessing`` with the start method ``fork``, gunicorn with ``--preload`` and Celery's prefork pool all fork by
``os.fork``, and so run this.
"""

from __future__ import annotations

import os
import weakref
from typing import Final, Protocol

from memx_sdk.errors import MemxClosedError

FORKED: Final = "forked"
"""The code of an error that says: this belongs to the process that was forked."""


class ForkAware(Protocol):
    """What has to do something in a forked child."""

    def forget_parent(self) -> None:
        """Drop what belongs to the parent process, without waiting and without sending anything."""


# Weak, so that registering keeps nothing alive: a context registers all that it makes.
_aware: Final[weakref.WeakSet[ForkAware]] = weakref.WeakSet()


def watch_forks(owner: ForkAware) -> None:
    """Have ``owner.forget_parent()`` called in every forked child, as long as ``owner`` lives."""
    _aware.add(owner)


def forked_error(what: str) -> MemxClosedError:
    """Make the error for the use of ``what`` in a child of the process that made it."""
    return MemxClosedError(
        FORKED, f"{what} belongs to the process that was forked; make a new one in this process"
    )


def _in_child() -> None:
    # No other thread exists here, and none can start before this returns.
    # A list, since what an owner drops may be owners that leave the set while it is walked.
    for owner in list(_aware):
        owner.forget_parent()


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    # Once for the process and not for each owner: hooks cannot be taken back, and would keep their
    # owners for ever.
    os.register_at_fork(after_in_child=_in_child)
