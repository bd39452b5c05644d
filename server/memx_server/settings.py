"""The settings of a server and their environment variables."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from ipaddress import ip_address
from pathlib import Path
from typing import get_args

from memx_sdk.protocol.durability import Durability
from memx_sdk.protocol.keys import MAX_KEY_BYTES

DEFAULT_ACL_FILE = Path("config/acl.json")

_BESIDE_VALUE = 4096
"""What an entry holds beside its value, at the most: a key and a writer, escaped, and numbers."""

_WHOLE = re.compile(r"[0-9]{1,15}")
_FLAGS = {"": False, "0": False, "false": False, "no": False, "1": True, "true": True, "yes": True}
_HOST = re.compile(r"[\w.-]+|[0-9a-f:.]+", re.I)
_ORIGIN = re.compile(r"null|[a-z][a-z0-9+.-]*://([\w.-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?", re.I)
_ISSUER = re.compile(
    r"(https://[^\s/?#]+|http://(localhost|127\.0\.0\.1|\[::1\])(:\d+)?)(/[^\s?#]*)?", re.I
)
_WEB_ADDRESS = re.compile(r"https?://[^\s/]+(/\S*)?", re.I)


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on one request; what is beyond one is refused by a 4xx that names the bound.

    Attributes:
        value_bytes: Length of a value's JSON text.
        key_bytes: Length of a key or pattern in UTF-8; fixed, since the wire format relies on it.
        nesting: How deep arrays and objects may nest in a value.
        schema_bytes: Length of a schema's JSON text.
        body_bytes: Length of a whole request, which may hold several values.
        bodies_bytes: What all large requests under way may hold in one process; a space may hold half of it.
        response_bytes: Length of one response: a page of entries or changes ends before it would be longer, unless a
            single one is; an ``mget`` or a transaction that reads more is refused.
        responses_bytes: What all large responses and snapshots that are not sent yet may hold in one process; a space
            may hold half of it.
        head_bytes: Length of a request's head: the request line and the headers.
        connections: Connections of one process, of all kinds; no more than the process may open files.
        unknown_connections: Connections of one process on which no API key was shown yet.
        reason_bytes: Length of a write's reason in UTF-8.
        transaction_operations: Operations and compares of one transaction.
        keys_per_read: Keys of one ``mget``.
        page: Items of one page of keys or changes.
        subscriptions: Subscriptions of one socket.
        space_keys: Keys that a space may hold; 0 for as many as the store can.
        space_result_bytes: Bytes of results that a space keeps for idempotency keys; the default is
            above what one SDK client leaves behind at 100 writes a second.
        space_schema_bytes: Bytes of schemas that a space may hold.
        durable_names: Durable subscriptions of a space.
        page_cursors: Places among keys that their readers may not read, which the server keeps for a space.
        tickets: Tickets of one space that were not used yet.
        presence_members: Callers of one space that a server names as present; a newcomer takes the
            place of the longest idle.
    """

    value_bytes: int = 1024 * 1024
    key_bytes: int = MAX_KEY_BYTES
    nesting: int = 64
    schema_bytes: int = 64 * 1024
    body_bytes: int = 8 * 1024 * 1024
    bodies_bytes: int = 64 * 1024 * 1024
    response_bytes: int = 8 * 1024 * 1024
    responses_bytes: int = 128 * 1024 * 1024
    head_bytes: int = 32 * 1024
    connections: int = 20_000
    unknown_connections: int = 1000
    reason_bytes: int = 1024
    transaction_operations: int = 128
    keys_per_read: int = 1000
    page: int = 1000
    subscriptions: int = 1000
    space_keys: int = 0
    space_result_bytes: int = 64 * 1024 * 1024
    space_schema_bytes: int = 4 * 1024 * 1024
    durable_names: int = 1000
    page_cursors: int = 1000
    tickets: int = 1000
    presence_members: int = 1000

    def bound_for(self, entries: int) -> int | None:
        """Return the most bytes that so many entries may hold together; None where they cannot hold more."""
        few = self.response_bytes // (self.value_bytes + _BESIDE_VALUE)
        return None if entries <= few else self.response_bytes

    def as_dict(self) -> dict[str, int]:
        """Return the limits by name, as ``whoami`` shows them."""
        return {each.name: getattr(self, each.name) for each in fields(self)}


@dataclass(frozen=True, slots=True)
class SupabaseSettings:
    """API keys from Supabase.

    Attributes:
        url: The project.
        service_key: Its service key.
        cache_seconds: How long a look-up counts, and so how long a revoked key stays good at the most.
        grace_seconds: How long a good look-up stands in for a Supabase that cannot be reached.
        plain_keys: Whether rows may hold a key in plain text.
    """

    url: str
    service_key: str = field(repr=False)
    cache_seconds: float = 5.0
    grace_seconds: float = 300.0
    plain_keys: bool = False

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> SupabaseSettings | None:
        """Read ``SUPABASE_URL`` and ``SUPABASE_SERVICE_KEY``; None where neither is set.

        Raises:
            ValueError: Only one of them is set, or one cannot be used; the message names it.
        """
        url, service_key = environ.get("SUPABASE_URL"), environ.get("SUPABASE_SERVICE_KEY")
        if not url and not service_key:
            return None
        # With one of them missing, the ACL file must not stand in: it may hold keys that were to be replaced.
        if not url or not service_key:
            raise ValueError("set both SUPABASE_URL and SUPABASE_SERVICE_KEY, or neither")
        if not _WEB_ADDRESS.fullmatch(url):
            raise ValueError(f"SUPABASE_URL must be like https://PROJECT.supabase.co, not {url!r}")
        if not (service_key.isascii() and service_key.isprintable()):
            raise ValueError("SUPABASE_SERVICE_KEY holds what no HTTP header can; copy it anew")
        defaults = cls(url, service_key)
        return cls(
            url,
            service_key,
            _seconds(environ, "MEMX_SUPABASE_CACHE", defaults.cache_seconds),
            _seconds(environ, "MEMX_SUPABASE_GRACE", defaults.grace_seconds),
            _flag(environ, "MEMX_SUPABASE_PLAIN_KEYS"),
        )


@dataclass(frozen=True, slots=True)
class OAuthSettings:
    """The issuer whose tokens name callers of ``/mcp``.

    Attributes:
        issuer: Its URL, as ``iss`` of its tokens has it.
        resource: The URL of ``/mcp`` as clients know it, which must be the ``aud`` of a token.
    """

    issuer: str
    resource: str

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> OAuthSettings | None:
        """Read ``MEMX_OAUTH_ISSUER`` and ``MEMX_OAUTH_RESOURCE``; None where neither is set.

        Raises:
            ValueError: Only one is set, one cannot be used, or API keys come from Supabase; the message says it.
        """
        issuer, resource = environ.get("MEMX_OAUTH_ISSUER"), environ.get("MEMX_OAUTH_RESOURCE")
        if not issuer and not resource:
            return None
        if not issuer or not resource:
            raise ValueError("set both MEMX_OAUTH_ISSUER and MEMX_OAUTH_RESOURCE, or neither")
        # A token is as good as the way on which its keys came.
        if not _ISSUER.fullmatch(issuer):
            raise ValueError(
                f"MEMX_OAUTH_ISSUER must be like https://login.example.org, without query, not {issuer!r}"
            )
        if not _WEB_ADDRESS.fullmatch(resource) or "#" in resource:
            raise ValueError(
                f"MEMX_OAUTH_RESOURCE must be like https://memx.example.org/mcp, not {resource!r}"
            )
        # A row of the table is found by what a request presents, so it could not tell a token's name from a key.
        if environ.get("SUPABASE_URL"):
            raise ValueError(
                "MEMX_OAUTH_ISSUER needs the ACL file; it does not go with SUPABASE_URL"
            )
        return cls(issuer, resource)


@dataclass(frozen=True, slots=True)
class RateLimit:
    """The rate limit of one API key.

    Attributes:
        per_second: Requests a second, over time.
        burst: Requests that may come at once.
    """

    per_second: float
    burst: int

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> RateLimit | None:
        """Read ``MEMX_RATE_LIMIT`` and ``MEMX_RATE_BURST`` (default: two seconds' worth).

        Raises:
            ValueError: One of them is no number above 0.
        """
        if not environ.get("MEMX_RATE_LIMIT"):
            return None
        per_second = _positive(environ, "MEMX_RATE_LIMIT", 1.0)
        burst = _positive(environ, "MEMX_RATE_BURST", max(1.0, 2 * per_second))
        return cls(per_second, max(1, round(burst)))


@dataclass(frozen=True, slots=True)
class Settings:
    """The server's settings.

    Attributes:
        store_url: ``redis://...``, ``rediss://...``, ``unix://...`` or ``sqlite:PATH``.
        acl_file: The file of API keys.
        limits: Bounds on requests.
        write_deadline: Seconds that a write may take, the server's own retries included.
        validation_deadline: Seconds that the evaluation of one value may take.
        head_timeout: Seconds in which the head of a request must arrive.
        body_timeout: Seconds in which the body of a request, or a message of a socket, must arrive.
        supabase: The Supabase project whose API keys count in place of the file; None for the file.
        allowed_hosts: Names under which a browser may reach this server; ``*`` for any.
        allowed_origins: Origins of other pages that may connect and, by CORS, call; ``*`` for any.
        workers: Processes that share the port.
        rate_limit: The rate limit of each API key; None for none.
        metrics: The callers that may read ``/metrics``: all (``open``), those on this machine (``local``),
            none (``off``).
        worker_figures: The folder in which the workers of a server leave their figures for each other.
        access_log: Whether a line is logged for each request: ``off``, ``on``, or ``keys`` for one that names keys.
        durability: How safe a write is to be when it is answered, unless it says so itself.
        known_hosts_only: Whether every request must call the server by one of ``allowed_hosts``.
        published_on_loopback: Whether the port is published on a loopback address of the host alone, as Compose does
            it. A connection then counts as made to a loopback address, although it arrives from the container's
            network.
        oauth: The issuer whose tokens name callers of ``/mcp``; None where none are taken.
        mcp_sessions: Whether ``/mcp`` keeps sessions; None where the store decides: on SQLite it does, on Redis not.
        owns_process: Whether the process runs nothing but the server, so that its garbage collector may be tuned.
    """

    store_url: str = "redis://localhost:6379/0"
    acl_file: Path = DEFAULT_ACL_FILE
    limits: Limits = field(default_factory=Limits)
    write_deadline: float = 1.8
    validation_deadline: float = 1.0
    head_timeout: float = 10.0
    body_timeout: float = 30.0
    supabase: SupabaseSettings | None = None
    allowed_hosts: tuple[str, ...] = ("localhost", "127.0.0.1", "::1")
    allowed_origins: tuple[str, ...] = ()
    workers: int = 1
    rate_limit: RateLimit | None = None
    metrics: str = "local"
    worker_figures: Path | None = None
    access_log: str = "off"
    durability: Durability = "memory"
    known_hosts_only: bool = False
    published_on_loopback: bool = False
    oauth: OAuthSettings | None = None
    mcp_sessions: bool | None = None
    owns_process: bool = False

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> Settings:
        """Read the settings of a server's process from environment variables.

        ``REDIS_URL`` or ``MEMX_STORE_URL``, ``MEMX_ACL_FILE``, ``MEMX_WRITE_DEADLINE`` and
        ``MEMX_VALIDATION_DEADLINE`` (seconds), and ``MEMX_MAX_<LIMIT>`` for each limit.

        Raises:
            ValueError: One cannot be used; the message names the variable.
        """
        defaults = cls()
        return cls(
            store_url=environ.get("MEMX_STORE_URL")
            or environ.get("REDIS_URL")
            or defaults.store_url,
            acl_file=Path(environ.get("MEMX_ACL_FILE") or defaults.acl_file),
            limits=_limits_from(environ),
            write_deadline=_seconds(environ, "MEMX_WRITE_DEADLINE", defaults.write_deadline),
            validation_deadline=_seconds(
                environ, "MEMX_VALIDATION_DEADLINE", defaults.validation_deadline
            ),
            head_timeout=_seconds(environ, "MEMX_HEAD_TIMEOUT", defaults.head_timeout),
            body_timeout=_seconds(environ, "MEMX_BODY_TIMEOUT", defaults.body_timeout),
            supabase=SupabaseSettings.from_env(environ),
            allowed_hosts=_allowed_hosts(environ, defaults.allowed_hosts),
            allowed_origins=_list(
                environ, "MEMX_ALLOWED_ORIGINS", _ORIGIN, "origins like https://example.org, or *"
            ),
            workers=_whole(environ, "MEMX_WORKERS", 1),
            rate_limit=RateLimit.from_env(environ),
            metrics=_one_of(environ, "MEMX_METRICS", ("local", "open", "off")),
            worker_figures=_folder(environ, "MEMX_WORKER_FIGURES"),
            access_log=_one_of(environ, "MEMX_ACCESS_LOG", ("off", "on", "keys")),
            durability=_durability(environ),
            known_hosts_only=_flag(environ, "MEMX_KNOWN_HOSTS_ONLY"),
            published_on_loopback=_published_on_loopback(environ),
            oauth=OAuthSettings.from_env(environ),
            mcp_sessions=_mcp_sessions(environ),
            owns_process=True,
        )


def _mcp_sessions(environ: Mapping[str, str]) -> bool | None:
    """Read ``MEMX_MCP_SESSIONS``; None where it is not set."""
    if not environ.get("MEMX_MCP_SESSIONS"):
        return None
    keeps = _flag(environ, "MEMX_MCP_SESSIONS")
    if keeps and _whole(environ, "MEMX_WORKERS", 1) > 1:
        raise ValueError(
            "MEMX_MCP_SESSIONS must be 0 with several workers: a session lives in one process, and its requests "
            "reach any of them"
        )
    return keeps


def _folder(environ: Mapping[str, str], variable: str) -> Path | None:
    return Path(environ[variable]) if environ.get(variable) else None


def _allowed_hosts(environ: Mapping[str, str], loopback: tuple[str, ...]) -> tuple[str, ...]:
    """Read ``MEMX_ALLOWED_HOSTS``: further names, beside those of the machine itself.

    A name in public must not shut out whoever looks after the server on its own machine, nor its health checks.
    """
    named = _list(environ, "MEMX_ALLOWED_HOSTS", _HOST, "host names without a port, or *")
    return tuple(dict.fromkeys((*named, *loopback)))


def _published_on_loopback(environ: Mapping[str, str]) -> bool:
    """Read ``MEMX_PUBLISHED_ON_LOOPBACK``: 1, 0, or the address that the port is published on.

    Compose cannot negate a variable, so its file passes on the address of ``MEMX_PUBLISH`` where there is one. An
    address without a host, such as ``8000``, means every address of the host.
    """
    text = environ.get("MEMX_PUBLISHED_ON_LOOPBACK", "")
    if text.lower() in _FLAGS:
        return _FLAGS[text.lower()]
    host = text.rpartition(":")[0].strip("[]").lower()
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _limits_from(environ: Mapping[str, str]) -> Limits:
    defaults = Limits().as_dict()
    # Fixed by the wire format. Whoever sets it is told so, and not left to believe that it holds.
    fixed = defaults.pop("key_bytes")
    if environ.get("MEMX_MAX_KEY_BYTES", "") not in ("", str(fixed)):
        raise ValueError(
            f"MEMX_MAX_KEY_BYTES cannot be changed: a key has at most {fixed} bytes, on which clients rely"
        )
    given = {
        name: _whole(environ, f"MEMX_MAX_{name.upper()}", default)
        for name, default in defaults.items()
    }
    return Limits(**given)


def _whole(environ: Mapping[str, str], variable: str, default: int) -> int:
    # A variable that is set to nothing counts as not set: Compose passes those on so.
    text = environ.get(variable)
    if not text:
        return default
    if not _WHOLE.fullmatch(text) or int(text) == 0:
        raise ValueError(f"{variable} must be a whole number above 0, not {text!r}")
    return int(text)


def _one_of(environ: Mapping[str, str], variable: str, choices: tuple[str, ...]) -> str:
    """Read one of ``choices``, the first where the variable is not set."""
    text = environ.get(variable, "").lower() or choices[0]
    if text not in choices:
        raise ValueError(f"{variable} must be {' or '.join(choices)}, not {text!r}")
    return text


def _durability(environ: Mapping[str, str]) -> Durability:
    text = _one_of(environ, "MEMX_DURABILITY", get_args(Durability))
    return next(each for each in get_args(Durability) if each == text)


def _flag(environ: Mapping[str, str], variable: str) -> bool:
    text = environ.get(variable, "").lower()
    if text not in _FLAGS:
        raise ValueError(f"{variable} must be 1 or 0, not {text!r}")
    return _FLAGS[text]


def _positive(environ: Mapping[str, str], variable: str, default: float) -> float:
    text = environ.get(variable)
    if not text:
        return default
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number <= 1_000_000:
        raise ValueError(f"{variable} must be a number above 0, not {text!r}")
    return number


def _seconds(environ: Mapping[str, str], variable: str, default: float) -> float:
    text = environ.get(variable)
    if not text:
        return default
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 3600:
        raise ValueError(f"{variable} must be a number of seconds above 0, not {text!r}")
    return seconds


def _list(
    environ: Mapping[str, str], variable: str, form: re.Pattern[str], meaning: str
) -> tuple[str, ...]:
    parts = [part.strip() for part in environ.get(variable, "").split(",")]
    for part in parts:
        if part not in ("", "*") and not form.fullmatch(part):
            raise ValueError(f"{variable} must be {meaning}, with commas between; not {part!r}")
    return tuple(part for part in parts if part)
