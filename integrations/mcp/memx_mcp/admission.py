"""What is asked of a request before it reaches MCP: by which name and page it comes, and its API key or token."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Scope

from memx_sdk.display import escaped

LOOPBACK_HOSTS = ("127.0.0.1:*", "localhost:*", "[::1]:*")
LOOPBACK_ORIGINS = ("http://127.0.0.1:*", "http://localhost:*", "http://[::1]:*")

SUBJECT = "memx_mcp.subject"
"""In a scope: whom a verified token names."""


@dataclass(frozen=True)
class Names:
    """The names of a server and of the pages that may call it.

    Attributes:
        hosts: ``Host`` headers that are answered (against DNS rebinding); ``:*`` stands for any port, a lone ``*``
            for all.
        origins: ``Origin`` headers that are answered, in the same way; requests without one always are.
        hosts_setting: What an operator sets to add a host, for the error.
        origins_setting: The same for an origin.
    """

    hosts: Sequence[str]
    origins: Sequence[str]
    hosts_setting: str
    origins_setting: str

    def refusal(self, scope: Scope) -> Response | None:
        """Return the answer to a request by a foreign name or page; None where both are known."""
        headers = Headers(scope=scope)
        if not _matches(headers.get("host", ""), self.hosts):
            # 421, as the MCP SDK answers, tells a client that it has the wrong server (RFC 9110, section 15.5.20).
            return error_response(
                421,
                "forbidden",
                "this server does not go by the name in the header Host; an operator gives it further names by "
                f"{self.hosts_setting}",
            )
        origin = headers.get("origin")
        if origin and not _matches(origin, self.origins):
            return error_response(
                403,
                "forbidden",
                f"pages of {escaped(origin[:200])} may not connect here; an operator permits them by "
                f"{self.origins_setting}, and further names of this server by {self.hosts_setting}",
            )
        return None


class VerifiedToken(Protocol):
    """What a token says that an issuer has signed."""

    @property
    def subject(self) -> str:
        """Whom it names, as an entry of the ACL: ``oauth:<sub>``."""

    @property
    def expires_at(self) -> float:
        """Unix seconds."""


class TokenVerifier(Protocol):
    """Checks the tokens of an OAuth issuer."""

    @property
    def metadata_url(self) -> str:
        """Where clients read which issuer it is (RFC 9728)."""

    def verify(self, token: str) -> VerifiedToken:
        """Check a token.

        Raises:
            UnauthenticatedError: It is none, is not for this resource, or has expired.
            UnavailableError: The issuer's keys are not there yet.
        """


def token_of(scope: Scope) -> str | None:
    """Return the JSON Web Token that a request brings in place of an API key; None where it brings none."""
    headers = Headers(scope=scope)
    # An API key decides where both come, as on every other road.
    if headers.get("x-api-key"):
        return None
    kind, _, token = headers.get("authorization", "").partition(" ")
    token = token.strip()
    # RFC 7519: three parts, of which the first is the base64url of a JSON object. API keys look otherwise.
    is_token = kind.lower() == "bearer" and token.startswith("ey") and token.count(".") == 2
    return token if is_token else None


def challenge(detail: str | None, metadata_url: str | None) -> Mapping[str, str]:
    """Make the header by which a 401 says what it wants (RFC 6750, section 3; RFC 9728, section 5.1).

    Args:
        detail: What is wrong with what came; None where nothing came, which is no error.
        metadata_url: Where a client finds the issuer of tokens, if there is one.
    """
    said = {"realm": "memX"}
    if detail is not None:
        # RFC 6750 allows printable ASCII without quotes and backslashes there.
        text = "".join(c if " " <= c <= "~" and c not in '"\\' else "'" for c in detail)
        said |= {"error": "invalid_token", "error_description": text}
    if metadata_url is not None:
        said["resource_metadata"] = metadata_url
    return {"WWW-Authenticate": "Bearer " + ", ".join(f'{n}="{v}"' for n, v in said.items())}


def error_response(
    status: int, code: str, detail: str, headers: Mapping[str, str] | None = None, **extra: Any
) -> Response:
    """Make an error of memX's one shape."""
    body = json.dumps({"error": code, "detail": detail, **extra})
    return Response(body, status, dict(headers or {}), media_type="application/json")


def _matches(value: str, allowed: Sequence[str]) -> bool:
    return any(
        each in ("*", value) or (each.endswith(":*") and value.startswith(each[:-1]))
        for each in allowed
    )
