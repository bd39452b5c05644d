"""The routes of the live page at ``/`` and of the API's page at ``/docs``, with their security headers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib.resources import files

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from memx_server.routes.api.origin_checks import check_host
from memx_server.services import Services

_SWAGGER_UI = "fastapi_swagger.resources"
"""The package with Swagger UI's files. They come from this server: another one would have to be reachable, and
trusted with the API keys that people type in."""

_FILES = {
    "/": (__name__, "index.html", "text/html"),
    "/dashboard/style.css": (__name__, "style.css", "text/css"),
    "/dashboard/app.js": (__name__, "app.js", "text/javascript"),
    "/dashboard/memory.js": (__name__, "memory.js", "text/javascript"),
    "/dashboard/view.js": (__name__, "view.js", "text/javascript"),
    "/dashboard/icon.svg": (__name__, "icon.svg", "image/svg+xml"),
    "/docs": (__name__, "docs.html", "text/html"),
    "/docs/start.js": (__name__, "docs.js", "text/javascript"),
    "/docs/swagger-ui.css": (_SWAGGER_UI, "swagger-ui.css", "text/css"),
    "/docs/swagger-ui-bundle.js": (_SWAGGER_UI, "swagger-ui-bundle.js", "text/javascript"),
}

_HEADERS = {
    # The values on the page come from agents that nobody has vetted. Nothing but the page's own files may
    # run, and the API key that somebody types in can go nowhere but to this server.
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}
_POLICY = "content-security-policy"
_DOCS_HEADERS = {  # Swagger UI sets styles inline and draws its icons from data: URLs
    **_HEADERS,
    _POLICY: _HEADERS[_POLICY]
    .replace("style-src 'self'", "style-src 'self' 'unsafe-inline'")
    .replace("img-src 'self'", "img-src 'self' data:"),
}


def routes() -> list[Route]:
    """Return the routes of the pages; the live page answers under the server's own names only."""
    return [
        Route(path, _endpoint(path, *file), methods=["GET"], include_in_schema=False)
        for path, file in _FILES.items()
    ]


def _endpoint(
    path: str, package: str, name: str, media_type: str
) -> Callable[[Request], Awaitable[Response]]:
    content = files(package).joinpath(name).read_bytes()
    headers = _DOCS_HEADERS if path == "/docs" else _HEADERS

    async def serve(request: Request) -> Response:
        if not path.startswith("/docs"):
            services: Services = request.app.state.services
            check_host(request.scope, services.settings.allowed_hosts)
        return Response(content, media_type=media_type, headers=headers)

    return serve
