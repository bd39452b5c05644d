"""What a site of the growth benchmark holds, and what it is asked for."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from benchmarks.growth import growths, memory_note
from benchmarks.growth_site import VALUE, Shape, Site
from benchmarks.growth_traffic import traffic
from benchmarks.servers import API_KEY, Server


def _bodies(shape: Shape) -> list[dict[str, Any]]:
    return [json.loads(request.partition(b"\r\n\r\n")[2]) for request in shape.filling()]


def test_every_key_is_written_as_often_as_the_log_is_to_be_long() -> None:
    shape = Shape(keys=1000, writes=2560)
    written = Counter(each["key"] for body in _bodies(shape) for each in body["then"])
    assert {*written} == {shape.key(number) for number in range(1000)}
    assert sum(written.values()) == 2560
    assert {each["value"]["text"] for body in _bodies(shape) for each in body["then"]} == {
        VALUE["text"]
    }


def test_the_keys_of_many_api_keys_are_each_written_under_their_own() -> None:
    shape = Shape(keys=4, api_keys=4, spaces=2)
    requests = list(shape.filling())
    assert [shape.api_key(number).encode() in requests[number] for number in range(4)] == [True] * 4
    assert [each["key"] for each in _bodies(shape)] == [shape.key(number) for number in range(4)]
    assert [grant["space"] for grant in shape.acl().values()] == ["space-0", "space-1"] * 2
    assert next(iter(shape.acl())) == API_KEY


def test_each_schema_governs_a_family_of_keys() -> None:
    shape = Shape(keys=10, schemas=5)
    assert len(list(shape.registering())) == 5
    assert Counter(shape.key(number).split(":")[1] for number in range(10)) == Counter("0123401234")


def test_both_sizes_are_asked_by_the_same_script_but_for_the_numbers() -> None:
    for growth in growths(quick=True):
        small, large = (traffic(growth.shape(size), "set").script for size in growth.sizes)
        assert _without_digits(small) == _without_digits(large)
        assert f'"text":"{VALUE["text"]}"' in small


def test_what_one_more_takes_is_told_from_the_difference() -> None:
    server = Server("http://127.0.0.1:1", ())
    small, large = Site(Shape(), server, 1000, 500), Site(Shape(), server, 900, 10_500)
    assert memory_note(100, small, large) == "each takes 0 B in the server, 100 B in Redis"


def _without_digits(text: str) -> str:
    return "".join(character for character in text if not character.isdigit())
