"""The folder and the ACL file of ``memx dev``."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from memx_sdk.protocol.errors import ProtocolError
from memx_server.auth.acl_file import read_grants
from memx_server.auth.grants import digest_of, label_of
from memx_server.auth.sample_keys import LOCAL_DEV_KEY
from memx_server.settings import DEFAULT_ACL_FILE

_LOCAL_GRANT = {"agent": "dev", "read": ["*"], "write": ["*"]}


@dataclass(frozen=True)
class LocalSetup:
    """The files of a local server.

    Attributes:
        folder: The folder with the database.
        acl_file: The file of API keys.
        key_was_made: Whether the file was made just now, with ``LOCAL_DEV_KEY`` in it.
        shown_key: ``LOCAL_DEV_KEY`` where the file holds it; None otherwise, since no other key may be shown.
    """

    folder: Path
    acl_file: Path
    key_was_made: bool
    shown_key: str | None

    @property
    def store_url(self) -> str:
        """The database as the setting ``MEMX_STORE_URL``."""
        return f"sqlite:{self.folder / 'memx.db'}"


def prepare(folder: Path | None, acl_file: Path | None) -> LocalSetup:
    """Make the folder, and an ACL file where none is given or found.

    Args:
        folder: Default: a folder in the user's data directory.
        acl_file: Default: ``config/acl.json`` where there is one, else ``acl.json`` in the folder.

    Raises:
        OSError: The folder or the file cannot be made or read.
    """
    folder = (folder or platformdirs.user_data_path("memx")).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    # A file that was named is never made: a mistyped name would open the server with the well-known key.
    if acl_file is None:
        acl_file = DEFAULT_ACL_FILE if DEFAULT_ACL_FILE.exists() else folder / "acl.json"
        made = not acl_file.exists()
        if made:
            _make_acl(acl_file)
    else:
        made = False
    return LocalSetup(folder, acl_file, made, _well_known_key(acl_file))


def acl_fault(path: Path) -> str | None:
    """Return what keeps ``path`` from being used as an ACL file, as a sentence; None where nothing does."""
    try:
        grants = read_grants(path.read_bytes())
    except FileNotFoundError:
        return f"there are no API keys: {path} does not exist; name a file with --acl"
    except OSError as error:
        return f"cannot read the API keys in {path}: {error.strerror}"
    except (ValueError, ProtocolError) as error:
        return (
            f"{path} is no ACL file: {error}; it maps each API key to a list of patterns, "
            "or to an object with read, write and more"
        )
    return None if grants else f"{path} holds no API key"


def agents_with_several_scopes(path: Path) -> list[tuple[str, str, list[str]]]:
    """Find the agents for which an ACL file has several valid keys with different scopes.

    Durable subscriptions and whatever else belongs to a principal are shared by the keys of one agent and space, so
    that a key can be replaced by another. That is meant for keys that may do the same.

    Returns:
        For each the agent's name, its space, and the labels of its keys.
    """
    kinds: dict[tuple[str, str], dict[tuple[frozenset[str], ...], list[str]]] = {}
    for digest, grant in read_grants(path.read_bytes()).items():
        if grant.agent is None or grant.has_expired:
            continue
        admin = grant.write if grant.admin is None else grant.admin
        scopes = (frozenset(grant.read), frozenset(grant.write), frozenset(admin))
        labels = kinds.setdefault((grant.agent, grant.space), {}).setdefault(scopes, [])
        labels.append(label_of(digest))
    return [
        (agent, space, [label for labels in by_scopes.values() for label in labels])
        for (agent, space), by_scopes in kinds.items()
        if len(by_scopes) > 1
    ]


def _make_acl(path: Path) -> None:
    # O_EXCL: of two servers that start together, one makes the file, and neither replaces the other's.
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(fd, "w", encoding="utf-8") as file:
        json.dump({LOCAL_DEV_KEY: _LOCAL_GRANT}, file, indent=2)
        file.write("\n")


def _well_known_key(path: Path) -> str | None:
    try:
        grants = read_grants(path.read_bytes())
    except (OSError, ValueError, ProtocolError):
        return None
    return LOCAL_DEV_KEY if digest_of(LOCAL_DEV_KEY) in grants else None
