"""The SDK's entry points into this server: the transports ``embedded:`` and ``shared:``.

This is where the transports and the application meet; neither knows the other.
"""

from __future__ import annotations

from pathlib import Path

from memx_sdk.transport import TransportOptions
from memx_server.storage.lockfile import DatabaseLock
from memx_server.transports.embedded import EmbeddedTransport
from memx_server.transports.embedded_server import EmbeddedApplication, EmbeddedServers
from memx_server.transports.shared import SharedTransport

ACL_FILE = "acl.json"
"""The ACL file's name in a store's folder."""


def open_embedded(options: TransportOptions) -> EmbeddedTransport:
    """Make a transport to the folder that ``options.location`` names, for this process alone."""
    return EmbeddedTransport(options, _servers)


def open_shared(options: TransportOptions) -> SharedTransport:
    """Make a transport to the folder that ``options.location`` names, shared between processes."""
    return SharedTransport(options, _servers)


def _folder_application(database: Path, lock: DatabaseLock) -> EmbeddedApplication:
    """Build the application of a folder."""
    # The server takes a second to import, or several on a busy machine. A process that finds the folder
    # open elsewhere never comes here.
    from memx_server.app import create_app, space_quotas
    from memx_server.auth.folder_access import FolderAccess
    from memx_server.settings import Settings
    from memx_server.storage.sqlite import SqliteStore

    settings = Settings()
    return create_app(
        settings,
        store=SqliteStore(database, quotas=space_quotas(settings.limits), lock=lock),
        authenticator=FolderAccess(database.with_name(ACL_FILE)),
    )


_servers = EmbeddedServers(_folder_application)
"""The embedded servers of this process: contexts that name one folder share one of them."""
