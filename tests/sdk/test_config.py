"""Settings: arguments, environment, defaults; and what cannot be."""

from __future__ import annotations

import pytest

from memx_sdk.config import DEFAULT_BASE_URL, options_from, shown_url


def test_arguments_go_before_the_environment_and_that_before_the_defaults() -> None:
    environ = {"MEMX_API_KEY": "env_key", "MEMX_BASE_URL": "http://env:1/"}
    from_env = options_from(environ=environ)
    assert (from_env.api_key, from_env.base_url) == ("env_key", "http://env:1")
    given = options_from("key", "http://given:2", agent="a", timeout=3, environ=environ)
    assert (given.api_key, given.base_url, given.agent, given.timeout) == (
        "key",
        "http://given:2",
        "a",
        3,
    )
    bare = options_from(environ={})
    assert (bare.api_key, bare.base_url) == (None, DEFAULT_BASE_URL)


@pytest.mark.parametrize(
    "base_url",
    [
        *("localhost", "127.0.0.1:8000", "http://", "https:///x", "//host", "/path"),
        *("http://host:99999", "http://host:port", "http://host:0"),
    ],
)
def test_a_base_url_that_names_no_server_is_refused(base_url: str) -> None:
    with pytest.raises(ValueError, match="base_url"):
        options_from(base_url=base_url, environ={})


@pytest.mark.parametrize("base_url", ["http://h", "https://h/memx", "ws://h:1", "embedded:/data"])
def test_a_base_url_may_have_any_scheme_that_has_a_transport(base_url: str) -> None:
    assert options_from(base_url=base_url, environ={}).base_url == base_url


def test_what_follows_the_scheme_is_the_location() -> None:
    assert options_from(base_url="embedded:/data/x", environ={}).location == "/data/x"
    assert options_from(base_url="embedded:", environ={}).location == ""


def test_a_key_with_a_line_break_inside_is_refused_without_being_shown() -> None:
    assert options_from(" key\n", environ={}).api_key == "key"
    with pytest.raises(ValueError, match="control character") as caught:
        options_from("top\nsecret", environ={})
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("agent", ["", "x" * 65, "a\nb", "a\x00"])
def test_an_agent_s_name_is_short_and_printable(agent: str) -> None:
    with pytest.raises(ValueError, match="agent"):
        options_from(agent=agent, environ={})


@pytest.mark.parametrize("timeout", [0, -1, float("nan")])
def test_a_timeout_is_above_zero(timeout: float) -> None:
    with pytest.raises(ValueError, match="timeout"):
        options_from(timeout=timeout, environ={})


def test_options_and_urls_do_not_show_secrets() -> None:
    options = options_from("top_secret", "http://me:hidden@host:1/x", environ={})
    assert "top_secret" not in repr(options)
    assert shown_url(options.base_url + "?token=private#y") == "http://host:1/x"
