"""A client for the tests that look at the wire, with a space of its own for each."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.support.memx_server import Served


class Api:
    """A client of one API key, for tests that look at the wire."""

    def __init__(self, http: httpx.Client) -> None:
        self.http = http

    def call(self, method: str, path: str, expect: int = 200, **options: Any) -> Any:
        """Make a request, check its status and form, return the decoded answer."""
        answer = self.http.request(method, path, **options)
        assert answer.status_code == expect, (answer.status_code, answer.text)
        assert answer.headers["content-type"] == "application/json"
        body = answer.json()
        if expect >= 400:
            assert isinstance(body["error"], str)
            assert isinstance(body["detail"], str)
        return body

    def get(self, path: str, expect: int = 200, /, **query: Any) -> Any:
        return self.call("GET", path, expect, params=query)

    def post(self, path: str, body: Any, expect: int = 200, **headers: str) -> Any:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.call("POST", path, expect, json=body, headers=named)

    def raw(self, path: str, body: bytes, expect: int = 200) -> Any:
        return self.call(
            "POST", path, expect, content=body, headers={"content-type": "application/json"}
        )

    def delete(self, path: str, expect: int = 200, /, **query: Any) -> Any:
        return self.call("DELETE", path, expect, params=query)

    def set(self, key: str, value: Any, **options: Any) -> Any:
        return self.post("/set", {"key": key, "value": value, **options})

    def text(self, path: str, **query: Any) -> str:
        """The answer as it came."""
        return self.http.get(path, params=query).text


@pytest.fixture
def api(served: Served) -> Iterator[Api]:
    """A client that may do everything in a space of its own."""
    with client(served, served.fresh_key()) as found:
        yield found


class client:  # noqa: N801 - used as a function is
    """Open a client for an API key: ``with client(served, key) as api``."""

    def __init__(self, served: Served, api_key: str, **headers: str) -> None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        # Without `verify` each client would load the machine's certificates, which takes longer
        # than most tests.
        self._http = httpx.Client(
            base_url=served.url,
            headers={"x-api-key": api_key, **named},
            timeout=15,
            verify=False,
        )

    def __enter__(self) -> Api:
        return Api(self._http)

    def __exit__(self, *_: object) -> None:
        self._http.close()


def compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))
