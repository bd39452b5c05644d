"""The keys that the agents of one run share, and the state that an agent builds from them."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from memx_sdk import Change, Reset

LONGEST_SUMMARY = 350
"""Characters that the schema of the summary allows."""
SUMMARY_SCHEMA = {
    "type": "object",
    "required": ["state", "text", "sources"],
    "properties": {"text": {"type": "string", "maxLength": LONGEST_SUMMARY}},
}
_NO_LETTER = re.compile(r"[\W_]+")
_LONGEST_SLUG = 40


@dataclass(frozen=True)
class Board:
    """The names of the keys; every run has its own prefix, so that runs can share a server.

    Attributes:
        prefix: The prefix of all keys of the run.
    """

    prefix: str = field(default_factory=lambda: f"team:{secrets.token_hex(2)}:")

    @property
    def everything(self) -> str:
        """The pattern of all keys of the run."""
        return f"{self.prefix}*"

    @property
    def question(self) -> str:
        """Holds ``{"text"}``."""
        return f"{self.prefix}question"

    @property
    def summary(self) -> str:
        """Holds ``{"state": "draft" | "final", "text", "sources": [title]}``."""
        return f"{self.prefix}summary"

    def lead(self, number: str) -> str:
        """Holds ``{"ask", "state": "open" | "taken" | "done"}``, at the end also ``follow_ups``."""
        return f"{self.prefix}lead:{number}"

    def finding(self, title: str) -> str:
        """Holds ``{"title", "text", "lead"}``; one title has one key: nothing is found twice."""
        slug = _NO_LETTER.sub("-", title.lower()).strip("-")
        return f"{self.prefix}finding:{slug[:_LONGEST_SLUG]}"

    def short(self, key: str) -> str:
        """Return ``key`` without the prefix."""
        return key.removeprefix(self.prefix)

    def is_lead(self, key: str) -> bool:
        """Tell whether ``key`` holds a lead."""
        return key.startswith(f"{self.prefix}lead:")

    def is_finding(self, key: str) -> bool:
        """Tell whether ``key`` holds a finding."""
        return key.startswith(f"{self.prefix}finding:")

    def is_final(self, change: Change) -> bool:
        """Tell whether ``change`` ends the run."""
        return change.key == self.summary and (change.value or {}).get("state") == "final"


@dataclass(frozen=True)
class Note:
    """Something that an agent met and that is no change: a refused write, its own absence.

    Attributes:
        writer: The agent, as changes name it.
        key: The key that it is about; empty for none.
        text: A few words.
        after: The revision of the change that explains it; 0 for none.
    """

    writer: str
    key: str
    text: str
    after: int = 0


@dataclass
class BoardState:
    """The leads and findings that an agent has seen so far, built from changes and snapshots alike."""

    board: Board
    leads: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    findings: dict[str, Mapping[str, Any]] = field(default_factory=dict)

    def apply(self, change: Change | Reset) -> None:
        """Apply ``change``; after a reset the whole state follows as a snapshot."""
        if isinstance(change, Reset):
            self.leads.clear()
            self.findings.clear()
        elif self.board.is_lead(change.key):
            self.leads[change.key] = change.value
        elif self.board.is_finding(change.key):
            self.findings[change.key] = change.value

    @property
    def titles(self) -> set[str]:
        """Titles of all findings."""
        return {finding["title"] for finding in self.findings.values()}

    @property
    def is_explored(self) -> bool:
        """Whether every lead, with all that followed from it, is done."""
        named = set(self.leads) | set(_follow_ups(self.leads.values()))
        return bool(named) and all(self.leads.get(key, {}).get("state") == "done" for key in named)


def _follow_ups(leads: Iterable[Mapping[str, Any]]) -> list[str]:
    return [key for lead in leads for key in lead.get("follow_ups", ())]
