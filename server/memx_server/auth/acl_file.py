"""The ACL file: its format, the authenticator that re-reads it, and the key store that changes it."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
from filelock import FileLock, Timeout

from memx_sdk.protocol.errors import ProtocolError
from memx_server.auth.base import missing_credential, unknown_credential
from memx_server.auth.grants import Grant, digest_of, label_of
from memx_server.auth.key_store import StoredKey
from memx_server.auth.sample_keys import sample_keys_in
from memx_server.domain.access import DEFAULT_SPACE, Principal
from memx_server.domain.values import check_exact

_log = logging.getLogger("memx_server.auth")

_STAT_INTERVAL = 1.0
"""Seconds between two checks whether the file has changed."""
_LOCK_DEADLINE = 10.0
"""Seconds to wait for another process that changes the file."""
_MISSING = (0, 0, 0)
"""The version of a file that cannot be read."""

_decode = msgspec.json.Decoder(dict[str, tuple[str, ...] | Grant]).decode


def read_grants(text: bytes) -> dict[bytes, Grant]:
    """Read the text of an ACL file.

    Returns:
        The grants, by the SHA-256 digest of their API key.

    Raises:
        ValueError: The text is no ACL file, or a name in it cannot be used; no message shows a key.
        ProtocolError: It holds a malformed pattern.
    """
    entries = _decode(text)
    try:
        check_exact(text)
    except ProtocolError:  # its detail may show a key
        raise ValueError("an API key, or a member of its grant, stands there twice") from None
    grants: dict[bytes, Grant] = {}
    for key, entry in entries.items():
        digest = digest_of(key)
        # A key may stand there in plain text and as its digest; neither entry may win silently.
        if digest in grants:
            raise ValueError(f"{label_of(digest)} stands there twice")
        grant = entry if isinstance(entry, Grant) else Grant(read=entry, write=entry, admin=entry)
        grants[digest] = grant.check()
    return grants


class AclFile:
    """Authenticates against a file of API keys.

    A key stands there in plain text or as ``sha256:<hex>``. Keys are looked up by their digest, so
    that the time of a look-up reveals nothing about them. The file is re-read when it changes. A file
    that cannot be used leaves the last good one in force, and the log says why.

    Args:
        path: The file; it may come into being later.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._grants: dict[bytes, Grant] = {}
        self._principals: dict[bytes, Principal] = {}
        self._version: tuple[int, int, int] | None = None
        self._next_stat = 0.0

    async def authenticate(self, credential: str | None) -> Principal:
        """Return the principal of a request; see `Authenticator.authenticate`."""
        if credential is None:
            raise missing_credential()
        principal = self._find(hashlib.sha256(credential.encode()).digest())
        if principal is None:
            raise unknown_credential()
        return principal

    async def current(self, credential: str) -> Principal | None:
        """Return the principal that the API key of this digest stands for now."""
        return self._find(bytes.fromhex(credential))

    def count_sample_keys(self) -> int:
        """Return how many keys of the file are sample keys."""
        self._refresh()
        return sample_keys_in(self._grants)

    def _find(self, digest: bytes) -> Principal | None:
        if time.monotonic() >= self._next_stat:
            self._refresh()
        principal = self._principals.get(digest) or self._make_principal(digest)
        if principal is None or principal.expires_at is None:
            return principal
        return principal if principal.expires_at > time.time() else None

    def _make_principal(self, digest: bytes) -> Principal | None:
        # Principals are made at the first request of their key: a file may hold many thousand keys.
        grant = self._grants.get(digest)
        if grant is None:
            return None
        principal = self._principals[digest] = grant.principal(digest)
        return principal

    def _refresh(self) -> None:
        """Read the file again if it is another one than at the last check."""
        self._next_stat = time.monotonic() + _STAT_INTERVAL
        try:
            state = self._path.stat()
            # The inode tells an atomic replacement of the same size within one tick of the clock.
            version = (state.st_mtime_ns, state.st_size, state.st_ino)
            if version == self._version:
                return
            # It is noted before the file is read, so that a broken file is reported once.
            self._version = version
            grants = read_grants(self._path.read_bytes())
        except (OSError, ValueError, ProtocolError) as error:
            self._report(error)
            return
        # Principals of unchanged entries stay the same objects; see `Authenticator`.
        self._principals = {
            digest: principal
            for digest, principal in self._principals.items()
            if grants.get(digest) == self._grants.get(digest)
        }
        self._grants = grants
        _log.info("%s: %d API keys", self._path, len(grants))

    def _report(self, error: Exception) -> None:
        if isinstance(error, OSError):
            if self._version == _MISSING:
                return  # it was reported when the file went missing
            self._version = _MISSING
        standing = "no API key opens anything until it can be"
        if self._grants:
            standing = f"the {len(self._grants)} API keys read before stay in force"
        _log.error("%s cannot be used (%s): %s", self._path, error, standing)


class AclKeyStore:
    """Adds, lists and revokes the keys of an ACL file; see `KeyStore`.

    Everything else in the file stays as it is. A server that reads the file meanwhile sees the old
    text or the new one, never half of it: the new text replaces the file in one step. Two processes
    that change one file take turns by a lock on ``<file>.lock``, so that neither writes over what
    the other has added since it read the file.

    Args:
        path: The file; `add` makes it where there is none.
    """

    def __init__(self, path: Path) -> None:
        self._path = path.resolve()  # the target is replaced, so that a symbolic link stays one

    def add(self, stored: str, grant: Grant) -> None:
        """Store another key; see `KeyStore.add`."""
        with self._locked():
            self._replace({**self._entries(), stored: _entry(grant)})

    def keys(self) -> list[StoredKey]:
        """Return all keys, in the order of the file."""
        entries = self._entries()
        grants = _read_grants(json.dumps(entries).encode())
        return [StoredKey(stored, grants[digest_of(stored)]) for stored in entries]

    def revoke(self, stored: str) -> None:
        """Take a key out of the file."""
        with self._locked():
            entries = self._entries()
            entries.pop(stored, None)
            self._replace(entries)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        # The lock has a file of its own: the ACL file is replaced, and a lock on it would go with it.
        lock = FileLock(f"{self._path}.lock", timeout=_LOCK_DEADLINE)
        try:
            lock.acquire()
        except Timeout:
            raise ValueError(
                f"another process has been changing {self._path} for {_LOCK_DEADLINE:g} seconds"
            ) from None
        try:
            yield
        finally:
            lock.release()

    def _entries(self) -> dict[str, Any]:
        try:
            text = self._path.read_bytes()
        except FileNotFoundError:
            return {}
        _read_grants(text)
        entries: dict[str, Any] = json.loads(text)
        return entries

    def _replace(self, entries: dict[str, Any]) -> None:
        text = json.dumps(entries, indent=2, ensure_ascii=False).encode() + b"\n"
        _read_grants(text)  # a server must be able to use what is about to replace the file
        fd, name = tempfile.mkstemp(dir=self._path.parent, prefix=".acl-")  # of mode 0600
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(text)
                file.flush()
                # Without it, a power cut after the rename could leave an empty file.
                os.fsync(file.fileno())
            with suppress(FileNotFoundError):
                Path(name).chmod(self._path.stat().st_mode & 0o777)
            Path(name).replace(self._path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise


def _read_grants(text: bytes) -> dict[bytes, Grant]:
    try:
        return read_grants(text)
    except ProtocolError as error:
        raise ValueError(error.detail) from None


def _entry(grant: Grant) -> dict[str, Any]:
    """Return the entry of the file for a grant; members without a value are left out."""
    entry: dict[str, Any] = {
        "agent": grant.agent,
        "space": None if grant.space == DEFAULT_SPACE else grant.space,
        "read": list(grant.read),
        "write": list(grant.write),
        "admin": None if grant.admin is None else list(grant.admin),
        "expires_at": grant.expiry.isoformat() if grant.expiry else None,
    }
    return {name: value for name, value in entry.items() if value is not None}
