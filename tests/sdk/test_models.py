"""Results are dicts as the first memX gave them, with attributes."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import pytest

from memx_sdk import Change, ChangePage, Entry, Reset, TxnResult, Validation, WriteResult

ENTRY = {
    "revision": 7,
    "version": 2,
    "ts": 1.5,
    "writer": "w/a",
    "expires_at": None,
    "key": "k",
    "value": {"n": 1},
}


def test_an_entry_reads_as_a_dict_and_by_attributes() -> None:
    entry: Entry = Entry(ENTRY)
    assert entry == ENTRY
    assert json.loads(json.dumps(entry)) == ENTRY
    assert repr(entry) == repr(ENTRY)
    assert entry["value"] is entry.value
    assert {name: getattr(entry, name) for name in ENTRY} == ENTRY


@pytest.mark.parametrize(
    "kind", [Entry, Change, Reset, WriteResult, TxnResult, ChangePage, Validation]
)
def test_a_member_that_is_not_there_is_none_or_empty(kind: type[dict[str, Any]]) -> None:
    record = kind()
    documented = [
        name for name in dir(kind) if not hasattr(dict, name) and not name.startswith("_")
    ]
    for name in documented:
        assert getattr(record, name) in (None, "", 0, False, True, [], "value", "set", "reset")
    with pytest.raises(AttributeError):
        getattr(record, "nonsense")  # noqa: B009 - a name that no type checker would let pass


def test_records_do_not_pretend_that_assigning_writes() -> None:
    entry: Any = Entry(ENTRY)
    for name in ("value", "revision", "new"):
        with pytest.raises(AttributeError):
            setattr(entry, name, 1)


def test_records_can_be_copied_and_pickled() -> None:
    entry: Entry = Entry(ENTRY)
    for twin in (pickle.loads(pickle.dumps(entry)), copy.deepcopy(entry)):
        assert type(twin) is Entry
        assert twin == entry


def test_a_change_without_its_value_differs_from_one_to_null() -> None:
    assert Change(event="value", key="k").value is None
    assert "value" not in Change(event="value", key="k")
    assert "value" in Change(event="value", key="k", value=None)


def test_results_hold_records() -> None:
    page = ChangePage(changes=[{"key": "k", "revision": 3}], cursor="a-3", more=True)
    assert [type(change) for change in page.changes] == [Change]
    assert (page.changes[0].revision, page.cursor, page.more) == (3, "a-3", True)
    assert TxnResult(branch="then").succeeded
    assert not TxnResult(branch="else").succeeded
    assert Validation(valid=False, errors=[{"path": "/"}]).errors == [{"path": "/"}]
