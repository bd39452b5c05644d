"""``memx open``: the server's own page, in a browser."""

from __future__ import annotations

import webbrowser

import typer

from memx_sdk.cli.checks import Finding, ask, is_network, over_http
from memx_sdk.cli.exits import ExitCode
from memx_sdk.cli.output import Output
from memx_sdk.cli.session import Connection, connection_options
from memx_sdk.config import options_from, shown_url
from memx_sdk.errors import MemxError


@connection_options
def open_(connection: Connection) -> None:
    """Open the server's page in a browser: keys, changes, history and who is active, live."""
    output = Output(as_json=connection.json)
    try:
        url = over_http(options_from(base_url=connection.url).base_url)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    if not is_network(url):
        raise typer.BadParameter(f"{shown_url(url)} has no page; `memx dev` serves one")
    # A browser would show a page of its own where nothing answers, and the terminal nothing at all.
    answer = ask(f"{url}/healthz", connection.timeout)
    if isinstance(answer, Finding):
        output.failure(MemxError("connection", answer.detail))
        raise typer.Exit(ExitCode.UNREACHABLE)
    # The API key is not put into the address, which browsers keep in their history: the page asks for it.
    opened = webbrowser.open(f"{url}/")
    if connection.json:
        output.document({"url": f"{url}/", "opened": opened})
    elif opened:
        output.note(f"{shown_url(url)}/ is open in your browser; it asks for the API key")
    else:
        output.line(f"{shown_url(url)}/")
        output.note("there is no browser here; open this address in one that reaches the server")
