"""Tokens of an OAuth issuer at ``/mcp``: whom they name, and what they do not open."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import httpx2
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client
from memx_server.app import create_app
from memx_server.auth import oauth_issuer
from memx_server.settings import OAuthSettings, Settings
from memx_server.storage.sqlite import SqliteStore
from starlette.types import Receive, Scope, Send

from tests.mcp.test_mounted import ACCEPT, INITIALIZE
from tests.support.memx_server import running_app

RESOURCE = "https://memx.test/team/mcp"

Sign = Callable[..., str]


class Issuer:
    """An OAuth issuer that serves its metadata and keys."""

    def __init__(self) -> None:
        self.url = ""
        self.private: dict[str, Any] = {
            "one": rsa.generate_private_key(65537, 2048),
            "two": ec.generate_private_key(ec.SECP256R1()),
        }
        self.named_issuer: str | None = None

    def sign(self, *, key: str = "one", algorithm: str | None = None, **claims: Any) -> str:
        """Make a token; claims that are None are left out."""
        now = time.time()
        said = {"iss": self.url, "aud": RESOURCE, "exp": now + 600, "iat": now, "sub": "alice"}
        said = {name: claim for name, claim in {**said, **claims}.items() if claim is not None}
        private = self.private[key]
        algorithm = algorithm or ("RS256" if isinstance(private, rsa.RSAPrivateKey) else "ES256")
        return jwt.encode(said, private, algorithm=algorithm, headers={"kid": key})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        answers = {
            "/.well-known/oauth-authorization-server": {
                "issuer": self.named_issuer or self.url,
                "jwks_uri": f"{self.url}/keys",
            },
            "/keys": {"keys": [self._public(name) for name in self.private]},
        }
        found = answers.get(scope["path"])
        status = 404 if found is None else 200
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": json.dumps(found).encode()})

    def _public(self, name: str) -> dict[str, Any]:
        public = self.private[name].public_key()
        algorithm = RSAAlgorithm if isinstance(public, rsa.RSAPublicKey) else ECAlgorithm
        return {**algorithm.to_jwk(public, as_dict=True), "kid": name, "use": "sig"}


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    made = Issuer()
    with running_app(made) as url:
        made.url = url
        yield made


@pytest.fixture(scope="module")
def url(issuer: Issuer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server that takes the issuer's tokens; its ACL names alice and an API key."""
    folder = tmp_path_factory.mktemp("memx")
    acl = folder / "acl.json"
    entries = {"oauth:alice": {"agent": "alice", "read": ["*"], "write": ["a:*"]}, "key": ["*"]}
    acl.write_text(json.dumps(entries))
    settings = Settings(acl_file=acl, oauth=OAuthSettings(issuer.url, RESOURCE))
    app = create_app(settings, store=SqliteStore(folder / "memx.db"))
    with running_app(app) as url:
        assert app.tokens is not None
        _until(lambda: app.tokens is not None and app.tokens.keys.known)
        yield url


def _until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _initialize(url: str, token: str, **headers: str) -> httpx.Response:
    return httpx.post(
        f"{url}/mcp",
        json=INITIALIZE,
        headers={**ACCEPT, "Authorization": f"Bearer {token}", **headers},
    )


@pytest.mark.parametrize("key", ["one", "two"])
async def test_a_token_acts_as_the_entry_of_whom_it_names(
    url: str, issuer: Issuer, key: str, mode: str
) -> None:
    headers = {"Authorization": f"Bearer {issuer.sign(key=key)}"}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=30) as http,
        Client(streamable_http_client(f"{url}/mcp", http_client=http), mode=mode) as client,
    ):
        assert not (await client.call_tool("memx_set", {"key": "a:1", "value": 1})).is_error
        read = await client.call_tool("memx_get", {"key": "a:1"})
        assert read.structured_content["writer"].partition("/")[0] == "alice"
        refused = await client.call_tool("memx_set", {"key": "b", "value": 1})
        assert refused.is_error  # the entry says what alice may do, the token nothing


def test_a_token_grants_nothing_by_itself(url: str, issuer: Issuer) -> None:
    answer = _initialize(url, issuer.sign(sub="mallory"))
    assert answer.status_code == 403
    assert "oauth:mallory is no entry" in answer.json()["detail"]


def test_other_tokens_are_refused(url: str, issuer: Issuer) -> None:
    stranger = Issuer()
    stranger.url = issuer.url
    public = issuer._public("one")
    good = issuer.sign()
    head, body, signature = good.split(".")
    tokens = {
        "another resource": issuer.sign(aud="https://memx.test/other"),
        "another issuer": issuer.sign(iss="https://evil.test"),
        "over": issuer.sign(exp=time.time() - 1),
        "without end": issuer.sign(exp=None),
        "without a subject": issuer.sign(sub=None),
        "without an audience": issuer.sign(aud=None),
        "not yet": issuer.sign(nbf=time.time() + 600),
        "an empty subject": issuer.sign(sub=""),
        "a subject of two lines": issuer.sign(sub="alice\nbob"),
        "another's key": stranger.sign(),
        "another algorithm": issuer.sign(algorithm="RS512"),
        "no signature": jwt.encode({"sub": "alice"}, "", algorithm="none"),
        "a public key as a secret": jwt.encode(
            {"sub": "alice"}, public["n"], algorithm="HS256", headers={"kid": "one"}
        ),
        "a changed body": f"{head}.{body[:-2]}AA.{signature}",
        "garbage": "eyJ.eyJ.eyJ",
        "too long": f"{head}.{body}{'A' * 9000}.{signature}",
    }
    for what, token in tokens.items():
        answer = _initialize(url, token)
        assert answer.status_code == 401, what
        challenge = answer.headers["www-authenticate"]
        assert 'error="invalid_token"' in challenge, what
        assert (
            'resource_metadata="https://memx.test/.well-known/oauth-protected-resource/team/mcp"'
            in challenge
        )
    assert _initialize(url, good).status_code == 200


def test_a_token_opens_mcp_alone_and_its_entry_is_no_api_key(url: str, issuer: Issuer) -> None:
    bearer = {"Authorization": f"Bearer {issuer.sign()}"}
    assert httpx.get(f"{url}/get?key=a:1", headers=bearer).status_code == 403
    for name in (b"oauth:alice", b"alice", "oauth\u2192alice".encode()):
        for header, value in ((b"x-api-key", name), (b"Authorization", b"Bearer " + name)):
            assert httpx.get(f"{url}/get?key=a:1", headers={header: value}).status_code == 403
            accept = {key.encode(): each.encode() for key, each in ACCEPT.items()}
            answer = httpx.post(f"{url}/mcp", json=INITIALIZE, headers={**accept, header: value})
            assert answer.status_code in (400, 401)
    # An API key works beside it, and decides where both come.
    assert _initialize(url, "key").status_code == 200
    assert _initialize(url, "eyJ.no.token", **{"x-api-key": "key"}).status_code == 200


def test_clients_find_the_issuer(url: str, issuer: Issuer) -> None:
    for path in ("", "/mcp", "/team/mcp"):
        answer = httpx.get(f"{url}/.well-known/oauth-protected-resource{path}")
        assert answer.json()["resource"] == RESOURCE
        assert answer.json()["authorization_servers"] == [issuer.url]
    none = httpx.post(f"{url}/mcp", json=INITIALIZE, headers=ACCEPT)
    assert none.status_code == 401
    assert "resource_metadata=" in none.headers["www-authenticate"]
    assert "error=" not in none.headers["www-authenticate"]


def test_what_a_token_opened_ends_with_it(url: str, issuer: Issuer) -> None:
    token = issuer.sign(exp=time.time() + 3)
    call = {"name": "memx_wait", "arguments": {"pattern": "never", "timeout": 40}}
    request = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call}
    headers = {**ACCEPT, "Authorization": f"Bearer {token}"}
    opened = httpx.post(f"{url}/mcp", json=INITIALIZE, headers=headers)
    headers["mcp-session-id"] = opened.headers["mcp-session-id"]
    begun = time.monotonic()
    with httpx.stream("POST", f"{url}/mcp", json=request, headers=headers, timeout=30) as answer:
        assert answer.status_code == 200
        answer.read()
    assert time.monotonic() - begun < 20
    assert _initialize(url, token).status_code == 401


def test_a_new_key_of_the_issuer_is_found(
    url: str, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(oauth_issuer, "_SOONEST", 0.0)
    issuer.private["three"] = ec.generate_private_key(ec.SECP256R1())
    token = issuer.sign(key="three")
    assert _initialize(url, token).status_code == 401  # no request waits for the issuer
    _until(lambda: _initialize(url, token).status_code == 200)
    del issuer.private["three"]


def test_keys_come_from_the_issuer_itself_alone(issuer: Issuer) -> None:
    issuer.named_issuer = "https://evil.test"
    try:
        with pytest.raises(ValueError, match="of another issuer"):
            oauth_issuer.fetch_keys(issuer.url)
    finally:
        issuer.named_issuer = None
    assert {name for _, name in oauth_issuer.fetch_keys(issuer.url)} == {"one", "two"}
    assert not oauth_issuer.is_safe("http://login.example.org/keys")
    assert not oauth_issuer.is_safe("file:///etc/passwd")


async def test_before_the_keys_are_there_the_answer_is_503(tmp_path: Path) -> None:
    settings = Settings(
        acl_file=tmp_path / "acl.json", oauth=OAuthSettings("http://127.0.0.1:9", RESOURCE)
    )
    app = create_app(settings, store=SqliteStore(tmp_path / "memx.db"))
    with running_app(app) as url:
        answer = await asyncio.to_thread(_initialize, url, Issuer().sign())
        assert answer.status_code == 503
        assert "retry-after" in answer.headers


def test_settings_that_do_not_go_together_are_refused() -> None:
    good = {"MEMX_OAUTH_ISSUER": "https://login.test", "MEMX_OAUTH_RESOURCE": RESOURCE}
    assert Settings.from_env(good).oauth == OAuthSettings("https://login.test", RESOURCE)
    for change, message in (
        ({"MEMX_OAUTH_RESOURCE": ""}, "set both"),
        ({"MEMX_OAUTH_ISSUER": "http://login.test"}, "must be like https://"),
        ({"MEMX_OAUTH_RESOURCE": "memx"}, "must be like https://"),
        ({"SUPABASE_URL": "https://p.supabase.co", "SUPABASE_SERVICE_KEY": "k"}, "ACL file"),
    ):
        with pytest.raises(ValueError, match=message):
            Settings.from_env({**good, **change})
