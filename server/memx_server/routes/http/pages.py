"""The pages: the dashboard at ``/``, the interactive API at ``/docs``."""

from __future__ import annotations

from fastapi import APIRouter

from memx_server import dashboard

router = APIRouter(routes=[*dashboard.routes()], include_in_schema=False)
