"""The exit codes of the ``memx`` command."""

from __future__ import annotations

from enum import IntEnum

from memx_sdk.errors import (
    ConflictError,
    ForbiddenError,
    MemxConnectionError,
    MemxError,
    MemxTimeout,
    NotFoundError,
    RequestError,
    UnauthenticatedError,
    UnavailableError,
)


class ExitCode(IntEnum):
    """Exit codes, for scripts."""

    OK = 0
    ERROR = 1
    USAGE = 2
    NOT_FOUND = 3
    CONFLICT = 4
    REFUSED = 5
    FORBIDDEN = 6
    UNREACHABLE = 7
    TIMED_OUT = 8
    INTERRUPTED = 130


_BY_ERROR: tuple[tuple[type[MemxError], ExitCode], ...] = (
    # The first that fits decides, so a class goes before the one that it is derived from: most are
    # kinds of RequestError.
    (NotFoundError, ExitCode.NOT_FOUND),
    (ConflictError, ExitCode.CONFLICT),
    (UnauthenticatedError, ExitCode.FORBIDDEN),
    (ForbiddenError, ExitCode.FORBIDDEN),
    (RequestError, ExitCode.REFUSED),
    (MemxConnectionError, ExitCode.UNREACHABLE),
    (MemxTimeout, ExitCode.UNREACHABLE),
    (UnavailableError, ExitCode.UNREACHABLE),
)


def exit_code(error: MemxError) -> ExitCode:
    """Return the exit code that stands for ``error``."""
    return next((code for kind, code in _BY_ERROR if isinstance(error, kind)), ExitCode.ERROR)
