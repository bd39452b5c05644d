"""``memx doctor``: each thing that can be wrong with a setup, and what it says of it."""

from __future__ import annotations

import http.server
import json
import re
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from pathlib import Path
from time import time
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from memx_sdk.cli.checks import check_clock, check_url, check_version
from tests.cli.conftest import Memx, Result
from tests.cli.test_serving import serving
from tests.support.redis_server import RedisServer, free_port, newest_redis


def states(result: Result) -> dict[str, str]:
    """State by check, from ``memx doctor --json``."""
    return {finding["check"]: finding["state"] for finding in result.documents}


def test_a_good_setup_is_called_good(online: Memx) -> None:
    result = online("doctor")
    assert result.code == 0
    assert "all is well" in result.err
    assert set(states(online("doctor", "--json")).values()) == {"ok"}


def test_nothing_listens(memx: Memx) -> None:
    port = free_port()
    result = memx("doctor", "--url", f"http://127.0.0.1:{port}")
    assert result.code == 1
    assert f"nothing listens at 127.0.0.1:{port}" in result.out
    assert "memx dev" in result.out


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://host", "http://", "nonsense"])
def test_a_url_that_is_none(memx: Memx, url: str) -> None:
    result = memx("doctor", "--url", url, "--json")
    assert result.code == 1
    assert states(result) == {"url": "problem"}


def test_a_host_that_has_no_address(memx: Memx) -> None:
    result = memx("doctor", "--url", "https://no-such-host.invalid")
    assert result.code == 1
    assert "cannot be resolved" in result.out


def test_a_server_that_is_none_of_ours(memx: Memx) -> None:
    with web_server() as url:
        result = memx("doctor", "--url", url)
    assert result.code == 1
    assert "no memX server" in result.out


def test_https_where_there_is_no_tls(memx: Memx) -> None:
    with web_server() as url:
        result = memx("doctor", "--url", url.replace("http:", "https:"))
    assert result.code == 1
    assert "does not speak TLS" in result.out


def test_a_certificate_that_nobody_signed(memx: Memx, tmp_path: Path) -> None:
    with web_server(tls=self_signed(tmp_path)) as url:
        result = memx("doctor", "--url", url)
    assert result.code == 1
    assert "certificate" in result.out
    assert "SSL_CERT_FILE" in result.out


def test_a_memory_with_no_server(memx: Memx) -> None:
    result = memx("doctor", "--url", f"embedded:{memx.folder}", "--json")
    assert result.code == 0
    assert set(states(result).values()) == {"ok"}


def test_a_url_for_websockets(online: Memx) -> None:
    result = online("doctor", "--url", online.environ["MEMX_BASE_URL"].replace("http", "ws"))
    assert result.code == 0


def test_a_missing_and_a_wrong_key(online: Memx) -> None:
    missing = online("doctor", MEMX_API_KEY="")
    wrong = online("doctor", MEMX_API_KEY="wrong")
    assert (missing.code, wrong.code) == (1, 1)
    assert "MEMX_API_KEY" in missing.out
    assert "unknown" in wrong.out
    assert "wrong" not in wrong.out


def test_an_acl_file_with_a_mistake(online: Memx) -> None:
    acl = online.folder / "acl.json"
    acl.write_text('{"key": ["[a"]}')
    result = online("doctor", MEMX_ACL_FILE=str(acl))
    assert result.code == 1
    assert str(acl) in result.out.replace("\n", "")
    assert "unbalanced" in result.out


def test_two_keys_of_one_agent_that_may_do_different_things(online: Memx) -> None:
    acl = online.folder / "acl.json"

    def agents(entries: dict[str, Any]) -> list[str]:
        acl.write_text(json.dumps(entries))
        report = online("doctor", "--json", MEMX_ACL_FILE=str(acl))
        assert report.code == 0
        return [each["detail"] for each in report.documents if each["check"] == "agents"]

    ann = {"agent": "ann", "read": ["a", "b"], "write": ["a"]}
    replaced = {**ann, "read": ["b", "a"], "admin": ["a"]}
    (found,) = agents({"k1": ann, "k2": {**ann, "write": ["b"]}, "k3": {**ann, "agent": "bob"}})
    assert "'ann'" in found
    assert found.count("key-") == 2
    assert "k1" not in found
    assert agents({"k1": ann, "k2": replaced}) == []  # the same in other words
    assert agents({"k1": ann, "k2": {**ann, "write": ["b"], "space": "s"}}) == []
    assert agents({"k1": ann, "k2": {**ann, "write": ["b"], "expires_at": 1}}) == []
    assert agents({"k1": ["a"], "k2": ["b"]}) == []  # without a name each has its own


def test_a_redis_that_may_lose_memory_is_a_warning(memx: Memx) -> None:
    settings = {"maxmemory": "100mb", "maxmemory-policy": "allkeys-lru", "appendonly": "no"}
    with RedisServer(newest_redis(), settings) as redis, serving(memx, redis.url) as (url, _):
        result = memx("doctor", "--url", url, MEMX_API_KEY="local_dev_key")
    assert result.code == 0
    assert "appendonly yes" in result.out
    assert "noeviction" in result.out
    assert "with warnings" in result.err


def test_a_well_kept_redis_is_no_warning(memx: Memx) -> None:
    settings = {"maxmemory-policy": "noeviction", "appendonly": "yes"}
    with RedisServer(newest_redis(), settings) as redis, serving(memx, redis.url) as (url, _):
        result = memx("doctor", "--url", url, "--json", MEMX_API_KEY="local_dev_key")
    assert states(result)["store"] == "ok"


def test_a_redis_that_is_away(memx: Memx) -> None:
    with serving(memx, f"redis://127.0.0.1:{free_port()}/0") as (url, _):
        result = memx("doctor", "--url", url, MEMX_API_KEY="local_dev_key")
    assert result.code == 1
    assert "cannot reach its store" in result.out
    assert "REDIS_URL" in result.out
    assert "proxy" not in result.out, "no proxy is to blame for that"


def test_a_redis_that_is_full(memx: Memx) -> None:
    settings = {"maxmemory-policy": "noeviction", "maxmemory": "1kb"}
    with RedisServer(newest_redis(), settings) as redis, serving(memx, redis.url) as (url, _):
        result = memx("doctor", "--url", url, MEMX_API_KEY="local_dev_key")
    assert result.code == 1
    assert "is full" in result.out
    assert "delete keys" in result.out


def test_a_clock_that_is_off(memx: Memx) -> None:
    with web_server({"ok": True}, behind=120) as url:
        result = memx("doctor", "--url", url)
    assert re.search(r"1[12]\d s ahead of the server", result.out)


def test_judging_clocks_versions_and_urls() -> None:
    assert check_clock(None) is None
    for skew, state in ((0.0, "ok"), (-4.9, "ok"), (6.0, "warning"), (-600.0, "warning")):
        clock = check_clock(skew)
        assert clock is not None
        assert clock.state == state
    assert check_version("0.2.0", "0.2.0").state == "ok"
    assert "memx-sdk==0.3.0" in check_version("0.2.0", "0.3.0").remedy
    assert check_url("http://localhost:1").state == "ok"
    assert check_url("http://[::1]:1").state == "ok"
    assert check_url("https://example.org").state == "ok"
    assert check_url("http://example.org").state == "warning"


@contextmanager
def web_server(
    body: Any = "hello", *, behind: float = 0, tls: ssl.SSLContext | None = None
) -> Iterator[str]:
    """A web server that answers every GET with ``body``."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        def date_time_string(self, timestamp: float | None = None) -> str:
            return formatdate(time() - behind, usegmt=True)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http{'s' if tls else ''}://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def self_signed(folder: Path) -> ssl.SSLContext:
    """A TLS context with a certificate that vouches for itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .sign(key, hashes.SHA256())
    )
    file = folder / "certificate.pem"
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    file.write_bytes(certificate.public_bytes(Encoding.PEM) + secret)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context


def test_a_dead_proxy_is_blamed_and_not_the_server(memx: Memx) -> None:
    proxy = "http://user:secret@127.0.0.1:9"
    proxied = {"HTTP_PROXY": proxy, "http_proxy": proxy, "NO_PROXY": "", "no_proxy": ""}
    examined = memx("doctor", "--url", "http://memory.invalid", "--json", **proxied)

    (finding,) = [each for each in examined.documents if each["check"] == "server"]
    assert finding["detail"].startswith("the proxy http://127.0.0.1:9 ")
    assert "HTTP_PROXY" in finding["remedy"]
    assert "secret" not in examined.out
