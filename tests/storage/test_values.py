"""Promise 8: values come back byte for byte, whatever the texts around them hold."""

from __future__ import annotations

import json

from memx_server.storage.base import Compare, Put, PutSchema, Store, Touch, Transaction
from memx_server.storage.encoding import decode_entry

from tests.storage.helpers import (
    SPACE,
    Listener,
    changes_of,
    commit,
    commit_one,
    refused,
    seen,
    summary,
    whole_log,
)

TEXTS = [
    b"null",
    b"true",
    b"[]",
    b"{}",
    b"[[],{},[{}]]",
    b'{"a":[],"b":{}}',
    b"0",
    b"-0",
    b"-0.0",
    b"1.10",
    b"1.0",
    b"1e5",
    b"1E+05",
    b"9007199254740993",
    b"-123456789012345678901234567890",
    b"0.1000000000000000055511151231257827",
    b"3.141592653589793238462643383279502884197",
    b'""',
    b'"\\u0000"',
    b'"\\ud83d\\ude00"',
    '"\N{GRINNING FACE} ключ 键"'.encode(),
    b'"\\/ \\b\\f\\n\\r\\t \\" \\\\"',
    b'"%d %s %1 %%"',
    b'"]]>,\\"value\\":1}"',
    b' {"spaced" : [ 1 , 2 ] } ',
    b'{"z":1,"a":2,"\\u0061b":3}',
    b"[" * 64 + b"]" * 64,
    b'{"expires_at":null,"key":"x","value":7}',
]

KEYS = [
    "a",
    "a:b/c",
    "{a}",
    "}{",
    "100%",
    "%1%d%s",
    'quote"d',
    "back\\slash",
    "\\",
    "'; DROP TABLE entries; --",
    "ключ",
    "键:\N{GRINNING FACE}",
    " leading and trailing ",
    "x" * 512,
    "я" * 256,
    "set:value",
    "-",
    "+inf",
    "0",
    "$^.()",
]

WRITERS = ["", "w", 'a"b', "back\\slash", "ключ/\N{GRINNING FACE}", 'x","expires_at":1,"key":"y']

REASONS = [
    "",
    "why",
    'because "so"',
    "line\nbreak\ttab",
    "\x00\x1f\x7f",
    "\N{GRINNING FACE} ключ",
    "</script>",
]


async def test_a_value_comes_back_byte_for_byte_everywhere(store: Store) -> None:
    for number, text in enumerate(TEXTS):
        await check_value(store, text, space=f"space {number}")


async def check_value(store: Store, text: bytes, space: str) -> None:
    listener = Listener()
    stop = await store.tail(space, listener)
    committed = await commit(store, Put("k", text, ttl_ms=60_000), space=space)
    await listener.heard(committed.position.revision)
    await stop()

    (found,) = await store.read(space, ["k"])
    listed = (await store.list(space)).entries[0][1]
    conflict = await refused(store, compares=[Compare("k", 0)], space=space)

    assert found == listed == conflict.entry
    assert found is not None
    assert found.endswith(b',"key":"k","value":' + text + b"}")
    (change,) = changes_of(await whole_log(store, space=space))
    assert change.data.endswith(b',"value":' + text + b"}")
    assert list((await store.history(space, "k", 1)).changes) == [change]
    assert listener.changes == [change]


async def test_any_key_keeps_its_name(store: Store) -> None:
    for number, key in enumerate(KEYS):
        await check_key(store, key, space=f"space {number}")


async def check_key(store: Store, key: str, space: str) -> None:
    await commit(store, Put(key, b"1"), PutSchema(key, b"{}"), space=space)
    await commit(store, Put(key, b"2", ttl_ms=60_000), space=space)
    await commit(store, Put(key, b"3", keep_expiry=True), space=space)

    (found,) = await store.read(space, [key])
    assert found is not None
    assert decode_entry(found).key == key
    assert (await refused(store, compares=[Compare(key, 0)], space=space)).key == key
    assert [name for name, _ in (await store.list(space)).entries] == [key]
    assert list((await store.schemas(space)).by_pattern) == [key]
    changes = changes_of(await whole_log(store, space=space))
    assert summary(changes) == [("set", key), ("schema", key), ("set", key), ("set", key)]
    assert {seen(change)["key"] for change in changes} == {key}
    history = (await store.history(space, key, 100)).changes
    assert [change for change in changes if change.action != "schema"] == list(history)[::-1]


async def test_an_expired_key_of_any_name_is_logged_under_it(store: Store) -> None:
    listener = Listener()
    stop = await store.tail(SPACE, listener)
    await commit(store, *(Put(key, b"1", ttl_ms=20) for key in KEYS))

    def expired() -> set[str]:
        return {seen(change)["key"] for change in listener.changes if change.action == "expire"}

    await listener.until(lambda: expired() == set(KEYS))
    await stop()


async def test_any_writer_is_told_as_written(store: Store) -> None:
    for writer in WRITERS:
        await commit_one(store, writer, Transaction(writer, [Put("k", b"1", ttl_ms=60_000)]))
        await commit_one(store, writer, Transaction(writer, [PutSchema("k", b"{}")]))
        await commit_one(store, writer, Transaction("another", [Touch("k", 30_000)]))

        (text,) = await store.read(writer, ["k"])
        assert text is not None
        assert json.loads(text)["writer"] == writer
        changes = changes_of(await whole_log(store, space=writer))
        assert [seen(change)["writer"] for change in changes] == [writer] * 2


async def test_any_reason_is_told_as_given(store: Store) -> None:
    for reason in REASONS:
        await commit(store, Put("k", b"1", reason=reason))

    changes = changes_of(await whole_log(store))
    assert [seen(change)["reason"] for change in changes] == REASONS


async def test_a_value_of_the_greatest_size_comes_back(store: Store) -> None:
    text = json.dumps("\N{GRINNING FACE}" * 200_000, ensure_ascii=False).encode()[: 2**20]
    text = text.decode(errors="ignore").rstrip('"').encode() + b'"'

    await commit(store, Put("big", text))

    (found,) = await store.read(SPACE, ["big"])
    assert found is not None
    assert found.endswith(text + b"}")
    (change,) = changes_of(await whole_log(store))
    assert change.data.endswith(text + b"}")


async def test_a_schema_comes_back_byte_for_byte(store: Store) -> None:
    text = b'{"const": 1.10, "enum": [], "pattern": "\\\\d", "maximum": 123456789012345678901}'
    await commit(store, PutSchema("k*", text))

    assert (await store.schemas(SPACE)).by_pattern == {"k*": text}
    (change,) = changes_of(await whole_log(store))
    assert change.data.endswith(b',"schema":' + text + b"}")
