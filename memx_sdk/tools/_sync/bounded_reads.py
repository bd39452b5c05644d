# Generated from memx_sdk/tools/_async/bounded_reads.py by tools/unasync.py; change that file, not this one.
"""The reading of lists and of the change log for a model: as much as fits into one answer, and where to go on."""

from __future__ import annotations

import time
from typing import Any

from memx_sdk._sync.client import memxContext
from memx_sdk.core.reads import Page
from memx_sdk.models import Change, ChangePage, Entry
from memx_sdk.tools import arguments as args
from memx_sdk.tools import results
from memx_sdk.tools._sync.agent_keys import AgentKeys
from memx_sdk.tools.budget import ABOUT, changes_that_fit, size_of, without_value

OLDEST = "oldest"
"""In place of a cursor: from the oldest change that is kept."""

_LONGEST_POLL = 20.0
"""Seconds of one long poll: short enough for any proxy on the way."""

_LONGEST_KEY = 520
"""Characters that a key takes in an answer, at the most but for escapes."""

_ABOUT_AN_ENTRY = 300
"""Characters of an entry beside its key and value, at the most but for escapes."""

_FIRST_ENTRIES = 10
_LARGEST_PAGE = 1000
_SEARCH_SECONDS = 20.0
"""Seconds in which pages of programs' own records alone are passed over."""

_LAST_CHANGES = 100
"""Changes of one key that memX keeps."""


class BoundedReads:
    """Reads lists, changes and histories for one answer each.

    Args:
        context: Whose keys.
        keys: Which of them the agent sees.
        max_characters: The budget of an answer.
    """

    def __init__(
        self, context: memxContext, keys: AgentKeys, max_characters: int
    ) -> None:
        self._context = context
        self._keys = keys
        self._budget = max_characters - ABOUT

    def list_keys(self, given: args.ListArguments) -> results.ListResult:
        """List keys and, if asked for, entries, page by page until the answer is full."""
        found: list[str] = []
        entries: list[results.EntryResult] = []
        left, after, size = self._budget, given.after, _FIRST_ENTRIES
        # What the key of one item takes at the most, and what is known of it beside its value.
        item = 2 * _LONGEST_KEY + _ABOUT_AN_ENTRY if given.values else _LONGEST_KEY
        while True:
            # A page is what fits in any case, so that an answer ends where a page does: the cursor is the server's,
            # and nothing is skipped or shown twice.
            fitting = max(1, left // item)
            wanted = min(size if given.values else fitting, fitting, given.limit - len(found))
            page = self._page(given.pattern, wanted, after)
            keys = self._visible(page)
            found += keys
            left -= sum(size_of(key) + 2 for key in keys)
            if given.values:
                shown = self._entries(keys, left)
                entries += shown
                left -= sum(size_of(_dumped(entry)) + 2 for entry in shown)
            # Twice as many while there is room for them: small values come in few requests.
            size = min(2 * size, _LARGEST_PAGE) if left > self._budget // 2 else size
            after = page.next
            # Before the pages become so small that they cost more requests than they show.
            full = len(found) >= given.limit or left < max(item, self._budget // 8)
            if after is None or full:
                return _list_result(found, entries if given.values else None, after)

    def _page(self, pattern: str, wanted: int, after: str | None) -> Page:
        """Read the next page on which there is a key that the agent sees; ``wanted`` of those at the most."""
        page = self._context.key_page(pattern, limit=wanted, after=after)
        # Programs' own records may be many: they are passed over in large pages.
        while page.next is not None and not self._visible(page):
            after = page.next
            page = self._context.key_page(pattern, limit=_LARGEST_PAGE, after=after)
        visible = self._visible(page)
        if len(visible) <= wanted:
            return page
        # Read again up to the last one that is wanted, for the cursor that stands behind it.
        upto = page.items.index(visible[wanted - 1]) + 1
        return self._context.key_page(pattern, limit=upto, after=after)

    def _visible(self, page: Page) -> list[str]:
        return [key for key in page.items if self._keys.sees(key)]

    def _entries(self, keys: list[str], left: int) -> list[results.EntryResult]:
        """Read entries; those whose values do not fit come with the length of it."""
        # Only the values of keys that are shown are read: a checkpoint is large.
        present = self._context.mget(keys) if keys else {}
        shown: list[results.EntryResult] = []
        for key, entry in present.items():
            if entry is None:
                continue  # deleted since the list was made
            result = entry_result(key, entry)
            size = size_of(_dumped(result)) + 2
            if size > left:
                members = result.model_dump(exclude_unset=True)
                characters = size_of(members.pop("value"))
                result = results.EntryResult.model_validate({**members, "characters": characters})
                size = size_of(_dumped(result)) + 2
            left -= size
            shown.append(result)
        return shown

    def changes(self, given: args.ChangesArguments) -> results.ChangesResult:
        """Read changes after a cursor; without one only where "now" is."""
        if given.since is None:
            return results.ChangesResult(
                changes=[],
                cursor=self._context.cursor(),
                more=False,
                note="Without since this starts from now: pass the cursor as since the next time. memx_list and "
                "memx_history tell what was before; since oldest lists the changes that are still kept.",
            )
        since = None if given.since == OLDEST else given.since
        page = self._context.changes(given.pattern, since=since, limit=given.limit)
        deadline = time.monotonic() + _SEARCH_SECONDS
        # A page of programs' own records alone would show the model nothing, so the next ones are read, large ones:
        # the whole log is a few hundred of them at the most.
        while page.more and not self._keys.visible(page.changes) and time.monotonic() < deadline:
            since = page.cursor
            page = self._context.changes(given.pattern, since=since, limit=_LARGEST_PAGE)
        page, shown = self._fitting(page, given.pattern, since, given.limit)
        answer = results.ChangesResult(changes=shown, cursor=page.cursor, more=page.more)
        if answer.more and not shown:
            answer.note = "Only programs' own records so far. Call again with this cursor as since."
        elif note := _note_on(shown):
            answer.note = note
        return answer

    def wait(self, given: args.WaitArguments, longest: float | None) -> results.WaitResult:
        """Wait for a change.

        Args:
            given: What for, and how long.
            longest: Seconds after which whoever called has stopped listening; None for no such bound.
        """
        seconds = given.timeout if longest is None else min(given.timeout, longest)
        deadline = time.monotonic() + seconds
        # Before the first wait, so that a change between two polls is behind the cursor and is
        # found by the next one.
        since = given.since or self._context.cursor()
        while True:
            wait = max(0.0, min(deadline - time.monotonic(), _LONGEST_POLL))
            page = self._context.changes(given.pattern, since=since, wait=wait)
            if self._keys.visible(page.changes):
                page, shown = self._fitting(page, given.pattern, since, len(page.changes))
                answer = results.WaitResult(
                    changes=shown, cursor=page.cursor, timed_out=False, more=page.more
                )
                if note := _note_on(shown):
                    answer.note = note
                return answer
            # Moved over what the model does not see, too, or the same records of programs would end
            # each poll at once.
            since = page.cursor
            if time.monotonic() >= deadline:
                return _timed_out(since, seconds, given.timeout)

    def history(self, given: args.HistoryArguments) -> results.HistoryResult:
        """Read changes of one key; every one is listed, with the length of a value that does not fit."""
        limit = given.limit if given.before is None else _LAST_CHANGES
        found = self._context.history(given.key, limit=limit)
        if given.before is not None:
            found = [change for change in found if change.revision < given.before]
        wanted = change_results(found[: given.limit])
        shown: list[results.ChangeResult] = []
        left = self._budget
        for change in wanted:
            size = size_of(_dumped(change)) + 2
            if size > left:
                change = without_value(change)
                size = size_of(_dumped(change)) + 2
            if size > left and shown:
                break
            left -= size
            shown.append(change)
        answer = results.HistoryResult(key=given.key, changes=shown)
        said = [note] if (note := _note_on(shown)) else []
        if len(shown) < len(wanted):
            answer.more = True
            said.append(f"For older ones call again with before {shown[-1].revision}.")
        if said:
            answer.note = " ".join(said)
        return answer

    def _fitting(
        self, page: ChangePage, pattern: str, since: str | None, limit: int
    ) -> tuple[ChangePage, list[results.ChangeResult]]:
        """Take the changes of a page that the agent sees and that fit, and the page that ends behind them."""
        visible = [
            (place, change)
            for place, change in enumerate(page.changes, 1)
            if self._keys.sees(change.key)
        ][:limit]
        shown = changes_that_fit(change_results([change for _, change in visible]), self._budget)
        if len(shown) == len(visible) and (not visible or len(page.changes) <= limit):
            return page, shown
        # The log does not change behind us: as many again are the same ones, with the cursor that follows them.
        last = visible[len(shown) - 1][0]
        return self._context.changes(pattern, since=since, limit=last), shown


def entry_result(key: str, entry: Entry | None) -> results.EntryResult:
    """Write an entry, or that there is none, as a result."""
    if entry is None:
        return results.EntryResult(key=key, exists=False)
    return results.EntryResult.model_validate({**entry, "key": key, "exists": True})


def change_results(changes: list[Change]) -> list[results.ChangeResult]:
    """Write changes as results."""
    return [results.ChangeResult.model_validate(dict(change)) for change in changes]


def _list_result(
    keys: list[str], entries: list[results.EntryResult] | None, after: str | None
) -> results.ListResult:
    answer = results.ListResult(keys=keys, more=after is not None)
    said: list[str] = []
    if entries is not None:
        answer.entries = entries
        if any(entry.characters for entry in entries):
            said.append("Where characters stands in place of a value, read it with memx_get.")
    if after is not None:
        answer.next = after
        said.append("For the rest call again with next as after.")
    if said:
        answer.note = " ".join(said)
    return answer


def _timed_out(cursor: str, waited: float, wanted: float) -> results.WaitResult:
    answer = results.WaitResult(changes=[], cursor=cursor, timed_out=True)
    if waited < wanted:
        answer.note = (
            f"Nothing in {waited:g} seconds, the longest that one call waits here. Call again with the cursor as "
            "since: nothing is missed in between."
        )
    return answer


def _note_on(changes: list[results.ChangeResult]) -> str:
    if not any(change.characters for change in changes):
        return ""
    return (
        "Where characters stands in place of a value, read it with memx_get and the revision as at."
    )


def _dumped(result: Any) -> Any:
    return result.model_dump(mode="json", exclude_unset=True)
