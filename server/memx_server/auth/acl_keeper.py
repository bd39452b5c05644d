"""API keys kept in an ACL file."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from memx_sdk.protocol.errors import ProtocolError
from memx_server.auth.acl_file import Grant, digest_of, read_grants
from memx_server.auth.issuing import KeptKey, KeyGrant
from memx_server.domain.access import DEFAULT_SPACE

_PATIENCE = 10.0
"""Seconds to wait for others who change the file."""


class AclKeeper:
    """Changes an ACL file, leaving what else stands in it as it is.

    A server that reads the file meanwhile sees the old one or the new one, never half of it; who changes it does so
    alone, behind a lock on ``<file>.lock``.
    """

    def __init__(self, path: Path) -> None:
        self._path = path.resolve()  # a link stays a link

    def add(self, stored: str, grant: KeyGrant) -> None:
        """Keep another key.

        Raises:
            OSError: The file cannot be read or written.
            ValueError: It is no ACL file, or would be none any more, or somebody holds it.
        """
        with self._alone():
            self._replace({**self._entries(), stored: _entry(grant)})

    def kept(self) -> list[KeptKey]:
        """List all.

        Raises:
            OSError: The file cannot be read.
            ValueError: It is no ACL file.
        """
        entries = self._entries()
        grants = _grants(json.dumps(entries).encode())
        return [KeptKey(stored, _granted(grants[digest_of(stored)])) for stored in entries]

    def revoke(self, stored: str) -> None:
        """Take a key out of the file.

        Raises:
            OSError: The file cannot be read or written.
            ValueError: It is no ACL file, or somebody holds it.
        """
        with self._alone():
            entries = self._entries()
            entries.pop(stored, None)
            self._replace(entries)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep other processes from reading what is about to be replaced, only to replace it in turn."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(f"{self._path}.lock", timeout=_PATIENCE)
        try:
            lock.acquire()
        except Timeout:
            raise ValueError(
                f"another process has been changing {self._path} for {_PATIENCE:g} seconds"
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
        _grants(text)
        entries: dict[str, Any] = json.loads(text)
        return entries

    def _replace(self, entries: dict[str, Any]) -> None:
        text = json.dumps(entries, indent=2, ensure_ascii=False).encode() + b"\n"
        _grants(text)
        fd, name = tempfile.mkstemp(dir=self._path.parent, prefix=".acl-")  # readable by us alone
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            with suppress(FileNotFoundError):
                held = self._path.stat()
                Path(name).chmod(held.st_mode & 0o777)
            Path(name).replace(self._path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise


def _grants(text: bytes) -> dict[bytes, Grant]:
    try:
        return read_grants(text)
    except ProtocolError as error:
        raise ValueError(error.detail) from None


def _entry(grant: KeyGrant) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "agent": grant.agent,
        "space": grant.space,
        "read": list(grant.read),
        "write": list(grant.write),
        "admin": None if grant.admin is None else list(grant.admin),
        "expires_at": grant.expires_at.isoformat() if grant.expires_at else None,
    }
    return {name: value for name, value in entry.items() if value is not None}


def _granted(grant: Grant) -> KeyGrant:
    expires_at = grant.expires_at
    if isinstance(expires_at, float):
        expires_at = datetime.fromtimestamp(expires_at, UTC)
    elif expires_at is not None and expires_at.tzinfo is None:
        expires_at = expires_at.replace(tzinfo=UTC)
    space = None if grant.space == DEFAULT_SPACE else grant.space
    return KeyGrant(grant.agent, space, grant.read, grant.write, grant.admin, expires_at)
