"""The context: a program's view of one space of shared memory."""

from __future__ import annotations

from memx_sdk._async.watching import AsyncWatching


class AsyncMemxContext(AsyncWatching):
    """Shared memory for agents: read, write and watch keys that others see at once.

    ::

        async with AsyncMemxContext("local_dev_key", "http://127.0.0.1:8000") as ctx:
            await ctx.set("team:goal", "find the bug")
            entry = await ctx.get("team:goal")
            entry.value, entry["value"]

    One context serves any number of concurrent callers. Everything it raises is a
    `memx_sdk.errors.MemxError`; what does not depend on the server (an impossible argument) is a
    ``ValueError``.

    Args:
        api_key: The credential; None takes ``MEMX_API_KEY`` from the environment.
        base_url: The server; None takes ``MEMX_BASE_URL``, or ``http://127.0.0.1:8000``.
        agent: The name that this writer calls itself, 1 to 64 printable characters.
        timeout: Seconds to wait for an answer, of each attempt.
        transport: ``http``, ``websocket``, the name of an installed one, or one ready made; None
            chooses by the scheme of ``base_url``.
        max_retries: How often a request is repeated that found no answer or no free server.

    Raises:
        ValueError: An argument cannot be.
    """
