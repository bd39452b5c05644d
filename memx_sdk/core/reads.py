"""The operations that change nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Literal, NamedTuple

import msgspec

from memx_sdk.core import values
from memx_sdk.core.calls import Call, given, reading
from memx_sdk.core.responses import as_object, decode_object, read
from memx_sdk.errors import BadAnswerError
from memx_sdk.models import Change, ChangePage, Entry, Validation

KEYS_PER_PAGE: Final = 1000
ENTRIES_PER_PAGE: Final = 100
"""Entries of one page: fewer than keys, since they may be large."""


Order = Literal["key", "newest"]
"""How a list is sorted: by key, or those that were written last first."""
Filter = Mapping[str, Any]
"""Conditions on the members of values, such as ``{"status": "open", "score": {"$gte": 0.5}}``."""


class Page(NamedTuple):
    """A page of keys or entries; ``next`` asks for the one behind it, None at the end."""

    items: list[Any]
    next: str | None


class _RawEntry(msgspec.Struct):
    value: msgspec.Raw


class _RawChange(msgspec.Struct):
    value: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class _RawChanges(msgspec.Struct):
    changes: list[_RawChange]


class _RawEntries(msgspec.Struct):
    entries: list[msgspec.Raw]


def get(key: str, *, at: int | None, model: Any) -> Call[Entry | None]:
    """Read one entry."""
    request = reading("get", "/get", given(key=key, at=at))
    return Call(request, lambda body: _entry(body, model, key))


def mget(keys: Iterable[str], *, model: Any) -> Call[dict[str, Entry | None]]:
    """Read several entries of one moment."""
    request = reading("mget", "/mget", given(keys=list(keys)), method="POST")
    return Call(request, lambda body: _entries_by_key(body, model))


def cursor() -> Call[str]:
    """Ask for the present position."""
    # An ``mget`` of nothing: its answer brings the position of the log, for which there is no
    # operation of its own.
    request = reading("mget", "/mget", given(keys=[]), method="POST")
    return Call(request, lambda body: str(_member(body, "cursor")))


def keys(
    pattern: str, *, limit: int, after: str | None, order: Order, filter: Filter | None
) -> Call[Page]:
    """Read one page of keys."""
    fields = _listing(pattern, limit, after, order, filter)
    return Call(reading("keys", "/keys", fields), lambda body: _page(body, "keys", str))


def entries(
    pattern: str,
    *,
    limit: int,
    after: str | None,
    order: Order,
    filter: Filter | None,
    model: Any = None,
) -> Call[Page]:
    """Read one page of entries."""
    fields = {**_listing(pattern, limit, after, order, filter), **given(values=True)}
    return Call(reading("keys", "/keys", fields), lambda body: _entry_page(body, model))


class HistoryPage(NamedTuple):
    """A page of changes of one key; ``next`` asks for the older ones, None at the end."""

    changes: list[Change]
    next: int | None


def history(key: str, *, limit: int, until: int | None) -> Call[HistoryPage]:
    """Read the changes of a key."""
    request = reading("history", "/history", given(key=key, limit=limit, until=until))

    def page(body: bytes) -> HistoryPage:
        changes = [Change(change) for change in _member(body, "changes")]
        return HistoryPage(changes, decode_object(body).get("next"))

    return Call(request, page)


def changes(
    pattern: str,
    *,
    since: str | None,
    wait: float,
    limit: int,
    event: str,
    model: Any = None,
) -> Call[ChangePage]:
    """Read the log."""
    # A wait of 0 is left out, since that is what the server takes it for; the patience lets the
    # transport wait for the answer as long as the server may hold it back, and the usual time on
    # top.
    fields = given(pattern=pattern, since=since, limit=limit, event=event, wait=wait or None)
    request = reading("changes", "/changes", fields, patience=wait)
    return Call(request, lambda body: _change_page(body, model))


def validate(key: str, value: Any) -> Call[Validation]:
    """Ask whether a schema would take a value."""
    # Not by ``given``, which leaves a None out: null is a value like any other.
    fields = {**given(key=key), "value": values.encode(value)}
    request = reading("validate", "/validate", fields, method="POST")
    return Call(request, lambda body: Validation(decode_object(body)))


def get_schema(key: str) -> Call[dict[str, Any]]:
    """Read the schema of exactly this key or pattern."""
    return Call(reading("get_schema", "/schema", given(key=key)), decode_object)


def schemas() -> Call[list[dict[str, Any]]]:
    """Read every schema."""
    return Call(reading("schemas", "/schemas", {}), lambda body: list(_member(body, "schemas")))


def whoami() -> Call[dict[str, Any]]:
    """Ask what the API key may do."""
    return Call(reading("whoami", "/whoami", {}), decode_object)


def presence() -> Call[dict[str, Any]]:
    """Ask who is active."""
    return Call(reading("presence", "/presence", {}), decode_object)


def _listing(
    pattern: str, limit: int, after: str | None, order: Order, filter: Filter | None
) -> dict[str, bytes]:
    """The fields of a list; those that are as usual are left out, so that an older server takes it too."""
    usual = order == "key"
    return given(
        pattern=pattern,
        limit=limit,
        cursor=after,
        order=None if usual else order,
        filter=filter or None,
    )


def _entry(body: bytes, model: Any, key: str) -> Entry | None:
    answer = read(body)
    if answer is None:
        return None
    entry: Entry = Entry(as_object(answer))
    entry.setdefault("key", key)  # the first memX's server does not repeat it
    if model is not None:
        # The model is made from the text of the value and not from what was decoded: numbers that a
        # float cannot hold must reach a ``Decimal`` to their last digit.
        raw = msgspec.json.decode(body, type=_RawEntry)
        entry["value"] = values.parse(bytes(raw.value), model, key=key)
    return entry


def _entries_by_key(body: bytes, model: Any) -> dict[str, Entry | None]:
    found = as_object(_member(body, "entries"))
    if model is None:
        return {key: None if entry is None else Entry(entry) for key, entry in found.items()}
    # Two steps, for the same reason as in ``_entry``: the text of each entry is needed.
    texts = msgspec.json.decode(body, type=dict[str, msgspec.Raw])["entries"]
    text_by_key = msgspec.json.decode(texts, type=dict[str, msgspec.Raw])
    return {key: _entry(bytes(text), model, key) for key, text in text_by_key.items()}


def _page(body: bytes, name: str, make: Callable[[Any], Any]) -> Page:
    answer = decode_object(body)
    return Page([make(item) for item in answer.get(name, ())], answer.get("next"))


def _change_page(body: bytes, model: Any) -> ChangePage:
    page = ChangePage(decode_object(body))
    if model is not None:
        texts = msgspec.json.decode(body, type=_RawChanges).changes
        for change, text in zip(page["changes"], texts, strict=True):
            if text.value is not msgspec.UNSET:
                change["value"] = values.parse(bytes(text.value), model, key=change["key"])
    return page


def _entry_page(body: bytes, model: Any) -> Page:
    page = _page(body, "entries", Entry)
    if model is None:
        return page
    # As in ``_entries_by_key``: a model is made from the text of each entry.
    texts = msgspec.json.decode(body, type=_RawEntries).entries
    made = [
        _entry(bytes(text), model, entry.key) for text, entry in zip(texts, page.items, strict=True)
    ]
    return Page(made, page.next)


def _member(body: bytes, name: str) -> Any:
    try:
        return decode_object(body)[name]
    except KeyError:
        # Whatever answered is JSON, but no answer of a memX server of this API.
        raise BadAnswerError("bad_answer", f"the server's answer has no {name!r}") from None
