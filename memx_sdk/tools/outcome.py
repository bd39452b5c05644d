"""The outcome of a tool call: a result or an error."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import BaseModel

from memx_sdk.errors import MemxError


@dataclass(frozen=True)
class ToolOutcome:
    """A result, or an error that the model can mend.

    Attributes:
        text: What the model reads.
        result: The typed result, or None after an error.
        error: The error, or None. ``invalid_request`` stands for arguments that do not fit.
    """

    text: str
    result: BaseModel | None = None
    error: MemxError | None = None

    @property
    def ok(self) -> bool:
        """Whether the call did what it was asked to do."""
        return self.error is None
