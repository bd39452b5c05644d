"""The redaction of log records: no credential and no value of an entry reaches the log, at any level."""

from __future__ import annotations

import json
import logging
import re
from datetime import UTC, datetime
from typing import Any

_SHOWN_HEADERS = frozenset(
    (
        "connection",
        "content-length",
        "content-type",
        "date",
        "host",
        "origin",
        "upgrade",
        "user-agent",
    )
)
_HIDDEN = "***"
_DONE = "memx_redacted"

# What follows the name of a credential is one, up to the quote that closes it, else to the end of the line: an API key
# may hold spaces, and `Authorization` takes a scheme before its credential.
_CREDENTIAL = re.compile(
    r"""((?:x-api-key|apikey|authorization|cookie|ticket|service_key)(?:\\?["'])?\s*[:=,]\s*)"""
    r"""(?:b?(["'])(?:(?!\2).)*\2?|[^\r\n]+)""",
    re.IGNORECASE,
)
_IN_URL = re.compile(r"""([?&](?:ticket|api_?key)=)[^\s&"']*""", re.IGNORECASE)


def redact(text: str) -> str:
    """Return ``text`` with what stands for credentials replaced by ``***``."""
    text = _IN_URL.sub(rf"\1{_HIDDEN}", text)
    return _CREDENTIAL.sub(rf"\1{_HIDDEN}", text)


class RedactionFilter(logging.Filter):
    """Takes the contents out of what the WebSocket library logs of frames and headers (its level is DEBUG).

    A frame holds the values that are written and read, a header may hold a credential in any form. What is not known
    to be harmless is therefore left out, and not only what is known to be a secret.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Change ``record`` in place; every record is logged."""
        args = record.args
        # The logger and the handler may both have this filter.
        if not isinstance(args, tuple) or record.__dict__.get(_DONE):
            return True
        record.__dict__[_DONE] = True
        match record.msg, args:
            case (("< %s" | "> %s"), (frame,)):
                record.args = (_without_content(frame),)
            case (("< %s: %s" | "> %s: %s"), (name, _)) if str(name).lower() not in _SHOWN_HEADERS:
                record.args = (name, _HIDDEN)
            case "< GET %s HTTP/1.1", (path,):
                record.args = (str(path).partition("?")[0],)
        return True


def _without_content(frame: Any) -> str:
    opcode, data = getattr(frame, "opcode", None), getattr(frame, "data", None)
    if opcode is None or data is None:
        return _HIDDEN
    return f"{getattr(opcode, 'name', opcode)} ({len(data)} bytes)"


class RedactingFormatter(logging.Formatter):
    """Formats a record, and takes out the credentials that are left in its text or its traceback."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line for ``record``."""
        return redact(super().format(record))


class JsonFormatter(RedactingFormatter):
    """Formats a record as one JSON object, for programs that collect logs."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line for ``record``."""
        when = datetime.fromtimestamp(record.created, UTC)
        document = {
            "time": when.isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": redact(record.getMessage()),
        }
        if record.exc_info:
            document["exception"] = redact(self.formatException(record.exc_info))
        # What a record brings as fields of its own is not in need of redaction: memX alone puts it there.
        document |= record.__dict__.get("memx_fields", {})
        return json.dumps(document, default=str)


def redact_uvicorn() -> None:
    """Redact what uvicorn's logger logs, whatever started the server and configured the logging."""
    logger = logging.getLogger("uvicorn.error")
    if not any(isinstance(each, RedactionFilter) for each in logger.filters):
        logger.addFilter(RedactionFilter())
