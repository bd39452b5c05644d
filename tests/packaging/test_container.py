"""The container files. No engine is needed: the steps are run in a folder, the rest is read."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis as redis_client
import yaml
from memx_server.settings import Settings

from tests.packaging.conftest import ROOT
from tests.packaging.image import Image, steps
from tests.support.redis_server import RedisServer, free_port, newest_redis

pytestmark = pytest.mark.timeout(240)

START_SECONDS = 20
KEY = {"x-api-key": "local_dev_key"}


@pytest.fixture(scope="module")
def instructions() -> list[tuple[str, str]]:
    return list(steps(ROOT / "Dockerfile"))


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    document: dict[str, Any] = yaml.safe_load(text)
    return document


def test_the_linter_finds_nothing() -> None:
    linter = Path(sys.executable).with_name("hadolint")
    done = subprocess.run(
        [linter, "Dockerfile"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_it_is_built_in_two_stages_on_a_slim_python(instructions: list[tuple[str, str]]) -> None:
    bases = [value for instruction, value in instructions if instruction == "FROM"]
    assert len(bases) == 2
    assert all(re.match(r"python:3\.1[123]-slim\b", base) for base in bases)


def test_it_does_not_run_as_root(instructions: list[tuple[str, str]]) -> None:
    last = [instruction for instruction, _ in instructions]
    user = next(value for instruction, value in reversed(instructions) if instruction == "USER")
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user), "a number, so that an orchestrator can tell"
    assert last.index("USER") < last.index("CMD")


def test_the_server_is_the_process_that_gets_the_signals(
    instructions: list[tuple[str, str]],
) -> None:
    commands = {name: value for name, value in instructions if name in {"CMD", "ENTRYPOINT"}}
    assert json.loads(commands["CMD"])[:2] == ["memx", "serve"]
    assert "ENTRYPOINT" not in commands


def test_no_secret_and_no_api_key_is_baked_in(instructions: list[tuple[str, str]]) -> None:
    for instruction, value in instructions:
        if instruction in {"ENV", "ARG", "COPY"}:
            assert not re.search(r"KEY|SECRET|TOKEN|PASSWORD|acl|config|\.env", value)


def test_compose_keeps_the_memory(compose: dict[str, Any]) -> None:
    redis = compose["services"]["redis"]
    settings = dict(zip(redis["command"][1::2], redis["command"][2::2], strict=True))
    assert settings["--appendonly"] == "yes"
    assert settings["--maxmemory-policy"] == "noeviction"
    volume = redis["volumes"][0].partition(":")
    assert volume[2] == "/data"
    assert volume[0] in compose["volumes"]
    assert redis["healthcheck"]["test"] == ["CMD-SHELL", "redis-cli ping | grep -q PONG"]
    assert "ports" not in redis, "the store itself is not published"


def test_compose_gives_no_container_more_than_it_needs(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert "cap_add" not in service, name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert interpolate(service["mem_limit"], {}).endswith("g"), name
        assert 0 < service["pids_limit"] <= 512, name
        assert not service.get("privileged"), name
    # What they may write: Redis its volume, the server a temporary folder.
    services = compose["services"]
    assert [each.partition(":")[2] for each in services["redis"]["volumes"]] == ["/data"]
    assert all(volume.endswith(":ro") for volume in services["api"]["volumes"])
    assert [each.partition(":")[0] for each in services["api"]["tmpfs"]] == ["/tmp"]
    user, _, group = services["redis"]["user"].partition(":")
    assert user != "0"
    assert group != "0"


def test_the_bundled_redis_refuses_before_its_container_is_full(compose: dict[str, Any]) -> None:
    redis = compose["services"]["redis"]
    settings = dict(zip(redis["command"][1::2], redis["command"][2::2], strict=True))
    bound = int(interpolate(settings["--maxmemory"], {}).removesuffix("mb"))
    # The rest is for the copies of pages while the append-only file is rewritten.
    assert bound < 0.7 * 1024 * int(interpolate(redis["mem_limit"], {}).removesuffix("g"))


def test_both_services_know_the_password_of_redis(compose: dict[str, Any]) -> None:
    redis, api = compose["services"]["redis"], compose["services"]["api"]
    settings = dict(zip(redis["command"][1::2], redis["command"][2::2], strict=True))
    for given in ({}, {"MEMX_REDIS_PASSWORD": "a1b2"}):
        password = interpolate(settings["--requirepass"], given)
        assert password
        assert password == given.get("MEMX_REDIS_PASSWORD", password)
        assert interpolate(redis["environment"]["REDISCLI_AUTH"], given) == password
        url = interpolate(api["environment"]["REDIS_URL"], given)
        assert url == f"redis://:{password}@redis:6379/0"


def test_a_redis_with_the_password_takes_it_from_the_url(compose: dict[str, Any]) -> None:
    redis = compose["services"]["redis"]
    options = dict(zip(redis["command"][1::2], redis["command"][2::2], strict=True))
    settings = {name.removeprefix("--"): interpolate(text, {}) for name, text in options.items()}
    password = settings.pop("requirepass")
    url = interpolate(compose["services"]["api"]["environment"]["REDIS_URL"], {})
    with RedisServer(newest_redis(), settings) as server:
        address = f"127.0.0.1:{server.port}"
        with server.client() as client:
            client.config_set("requirepass", password)
        with pytest.raises(redis_client.AuthenticationError):
            redis_client.Redis.from_url(f"redis://{address}/0").ping()
        assert redis_client.Redis.from_url(url.replace("redis:6379", address)).ping()


def test_every_setting_of_env_reaches_the_server(compose: dict[str, Any]) -> None:
    assert compose["services"]["api"]["env_file"] == [{"path": ".env", "required": False}]
    # What stands under `environment` wins over the file, so nothing that an operator sets may stand there as it is.
    fixed = compose["services"]["api"]["environment"]
    for name, text in fixed.items():
        assert name == "MEMX_ACL_FILE" or "${" in text, name


@pytest.mark.parametrize(
    ("publish", "on_loopback"),
    [
        ("", True),
        ("127.0.0.1:9000", True),
        ("localhost:9000", True),
        ("[::1]:9000", True),
        ("0.0.0.0:8000", False),
        ("192.168.1.5:8000", False),
        ("[::]:8000", False),
        ("memx.example.org:8000", False),
        ("8000", False),
    ],
)
def test_the_server_is_told_whether_it_is_published_on_loopback(
    compose: dict[str, Any], publish: str, on_loopback: bool
) -> None:
    api = compose["services"]["api"]
    environ = {
        name: interpolate(text, {"MEMX_PUBLISH": publish})
        for name, text in api["environment"].items()
    }
    assert Settings.from_env(environ).published_on_loopback is on_loopback
    (port,) = api["ports"]
    assert interpolate(port, {"MEMX_PUBLISH": publish}) == f"{publish or '127.0.0.1:8000'}:8000"


def test_compose_starts_the_api_on_the_bundled_redis(compose: dict[str, Any]) -> None:
    api = compose["services"]["api"]
    env = api["environment"]
    assert api["build"] == "."
    assert api["depends_on"] == {"redis": {"condition": "service_healthy"}}
    assert interpolate(env["REDIS_URL"], {"REDIS_URL": "redis://elsewhere"}) == "redis://elsewhere"
    for name in ("SUPABASE_URL", "SUPABASE_SERVICE_KEY"):
        assert interpolate(env[name], {name: "given"}) == "given"
        assert interpolate(env[name], {}) == ""
    assert [interpolate(port, {}) for port in api["ports"]] == ["127.0.0.1:8000:8000"]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    built = Image(ROOT, tmp_path_factory.mktemp("image"))
    built.build()
    return built


@pytest.fixture
def container(
    image: Image, compose: dict[str, Any], redis_any: RedisServer
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """The image's command, started as the compose file starts it, on a free port."""
    port = free_port()
    given = {"REDIS_URL": redis_any.url}
    api = compose["services"]["api"]
    env = {name: interpolate(value, given) for name, value in api["environment"].items()}
    mounts = dict(volume.split(":")[1::-1] for volume in api["volumes"])
    for inside, outside in mounts.items():
        env = {name: value.replace(inside, str(ROOT / outside)) for name, value in env.items()}
    process = image.start([*image.command, "--port", str(port)], env)
    try:
        yield f"http://127.0.0.1:{port}", process
    finally:
        process.kill()
        process.wait(10)


def test_its_steps_make_a_server_that_answers_and_stops(
    image: Image, container: tuple[str, subprocess.Popen[bytes]]
) -> None:
    before = {path for path in image.root.rglob("*") if "__pycache__" not in path.parts}
    url, process = container
    log = image.folder / "log"
    wait_until_healthy(url, process, log)
    body = {"key": "container:test", "value": {"works": True}}
    written = httpx.post(f"{url}/set", json=body, headers=KEY)
    assert written.status_code == 200, log.read_text()
    read = httpx.get(f"{url}/get", params={"key": "container:test"}, headers=KEY).json()
    assert read["value"] == {"works": True}

    probe = [word.replace("http://127.0.0.1:8000", url) for word in image.healthcheck]
    assert probe != image.healthcheck
    image.run(probe)

    process.terminate()
    assert process.wait(10) == 0, log.read_text()
    written_files = {path for path in image.root.rglob("*") if "__pycache__" not in path.parts}
    assert written_files == before, "the container's file system is read-only"
    with pytest.raises(AssertionError):
        image.run(probe)


def wait_until_healthy(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            assert httpx.get(f"{url}/healthz", timeout=2).status_code == 200
        except httpx.TransportError:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        else:
            return


def interpolate(text: str, environ: Mapping[str, str]) -> str:
    """Fill in ``${NAME:-default}`` as Compose does; a default may hold another one."""
    pattern = r"\$\{(\w+):-((?:[^{}]|\$\{[^{}]*\})*)\}"
    while re.search(pattern, text):
        text = re.sub(pattern, lambda match: environ.get(match[1]) or match[2], text)
    return text
