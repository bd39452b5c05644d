"""The server's answers to holders of durable subscriptions, on each store."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from tests.support.memx_server import Served

HOLDERS = ("holder-one", "holder-two")


class Client:
    """Speaks plain HTTP."""

    def __init__(self, served: Served, key: str | None = None) -> None:
        headers = {"x-api-key": key or served.api_key, "x-memx-agent": "critic"}
        self._http = httpx.Client(base_url=served.url, headers=headers)

    def post(self, what: str, **body: Any) -> tuple[int, dict[str, Any]]:
        answer = self._http.post(f"/durable/{what}", json=body)
        return answer.status_code, answer.json()

    def forget(self, name: str) -> bool:
        return bool(self._http.delete("/durable", params={"name": name}).json()["forgotten"])

    def listed(self) -> list[dict[str, Any]]:
        return list(self._http.get("/durable").json()["durable"])


def test_a_name_is_handed_from_holder_to_holder(server: Served) -> None:
    client = Client(server)
    one, two = HOLDERS

    assert client.post("claim", name="n", holder=one) == (
        200,
        {"ok": True, "name": "n", "cursor": None},
    )
    assert client.post("ack", name="n", holder=one, cursor="abc-5")[0] == 200
    assert client.post("claim", name="n", holder=two)[1]["cursor"] == "abc-5"

    status, refusal = client.post("ack", name="n", holder=one, cursor="abc-6")
    assert (status, refusal["error"], refusal["agent"]) == (409, "taken_over", "critic")
    assert client.post("ack", name="n", holder=one)[0] == 409
    assert client.post("ack", name="n", holder=two)[0] == 200
    assert client.post("claim", name="n", holder=two)[1]["cursor"] == "abc-5"


def test_a_cursor_never_moves_back_within_a_history(server: Served) -> None:
    client, one = Client(server), HOLDERS[0]
    client.post("claim", name="n", holder=one)
    for given, kept in (("abc-5", "abc-5"), ("abc-4", "abc-5"), ("def-1", "def-1")):
        assert client.post("ack", name="n", holder=one, cursor=given)[0] == 200
        assert client.listed()[0]["cursor"] == kept


def test_releasing_keeps_the_cursor_and_only_the_holder_can(server: Served) -> None:
    client = Client(server)
    one, two = HOLDERS
    client.post("claim", name="n", holder=one)
    client.post("ack", name="n", holder=one, cursor="abc-5")

    assert client.post("release", name="n", holder=two)[0] == 200
    assert client.listed()[0]["held"] is True
    assert client.post("release", name="n", holder=one)[0] == 200
    (record,) = client.listed()
    assert (record["name"], record["held"], record["cursor"]) == ("n", False, "abc-5")
    assert record["agent"] == "critic"
    assert record["claimed_at"] <= record["acked_at"]


def test_a_forgotten_name_is_gone_but_its_holder_goes_on(server: Served) -> None:
    client, one = Client(server), HOLDERS[0]
    client.post("claim", name="n", holder=one)

    assert client.forget("n")
    assert not client.forget("n")
    assert client.listed() == []
    assert client.post("ack", name="n", holder=one, cursor="abc-7")[0] == 200
    assert client.listed()[0]["cursor"] == "abc-7"


def test_names_are_private_to_a_principal_and_a_space(server: Served) -> None:
    one, two = HOLDERS
    clients = [
        Client(server),
        Client(server, server.keys.add(agent="another")),
        Client(server, server.fresh_key()),
    ]
    for client in clients:
        assert client.post("claim", name="n", holder=one)[1]["cursor"] is None
        client.post("ack", name="n", holder=one, cursor="abc-5")
    assert clients[0].post("claim", name="n", holder=two)[0] == 200
    for client in clients[1:]:
        assert client.post("ack", name="n", holder=one, cursor="abc-6")[0] == 200


async def test_of_many_who_claim_at_once_one_holds(server: Served) -> None:
    client = Client(server)
    holders = [f"holder-{number}" for number in range(6)]

    claims = [asyncio.to_thread(client.post, "claim", name="n", holder=each) for each in holders]
    assert {status for status, _ in await asyncio.gather(*claims)} == {200}

    kept = [client.post("ack", name="n", holder=each)[0] for each in holders]
    assert sorted(kept) == [200, 409, 409, 409, 409, 409]


@pytest.mark.parametrize(
    ("what", "body", "code"),
    [
        ("claim", {"name": "", "holder": "holder-one"}, "invalid_request"),
        ("claim", {"name": "x" * 601, "holder": "holder-one"}, "invalid_request"),
        ("claim", {"name": "n", "holder": "short"}, "invalid_request"),
        ("claim", {"name": "n"}, "invalid_request"),
        ("claim", {"name": "n", "holder": "holder-one", "more": 1}, "invalid_request"),
        ("ack", {"name": "n", "holder": "holder-one", "cursor": "no cursor"}, "invalid_cursor"),
        ("ack", {"name": 3, "holder": "holder-one"}, "invalid_request"),
    ],
)
def test_what_cannot_be_is_refused(
    server: Served, what: str, body: dict[str, Any], code: str
) -> None:
    status, refusal = Client(server).post(what, **body)

    assert (status, refusal["error"]) == (400, code)


def test_there_is_a_limit_to_names(server: Served) -> None:
    server.app.services.durable._most_names = 2
    client, one = Client(server), HOLDERS[0]
    assert client.post("claim", name="a", holder=one)[0] == 200
    assert client.post("claim", name="b", holder=one)[0] == 200

    status, refusal = client.post("claim", name="c", holder=one)
    assert (status, refusal["error"], refusal["limit"]) == (409, "quota_exceeded", "durable_names")
    assert client.post("ack", name="d", holder=one)[0] == 409  # which would make it, too
    assert client.post("claim", name="b", holder=one)[0] == 200
    assert client.forget("a")
    assert client.post("claim", name="c", holder=one)[0] == 200
