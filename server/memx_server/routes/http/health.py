"""Whether the process lives, and whether it can serve."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from memx_server.services import Services

router = APIRouter(tags=["operation"])


@router.get("/healthz", summary="Whether the process lives")
async def healthz() -> dict[str, bool]:
    """Answer as long as the event loop turns, with or without a store."""
    return {"ok": True}


@router.get("/readyz", summary="Whether the store answers", responses={503: {}})
async def readyz(request: Request) -> JSONResponse:
    """Answer 503 while the store does not serve or takes no writes; ``detail`` says why.

    ``advice`` says what in the store's setup could lose memory, or keeps memX from its work.
    """
    services: Services = request.app.state.services
    fault, advice = await services.health.report()
    if fault is not None:
        body = {"ok": False, "store": "unavailable", "detail": fault}
        return JSONResponse(body, 503, {"retry-after": "1"})
    return JSONResponse({"ok": True, "advice": list(advice)})
