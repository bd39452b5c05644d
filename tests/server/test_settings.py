"""Settings from environment variables."""

from __future__ import annotations

from pathlib import Path

import pytest
from memx_server.app import open_store
from memx_server.settings import Limits, Settings
from memx_server.storage.redis import RedisStore
from memx_server.storage.sqlite import SqliteStore


def test_defaults() -> None:
    settings = Settings.from_env({})
    assert settings.store_url == "redis://localhost:6379/0"
    assert settings.acl_file == Path("config/acl.json")
    assert settings.limits == Limits()


def test_each_is_read() -> None:
    settings = Settings.from_env(
        {
            "REDIS_URL": "redis://elsewhere/1",
            "MEMX_ACL_FILE": "/keys.json",
            "MEMX_MAX_VALUE_BYTES": "100",
            "MEMX_MAX_SPACE_KEYS": "5000",
            "MEMX_WRITE_DEADLINE": "0.5",
            "MEMX_VALIDATION_DEADLINE": "3",
        }
    )
    assert settings.store_url == "redis://elsewhere/1"
    assert settings.acl_file == Path("/keys.json")
    assert settings.limits == Limits(value_bytes=100, space_keys=5000)
    assert (settings.write_deadline, settings.validation_deadline) == (0.5, 3.0)


def test_a_store_of_its_own_comes_before_redis() -> None:
    environ = {"REDIS_URL": "redis://elsewhere", "MEMX_STORE_URL": "sqlite:/data/memx.db"}
    assert Settings.from_env(environ).store_url == "sqlite:/data/memx.db"


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("MEMX_MAX_PAGE", "0"),
        ("MEMX_MAX_PAGE", "-5"),
        ("MEMX_MAX_NESTING", "many"),
        ("MEMX_WRITE_DEADLINE", "soon"),
        ("MEMX_WRITE_DEADLINE", "-1"),
        ("MEMX_VALIDATION_DEADLINE", "nan"),
        ("MEMX_METRICS", "yes"),
        ("MEMX_MAX_VALUE_BYTES", "9" * 5000),
        ("MEMX_WORKERS", "-1"),
        ("MEMX_WORKERS", "two"),
        ("MEMX_ALLOWED_HOSTS", "https://memx.example.org"),
        ("MEMX_ALLOWED_ORIGINS", "example.org"),
        ("MEMX_ALLOWED_ORIGINS", "https://example.org/page, https://other.example.org"),
        ("MEMX_SUPABASE_PLAIN_KEYS", "perhaps"),
        ("SUPABASE_URL", "my-project"),
        ("SUPABASE_SERVICE_KEY", "a\u2028b"),
    ],
)
def test_what_cannot_be_used_names_its_variable(variable: str, text: str) -> None:
    supabase = {"SUPABASE_URL": "https://x.supabase.co", "SUPABASE_SERVICE_KEY": "service"}
    with pytest.raises(ValueError, match=variable):
        Settings.from_env({**supabase, variable: text})


def test_pages_and_names_are_lists() -> None:
    settings = Settings.from_env(
        {
            "MEMX_ALLOWED_HOSTS": "memx.example.org, ::1",
            "MEMX_ALLOWED_ORIGINS": "https://example.org,http://[::1]:3000, null,*",
        }
    )
    # The machine's own names stay: a public one shuts nobody out who looks after the server.
    assert settings.allowed_hosts == ("memx.example.org", "::1", "localhost", "127.0.0.1")
    assert settings.allowed_origins == ("https://example.org", "http://[::1]:3000", "null", "*")


def test_the_url_chooses_the_store() -> None:
    assert isinstance(open_store("sqlite:/data/memx.db"), SqliteStore)
    assert isinstance(open_store("redis://localhost"), RedisStore)


@pytest.mark.parametrize(
    "url", ["http://localhost", "nonsense", "redis://host:port", "redis://host/memx", "sqlite:"]
)
def test_a_url_of_no_store_names_its_variable(url: str) -> None:
    with pytest.raises(ValueError, match="REDIS_URL"):
        open_store(url)
