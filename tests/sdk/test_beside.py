"""What tests run beside themselves is taken at their end, also where they fail."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

from tests.sdk.halves import Beside


async def test_a_task_that_nobody_awaits_is_left_with_no_error_of_its_own() -> None:
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, what: complaints.append(what))

    async def fails() -> None:
        raise ValueError("nobody asks")

    beside = Beside()
    running = beside(asyncio.sleep(3600))
    beside(fails())
    await asyncio.sleep(0)
    await beside.close()
    assert running.cancelled()
    del beside
    gc.collect()
    assert complaints == []
