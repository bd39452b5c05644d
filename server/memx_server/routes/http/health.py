"""Whether the process lives, and whether it can serve."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from memx_sdk.protocol.errors import ProtocolError
from memx_server.services import Services

router = APIRouter(tags=["operation"])

_READY_WITHIN = 1.0
"""Seconds that the store may take to answer before the server counts as not ready."""


@router.get("/healthz", summary="Whether the process lives")
async def healthz() -> dict[str, bool]:
    """Answer as long as the event loop turns, with or without a store."""
    return {"ok": True}


@router.get("/readyz", summary="Whether the store answers", responses={503: {}})
async def readyz(request: Request) -> JSONResponse:
    """Answer 503 while the store does not; ``advice`` says what in its setup could lose memory."""
    services: Services = request.app.state.services
    try:
        async with asyncio.timeout(_READY_WITHIN):
            await services.store.ping()
            advice = await services.store.advice()
    except (ProtocolError, TimeoutError):
        return JSONResponse({"ok": False, "store": "unavailable"}, 503, {"retry-after": "1"})
    return JSONResponse({"ok": True, "advice": list(advice)})


async def store_answers(services: Services) -> bool:
    """Tell whether the store answers in time."""
    try:
        async with asyncio.timeout(_READY_WITHIN):
            await services.store.ping()
    except (ProtocolError, TimeoutError):
        return False
    return True
