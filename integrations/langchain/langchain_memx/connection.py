"""The connection to memX of components that LangChain calls from threads and from event loops alike."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Generic, NoReturn, Self, TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit, urlunsplit

from memx_sdk import AsyncMemxContext, memxContext

S = TypeVar("S")
A = TypeVar("A")

_NUMBERS = {"timeout": float, "max_retries": int}
_OTHER_STORES = ("redis", "rediss", "postgres", "postgresql", "sqlite", "mongodb", "mysql")
_IN_A_CONN_STRING = ("agent", "transport", *_NUMBERS)


class MemxConnection:
    """One connection to memX that several components may share; contexts are opened on first use.

    There is one context for all threads, and one for each event loop: an asynchronous client cannot be used
    from a loop other than the one that opened its sockets. ``with`` and ``async with`` close it.

    Args:
        api_key: Default: the environment's MEMX_API_KEY.
        base_url: Default: the environment's MEMX_BASE_URL.
        agent: The name under which writes are attributed.
        timeout: Seconds to wait for an answer, of each attempt.
        max_retries: How often a request is repeated that found no answer or no free server.
        transport: ``http``, ``websocket`` (everything over one socket), or the name of an installed one.
        context: A synchronous context that the caller opened and will close.
        async_context: The same for asynchronous calls.
    """

    def __init__(
        self,
        api_key: str | None = None,
        base_url: str | None = None,
        *,
        agent: str | None = None,
        timeout: float = 10.0,
        max_retries: int = 4,
        transport: str | None = None,
        context: memxContext | None = None,
        async_context: AsyncMemxContext | None = None,
    ) -> None:
        self._where = (api_key, base_url)
        self._options: dict[str, Any] = {
            "agent": agent,
            "timeout": timeout,
            "max_retries": max_retries,
            "transport": transport,
        }
        self._given = context
        self._given_async = async_context
        self._opened: memxContext | None = None
        self._opened_async: dict[asyncio.AbstractEventLoop, AsyncMemxContext] = {}
        self._opening = threading.Lock()

    @property
    def context(self) -> memxContext:
        """The context for synchronous calls, from any thread."""
        if self._given is not None:
            return self._given
        # LangChain runs the tools of one turn in several threads: they must not open a context each.
        with self._opening:
            if self._opened is None:
                self._opened = memxContext(*self._where, **self._options)
            return self._opened

    @property
    def async_context(self) -> AsyncMemxContext:
        """The context for asynchronous calls in the running event loop."""
        if self._given_async is not None:
            return self._given_async
        loop = asyncio.get_running_loop()
        with self._opening:
            opened = self._opened_async.get(loop)
            if opened is None:
                self._forget_ended_loops()
                opened = AsyncMemxContext(*self._where, **self._options)
                self._opened_async[loop] = opened
            return opened

    @classmethod
    def from_conn_string(cls, conn_string: str) -> Self:
        """Make a connection from one text, as settings and other stores have it.

        Args:
            conn_string: The server's address, with the API key where a URL has a user and with ``agent``, ``timeout``,
                ``max_retries`` and ``transport`` as its query: ``https://KEY@memx.example?agent=planner``. Without a
                key the environment's MEMX_API_KEY is meant.

        Raises:
            ValueError: It has another parameter, or is no address of a memX server.
        """
        address = urlsplit(conn_string)
        if not address.scheme or address.scheme in _OTHER_STORES:
            raise ValueError(
                f"{conn_string.partition(':')[0]!r} is no address of a memX server: it is like "
                "https://KEY@memx.example?agent=planner"
            )
        options: dict[str, Any] = dict(parse_qsl(address.query, strict_parsing=bool(address.query)))
        if unknown := set(options) - set(_IN_A_CONN_STRING):
            raise ValueError(
                f"{', '.join(sorted(unknown))} in the connection string: use {', '.join(_IN_A_CONN_STRING)}"
            )
        for name, number in _NUMBERS.items():
            if name in options:
                options[name] = number(options[name])
        user, at, host = address.netloc.rpartition("@")
        base_url = urlunsplit((address.scheme, host, address.path, "", ""))
        return cls(unquote(user) if at else None, base_url, **options)

    def __enter__(self) -> Self:
        """Use it; it is closed at the end."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close it."""
        self.close()

    async def __aenter__(self) -> Self:
        """Use it in this event loop; it is closed at the end."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close it."""
        await self.aclose()

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """A copied tool or agent shares the connection."""
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("a MemxConnection cannot be pickled; make one in the other process")

    @classmethod
    def of(cls, given: MemxConnection | None) -> MemxConnection:
        """Return the connection that a component was given, or one of its own.

        Raises:
            TypeError: It was given something else, for example the URL that other stores take.
        """
        if given is None:
            return cls()
        if not isinstance(given, MemxConnection):
            raise TypeError(
                f"connection is a MemxConnection, not {type(given).__name__}: "
                "MemxConnection(api_key, base_url), or none for MEMX_API_KEY and MEMX_BASE_URL"
            )
        return given

    def _forget_ended_loops(self) -> None:
        """Let go of contexts that nothing can use or close any more, as of one ``asyncio.run`` after the other.

        Their sockets belong to a loop that is closed; the garbage collector takes them with the context.
        """
        for loop in [loop for loop in self._opened_async if loop.is_closed()]:
            del self._opened_async[loop]

    def close(self) -> None:
        """Close the synchronous context, unless the caller gave it."""
        with self._opening:
            opened, self._opened = self._opened, None
        if opened is not None:
            opened.close()

    async def aclose(self) -> None:
        """Close the contexts that were opened in this thread and event loop."""
        self.close()
        opened = self._opened_async.pop(asyncio.get_running_loop(), None)
        if opened is not None:
            await opened.aclose()


class Flows(Generic[S, A]):
    """What a component runs on a context: one object for threads, and one for the event loop that runs.

    They are kept from call to call, since they remember what they have seen; and made anew where the connection has
    opened another context since.

    Args:
        connection: The component's.
        make: Makes the one for threads from a context.
        make_async: Makes the other one.
    """

    def __init__(
        self,
        connection: MemxConnection,
        make: Callable[[memxContext], S],
        make_async: Callable[[AsyncMemxContext], A],
    ) -> None:
        self._connection = connection
        self._make = make
        self._make_async = make_async
        # Each is replaced as a whole: threads that come at once may make two, and one of them stays.
        self._last: tuple[memxContext, S] | None = None
        self._last_async: tuple[AsyncMemxContext, A] | None = None

    @property
    def here(self) -> S:
        """The one for threads."""
        context = self._connection.context
        last = self._last
        if last is None or last[0] is not context:
            last = self._last = (context, self._make(context))
        return last[1]

    @property
    def of_loop(self) -> A:
        """The one for the running event loop."""
        context = self._connection.async_context
        last = self._last_async
        if last is None or last[0] is not context:
            last = self._last_async = (context, self._make_async(context))
        return last[1]


class Connected:
    """A component with a connection: its own, which ``close`` closes, or one that its maker shares and closes.

    ``with`` and ``async with`` close it too.

    Args:
        connection: The connection that it was given; None for one of its own.

    Raises:
        TypeError: It was given something else.
    """

    def __init__(self, connection: MemxConnection | None) -> None:
        self._connection = MemxConnection.of(connection)
        self._owns_connection = connection is None

    def close(self) -> None:
        """Close the connection, unless it was given one."""
        if self._owns_connection:
            self._connection.close()

    async def aclose(self) -> None:
        """Close the connection of this event loop, unless it was given one."""
        if self._owns_connection:
            await self._connection.aclose()

    def __enter__(self) -> Self:
        """Use it; it is closed at the end."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close it."""
        self.close()

    async def __aenter__(self) -> Self:
        """Use it in this event loop; it is closed at the end."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close it."""
        await self.aclose()

    @classmethod
    def from_conn_string(cls, conn_string: str, *args: Any, **options: Any) -> Self:
        """Make one with a connection of its own, for ``with`` or ``async with``.

        Args:
            conn_string: As for `MemxConnection.from_conn_string`: ``https://KEY@memx.example?agent=planner``.
            *args: What else the component takes.
            **options: The same by name.

        Raises:
            ValueError: It is no address of a memX server.
        """
        connection = MemxConnection.from_conn_string(conn_string)
        made = cls(*args, **{**options, "connection": connection})
        made._owns_connection = True
        return made
