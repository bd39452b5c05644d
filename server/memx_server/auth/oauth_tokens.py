"""The tokens of an OAuth issuer, which name a caller of ``/mcp`` and grant nothing by themselves."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import jwt

from memx_sdk.protocol.errors import ProtocolError
from memx_server.auth.grants import OAUTH_ENTRY
from memx_server.auth.oauth_issuer import ALGORITHMS, IssuerKeys
from memx_server.settings import OAuthSettings

WELL_KNOWN: Final = "/.well-known/oauth-protected-resource"

_LONGEST_TOKEN: Final = 8192
_LONGEST_SUBJECT: Final = 255
"""OpenID Connect Core 1.0, section 2."""
_SKEW: Final = 5.0
"""Seconds by which the issuer's clock may be ahead of this one."""


@dataclass(frozen=True)
class OAuthToken:
    """What a good token says.

    Attributes:
        subject: The entry of the ACL that it names: ``oauth:<sub>``.
        expires_at: Unix seconds.
    """

    subject: str
    expires_at: float


class OAuthTokens:
    """Checks tokens: signed by the issuer, for this resource, not expired.

    Args:
        settings: Which issuer, and which resource.
    """

    def __init__(self, settings: OAuthSettings) -> None:
        self._settings = settings
        self.keys = IssuerKeys(settings.issuer)

    def verify(self, token: str) -> OAuthToken:
        """Check a token.

        Raises:
            ProtocolError: ``unauthenticated`` where it is not good; ``unavailable`` while there are no keys yet.
        """
        if len(token) > _LONGEST_TOKEN:
            raise _refused(f"it is longer than {_LONGEST_TOKEN} characters")
        if not self.keys.known:
            raise ProtocolError(
                "unavailable", "the keys of the issuer of tokens are not there yet; try again soon"
            )
        try:
            header = jwt.get_unverified_header(token)
            algorithm, name = header.get("alg"), header.get("kid")
            if algorithm not in ALGORITHMS:
                raise _refused(f"it is not signed by {' or '.join(ALGORITHMS)}")
            key = self.keys.find(algorithm, name)
            if key is None:
                raise _refused("it is signed by a key that the issuer does not name; get a new one")
            claims = jwt.decode(
                token,
                key.key,
                algorithms=[algorithm],
                audience=self._settings.resource,
                issuer=self._settings.issuer,
                leeway=_SKEW,
                options={"require": ["iss", "aud", "exp", "sub"]},
            )
        except jwt.PyJWTError as error:
            raise _refused(str(error)) from None
        except RecursionError:
            raise _refused("it is nested too deeply") from None
        # The skew is for the issuer's clock, which sets `iat` and `nbf`; the end of a token is its end.
        expires_at = float(claims["exp"])
        if expires_at <= time.time():
            raise _refused("it has expired")
        subject = claims["sub"]
        if not 0 < len(subject) <= _LONGEST_SUBJECT or not subject.isprintable():
            raise _refused(f"its sub takes 1 to {_LONGEST_SUBJECT} printable characters")
        return OAuthToken(f"{OAUTH_ENTRY}{subject}", expires_at)

    @property
    def metadata_url(self) -> str:
        """Where a client reads which issuer it is: before the path of the resource (RFC 9728, section 3.1)."""
        parts = urlsplit(self._settings.resource)
        return urlunsplit(parts._replace(path=f"{WELL_KNOWN}{parts.path.rstrip('/')}"))

    @property
    def metadata_paths(self) -> frozenset[str]:
        """The paths at which this server answers with it; a proxy may keep a part of the resource's path."""
        return frozenset({WELL_KNOWN, f"{WELL_KNOWN}/mcp", urlsplit(self.metadata_url).path})

    def metadata(self) -> dict[str, object]:
        """Describe the resource (RFC 9728, section 2)."""
        return {
            "resource": self._settings.resource,
            "authorization_servers": [self._settings.issuer],
            "bearer_methods_supported": ["header"],
            "resource_name": "memX",
        }


def _refused(reason: str) -> ProtocolError:
    return ProtocolError("unauthenticated", f"this token cannot be used: {reason}")
