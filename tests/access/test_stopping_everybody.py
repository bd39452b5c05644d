"""What one caller sends does not stop the others (issue kinds: names, numbers, schemas, patterns).

The measure is the processor time for which the event loop is held at once, so that a busy machine does no harm.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from memx_server.domain.schema.cost import cost_of
from memx_server.domain.schema.schema import Schema
from memx_server.domain.values import check_exact, check_value, nests_deeper_than
from memx_server.settings import Limits

from memx_sdk.protocol.errors import ProtocolError
from tests.access.loop_watch import watched_loop
from tests.access.slowness import processor_seconds
from tests.feed.sockets import multiplexed
from tests.server.conftest import Api, client
from tests.support.memx_server import Served

MIB = 1024 * 1024


# Requests: every text takes time in proportion to its length.


def _list_of(part: bytes) -> Callable[[int], bytes]:
    return lambda length: b"[%b]" % b",".join([part] * (length // (len(part) + 1)))


def _names(length: int, twice: str = "") -> bytes:
    names = b",".join(b'"%06d":1' % n for n in range(length // 11))
    return b"{%b%b}" % (names, twice.encode())


TEXTS: dict[str, Callable[[int], bytes]] = {
    "a name twice": lambda length: _names(length, ',"000001":1'),
    "the last name twice": lambda length: _names(length, f',"{length // 11 - 1:06d}":1'),
    "a name twice, escaped": lambda length: _names(length, r',"\u003000001":1'),
    "large exponents": _list_of(b"1e308"),
    "small exponents": _list_of(b"1e-308"),
    "too large an exponent": lambda length: _list_of(b"1e308")(length)[:-1] + b",1e999]",
    "long integers": _list_of(b"9" * 300),
    "too long integers": _list_of(b"9" * 4000),
    "long fractions": _list_of(b"0." + b"1234567" * 100),
    "one long number": lambda length: b"[0." + b"1" * length + b"]",
    "lists": _list_of(b"[]"),
    "objects": _list_of(b'{"a": 1}'),
    "objects and an escape": lambda length: b'["\\n",' + _list_of(b'{"a": 1}')(length)[1:],
    "deep lists": _list_of(b"[" * 60 + b"]" * 60),
    "too deep lists": _list_of(b"[" * 500 + b"]" * 500),
    "deep objects": _list_of(b'{"a":' * 40 + b"1" + b"}" * 40),
    "a comb": lambda length: b"[" * 50 + _list_of(b"[[[[]]]]")(length) + b"]" * 50,
    "escapes": lambda length: b'"' + b"\\n" * (length // 2) + b'"',
    "quotes": _list_of(b'""'),
    "spaces": lambda length: b"[" + b" " * length + b"x]",
}
SHARES = (MIB // 4, MIB // 2, MIB)


def _read(text: bytes) -> None:
    try:
        check_exact(text)
        check_value(text, Limits())
    except ProtocolError:
        pass


@pytest.mark.parametrize("kind", TEXTS)
def test_reading_takes_time_in_proportion_to_the_length(kind: str) -> None:
    took = []
    for length in SHARES:
        text = TEXTS[kind](length)
        took.append(min(processor_seconds(lambda text=text: _read(text)) for _ in range(3)))  # type: ignore[misc]  # mypy cannot infer a default's type
    # Four times as much in four times the time, and as much again for what a processor's caches do to it.
    assert took[2] < 8 * took[0] + 0.005, [f"{each * 1e3:.1f} ms" for each in took]


@pytest.mark.parametrize("kind", TEXTS)
def test_a_request_of_the_largest_size_holds_nobody_up(served: Served, kind: str) -> None:
    body = b'{"key":"k","value":%b}' % TEXTS[kind](MIB - 100)
    with client(served, served.fresh_key()) as api, watched_loop(served):
        answer = api.http.post("/set", content=body, headers={"content-type": "application/json"})
    assert answer.status_code in (200, 400, 413), answer.text[:300]
    if "twice" in kind:
        assert answer.status_code == 400
        assert "comes twice" in answer.json()["detail"]


@pytest.mark.parametrize("is_frame", [False, True])
async def test_a_repeated_name_is_found_at_once_by_whoever_sends_it(
    served: Served, is_frame: bool
) -> None:
    members = ",".join(f'"name{n}":1' for n in range(20_000))
    value = "{" + members + ',"name7":1}'
    reader = served.fresh_key(write=())
    if is_frame:
        async with multiplexed(served, key=reader) as socket:
            with watched_loop(served):
                await socket.connection.send(f'{{"id":1,"op":"set","key":"k","value":{value}}}')
                refused = (await socket.until(id=1))[-1]
    else:
        with client(served, reader) as api, watched_loop(served):
            refused = api.raw("/set", f'{{"key":"k","value":{value}}}'.encode(), 400)
    assert (refused["error"], refused["field"]) == ("invalid_json", "name7")


@pytest.mark.parametrize("levels", [0, 3, 40, 64, 65, 500])
def test_depth_is_measured_whatever_lies_beside(levels: int) -> None:
    deep = b"[" * levels + b"1" + b"]" * levels
    text = b"[" + b",".join([b"[]", b'{"a":[[]]}', b'"]]]"', deep, b"[[]]"] * 10) + b"]"
    assert nests_deeper_than(64, text) == (levels + 1 > 64)


# Schemas: what may be exponential is never used on the event loop.


def _chain(levels: int, reference: Callable[[int], str]) -> dict[str, Any]:
    """Definitions of which each demands the next one twice."""
    definitions: dict[str, Any] = {
        f"{n}": {"allOf": [{"$ref": reference(n + 1)}, {"$ref": reference(n + 1)}]}
        for n in range(levels)
    }
    definitions[f"{levels}"] = {"type": "string"}
    return definitions


def plain_chain(levels: int) -> dict[str, Any]:
    return {"$defs": _chain(levels, lambda n: f"#/$defs/{n}"), "$ref": "#/$defs/0"}


def in_a_property(levels: int, name: str) -> dict[str, Any]:
    chain = _chain(levels, lambda n: f"#/$defs/{n}")
    return {"$defs": chain, "properties": {name: {"$ref": "#/$defs/0"}}}


def in_a_dependency(levels: int, name: str) -> dict[str, Any]:
    chain = _chain(levels, lambda n: f"#/$defs/{n}")
    return {"$defs": chain, "dependentSchemas": {name: {"$ref": "#/$defs/0"}}}


def pointing_into_a_property(levels: int) -> dict[str, Any]:
    chain = _chain(levels, lambda n: f"#/properties/definitions/properties/{n}")
    return {
        "properties": {"definitions": {"properties": chain}},
        "$ref": "#/properties/definitions/properties/0",
    }


def with_an_id(levels: int) -> dict[str, Any]:
    inner = {"$id": "http://example.com/inner", **plain_chain(levels)}
    harmless = {f"{n}": {"type": "string"} for n in range(levels + 1)}
    return {"$defs": {**harmless, "inner": inner}, "properties": {"a": inner}, "allOf": [inner]}


def with_escapes(levels: int) -> dict[str, Any]:
    definitions = {
        **{f"%68{n}": {"type": "string"} for n in range(levels + 1)},
        **{
            f"h{n}": part
            for n, part in enumerate(_chain(levels, lambda n: f"#/$defs/%68{n}").values())
        },
    }
    return {"$defs": definitions, "$ref": "#/$defs/%680"}


def with_anchors(levels: int) -> dict[str, Any]:
    chain = _chain(levels, lambda n: f"#a{n}")
    return {"$defs": {n: {"$anchor": f"a{n}", **part} for n, part in chain.items()}, "$ref": "#a0"}


_EVERYWHERE = dict.fromkeys(("a", "definitions", "$defs"), "text")
"""Meets the definitions wherever they are hidden."""

HIDDEN: dict[str, Callable[[int], dict[str, Any]]] = {
    "plain": plain_chain,
    "in a property called definitions": lambda levels: in_a_property(levels, "definitions"),
    "in a property called $defs": lambda levels: in_a_property(levels, "$defs"),
    "in a member of dependentSchemas": lambda levels: in_a_dependency(levels, "definitions"),
    "by pointers into a property": pointing_into_a_property,
    "under an $id": with_an_id,
    "by percent escapes": with_escapes,
    "by anchors": with_anchors,
}


@pytest.mark.parametrize("levels", [26])
@pytest.mark.parametrize("kind", HIDDEN)
def test_doubling_definitions_hold_nobody_up(served: Served, kind: str, levels: int) -> None:
    schema = HIDDEN[kind](levels)
    with client(served, served.fresh_key()) as api, watched_loop(served):
        answers = [
            api.http.post("/schema", json={"key": "k", "schema": schema}),
            api.http.post("/set", json={"key": "k", "value": "text"}),
            api.http.post("/set", json={"key": "k", "value": _EVERYWHERE}),
        ]
        assert api.set("other", 1)["ok"]
    assert all(each.status_code in (200, 400, 413) for each in answers), [
        each.text for each in answers
    ]


@pytest.mark.parametrize("kind", HIDDEN)
def test_doubling_definitions_are_never_weighed_as_cheap(kind: str) -> None:
    assert Schema("k", json.dumps(HIDDEN[kind](16)).encode())._cost is None


CHEAP_LOOKING: dict[str, tuple[Any, Any]] = {
    "contains": ({"contains": {"anyOf": [{"const": n} for n in range(200)]}}, [7] * 3299 + [300]),
    "contains none": ({"contains": {"anyOf": [{"const": n} for n in range(200)]}}, [999] * 1650),
    "choices of items": ({"items": {"anyOf": [{"const": n} for n in range(200)]}}, [999] * 1650),
    "enum of objects": ({"items": {"enum": [{"a": n} for n in range(200)]}}, [{"a": 199}] * 1650),
    "names required": ({"items": {"required": [f"a{n}" for n in range(100)]}}, [{}] * 5000),
    "nested lists": (
        {"items": {"anyOf": [{"items": {"anyOf": [{"type": "string"}] * 20}}] * 20}},
        [[1] * 50] * 50,
    ),
    "fractions": ({"items": {"multipleOf": 1e-300}}, [1e300] * 5000),
    "long integers": ({"items": {"minimum": 10**300}}, [10**300] * 3000),
    "unique": (
        {"uniqueItems": True, "items": {"uniqueItems": True}},
        [[[n, m] for n in range(15)] for m in range(900)],
    ),
    "patterns of names": (
        {"patternProperties": {f"^(a|b|ab)*{n}$": {"type": "null"} for n in range(100)}},
        {"ab" * 40 + str(n): None for n in range(300)},
    ),
    "wide pattern": ({"pattern": "(\\w{1,30}){1,30}x"}, "aé" * 10_000),
}


@pytest.mark.parametrize("kind", CHEAP_LOOKING)
@pytest.mark.parametrize("is_wrong", [False, True])
def test_what_looks_cheap_holds_nobody_up(served: Served, kind: str, is_wrong: bool) -> None:
    schema, value = CHEAP_LOOKING[kind]
    if is_wrong:
        schema = {
            "allOf": [schema, {"items": False, "additionalProperties": False, "maxLength": 1}]
        }
    with client(served, served.fresh_key()) as api:
        api.post("/schema", {"key": "k", "schema": schema})
        with watched_loop(served):
            for _ in range(3):
                answer = api.http.post("/set", json={"key": "k", "value": value})
    assert answer.status_code in (200, 400, 413), answer.text[:300]


PERSON = {
    "$defs": {
        "Address": {
            "properties": {
                "street": {"title": "Street", "type": "string"},
                "zip": {"maxLength": 10, "pattern": "^[0-9]{5}$", "type": "string"},
            },
            "required": ["street"],
            "title": "Address",
            "type": "object",
        },
        "Mood": {"enum": ["good", "bad"], "title": "Mood", "type": "string"},
    },
    "properties": {
        "name": {"type": "string"},
        "age": {"anyOf": [{"minimum": 0, "type": "integer"}, {"type": "null"}], "default": None},
        "mood": {"$ref": "#/$defs/Mood", "default": "good"},
        "home": {"anyOf": [{"$ref": "#/$defs/Address"}, {"type": "null"}]},
        "addresses": {"items": {"$ref": "#/$defs/Address"}, "type": "array"},
        "tags": {"additionalProperties": {"type": "string"}, "type": "object"},
    },
    "required": ["name", "home"],
    "title": "Person",
    "type": "object",
}
"""As pydantic writes it for models that hold each other."""


def test_the_schemas_that_pydantic_makes_stay_on_the_event_loop() -> None:
    schema = Schema("k", json.dumps(PERSON).encode())
    address = {"street": "Main Street 1", "zip": "12345"}
    person = {
        "name": "Ann",
        "age": 7,
        "home": address,
        "addresses": [address] * 20,
        "tags": {"a": "b"},
    }
    assert schema.violations_at_once(json.dumps(person).encode()) == []
    assert schema.is_instant_with(json.dumps(person).encode())
    (violation,) = schema.violations_at_once(b'{"name":"Ann","home":{"zip":"12345"}}') or []
    assert violation["path"] == "/home"


@pytest.mark.parametrize(
    "schema",
    [
        {"$dynamicRef": "#a"},
        {"$recursiveRef": "#"},
        {"$ref": "#"},
        {"$ref": "#/$defs/none"},
        {"$ref": "#/$defs/a/allOf/0", "$defs": {"a": {"allOf": [True]}}},
        {"$ref": "#/$defs/a~1b", "$defs": {"a/b": True}},
        {"$id": "http://example.com/", "$ref": "#/$defs/a", "$defs": {"a": True}},
        {"properties": {"a": {"$id": "b"}}},
        {"properties": {"a": {"$defs": {}}}},
        {"unevaluatedProperties": False},
        {"dependentSchemas": {}},
        {"dependencies": {}},
        {"multipleOf": 0.1},
        {"minimum": 10**500},
        {"pattern": "(?i)k{50}"},
        {"contentMediaType": "application/json"},
        {"x-unknown": 1},
    ],
)
def test_what_is_not_surely_cheap_is_not_plain(schema: Any) -> None:
    assert cost_of(json.dumps(schema).encode()) is None


def test_what_the_store_holds_from_other_rules_is_weighed_anew(served: Served) -> None:
    """A schema that this server would not have taken is validated in a process, refused in time, and removed."""
    with client(served, served.fresh_key()) as api:
        space = api.get("/whoami")["space"]
        api.post("/schema", {"key": "k", "schema": True})
        api.set("k", 1)
        known = served.app.services.schemas.cached(space)
        assert known is not None
        assert known.revision
        known.by_pattern["k"] = json.dumps(plain_chain(60)).encode()
        known._compiled.clear()
        with watched_loop(served):
            refused = api.post("/set", {"key": "k", "value": "text"}, 413)
            assert refused["limit"] == "validation_deadline"
            assert api.set("other", 1)["ok"]
        assert api.delete("/schema", key="k")["ok"]
        assert api.set("k", "text")["ok"]


# Patterns: a thousand of them, made to be slow, cost a write some milliseconds.


def hostile_patterns() -> Iterator[str]:
    for n in range(1000):
        stars, tail = n % 12 + 1, n // 12 + 1
        yield "aa" + "*a" * stars + "*b" + "*" + "a" * tail


async def test_a_thousand_hostile_subscriptions_cost_others_nothing(served: Served) -> None:
    key = served.fresh_key()
    async with multiplexed(served, key=key) as socket:
        wanted = list(dict.fromkeys(hostile_patterns()))
        for number, pattern in enumerate(wanted):
            await socket.connection.send(
                json.dumps({"id": number, "op": "subscribe", "pattern": pattern})
            )
        answers = [frame for frame in await socket.until(id=len(wanted) - 1) if "ok" in frame]
        assert all(each["ok"] for each in answers)
        with client(served, key) as api, watched_loop(served, 0.05):
            for n in range(10):
                api.set("a" * (500 + n), n)
            operations = [{"op": "set", "key": f"{'a' * 500}{n}", "value": 1} for n in range(128)]
            api.post("/txn", {"then": operations})
            api.set("a" * 14 + "b" + "a" * 90, "seen")  # and what they ask for they get
        frames = await socket.until(event="value")
        assert frames[-1]["value"] == "seen"


async def test_further_costly_subscriptions_are_refused(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("memx_server.domain.feed.index._MOST_COST", 10)
    async with multiplexed(served, key=served.fresh_key()) as socket:
        for number in range(12):
            await socket.connection.send(
                json.dumps({"id": number, "op": "subscribe", "pattern": f"*a{number}*"})
            )
        await socket.connection.send(json.dumps({"id": 12, "op": "subscribe", "pattern": "a*b"}))
        answers = {each["id"]: each for each in await socket.until(id=12) if "id" in each}
    assert [number for number, each in answers.items() if not each["ok"]] == [10, 11]
    assert answers[10]["error"] == "quota_exceeded"


def test_schemas_of_hostile_patterns_hold_nobody_up(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("memx_server.domain.schema.cache._MOST_COST", 60)
    with client(served, served.fresh_key()) as api:
        refused = []
        for pattern in list(hostile_patterns())[:60]:
            answer = api.http.post("/schema", json={"key": pattern, "schema": {"type": "integer"}})
            refused += [answer.json()["error"]] if answer.status_code != 200 else []
        assert set(refused) == {"quota_exceeded"}
        with watched_loop(served, 0.05):
            operations = [{"op": "set", "key": f"{'a' * 500}{n}", "value": 1} for n in range(128)]
            api.post("/txn", {"then": operations})


@pytest.mark.parametrize("pattern", ["*a" * 100, "*" + "[ab]" * 50 + "*", "*" + "a?" * 20 + "b*"])
def test_a_pattern_that_would_be_slow_is_refused_with_what_to_mend(api: Api, pattern: str) -> None:
    refused = api.get("/keys", 400, pattern=pattern)
    assert refused["error"] == "invalid_pattern"
    assert "limit is" in refused["detail"]
    assert api.post("/schema", {"key": pattern, "schema": True}, 400)["error"] == "invalid_pattern"


@pytest.fixture
def api(served: Served) -> Iterator[Api]:
    """A client that may do everything in a space of its own."""
    with client(served, served.fresh_key()) as found:
        yield found
