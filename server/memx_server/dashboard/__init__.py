"""The live page served at ``/``: a few static files, and the headers that keep the page to itself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib.resources import files

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

_FILES = {
    "/": ("index.html", "text/html"),
    "/dashboard/style.css": ("style.css", "text/css"),
    "/dashboard/app.js": ("app.js", "text/javascript"),
    "/dashboard/memory.js": ("memory.js", "text/javascript"),
    "/dashboard/view.js": ("view.js", "text/javascript"),
    "/dashboard/icon.svg": ("icon.svg", "image/svg+xml"),
}

_HEADERS = {
    # Values come from agents that nobody has vetted: nothing but the page's own files may run, and
    # the API key that was typed in can go nowhere but to this server.
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}


def routes() -> list[Route]:
    """Make the routes of the page."""
    return [
        Route(path, _endpoint(name, media_type), methods=["GET"], include_in_schema=False)
        for path, (name, media_type) in _FILES.items()
    ]


def _endpoint(name: str, media_type: str) -> Callable[[Request], Awaitable[Response]]:
    content = files(__package__).joinpath(name).read_bytes()

    async def serve(_: Request) -> Response:
        return Response(content, media_type=media_type, headers=_HEADERS)

    return serve
