"""The page at ``/``."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

router = APIRouter(include_in_schema=False)

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>memX</title>
<style>
  body { font: 16px/1.6 system-ui, sans-serif; max-width: 40rem; margin: 4rem auto; padding: 0 1rem }
</style>
<h1>memX</h1>
<p>Shared memory for teams of LLM agents. This server is up.</p>
<ul>
  <li><a href="/docs">The HTTP API</a>, to read and to try</li>
  <li><a href="/readyz">Whether its store answers</a></li>
</ul>
</html>
"""


@router.get("/")
async def home() -> HTMLResponse:
    """Say what this is and where to go on."""
    return HTMLResponse(_PAGE)
