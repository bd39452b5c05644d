"""The access of processes that open the folder of a store."""

from __future__ import annotations

from pathlib import Path

from memx_server.auth.acl_file import AclFile
from memx_server.auth.base import Authenticator
from memx_server.domain.access import Principal, Scopes


class FolderAccess:
    """The authenticator of an embedded store: a caller without an API key acts as the folder's owner.

    Who can open the folder can read and change its files anyway. An API key is checked where the
    folder holds an ACL file; where it holds none, a key changes nothing.

    Args:
        acl_file: Where the ACL file would be.
    """

    def __init__(self, acl_file: Path) -> None:
        self._owner = Principal("local", Scopes.of(["*"], ["*"]), credential="local")
        self._acl: Authenticator | None = AclFile(acl_file) if acl_file.exists() else None

    async def authenticate(self, credential: str | None) -> Principal:
        """Return the principal of ``credential``."""
        if credential is None or self._acl is None:
            return self._owner
        return await self._acl.authenticate(credential)

    async def current(self, credential: str) -> Principal | None:
        """Return the present principal of the API key with this digest; None where it is revoked."""
        if credential == self._owner.credential or self._acl is None:
            return self._owner
        return await self._acl.current(credential)
