"""What the routes work with: made once by ``create_app``, the same for every request."""

from __future__ import annotations

from dataclasses import dataclass, field

from memx_server.auth.base import Authenticator
from memx_server.domain.counters import RequestCounters
from memx_server.domain.feed.connections import OpenConnections
from memx_server.domain.feed.feed import Feed
from memx_server.domain.memory.memory import Memory
from memx_server.domain.presence.feed import PresenceFeed
from memx_server.domain.presence.registry import Presence
from memx_server.domain.rate_limit import RateLimiter
from memx_server.domain.schema.cache import SchemaCache
from memx_server.evaluation.pool import EvaluationPool
from memx_server.settings import Settings
from memx_server.storage.base import Store


@dataclass(slots=True)
class Services:
    """The parts of a running server.

    Attributes:
        settings: What the operator has set.
        authenticator: Turns credentials into principals.
        store: Where entries, schemas and the change log are kept.
        schemas: The schemas of the spaces in use.
        judges: Judge what would hold up the event loop.
        memory: Every operation on entries, schemas and the change log.
        feed: Tells subscribers of changes.
        sessions: The connections that are open.
        presence: Notes who is active, and tells.
        presence_feed: Shows it to those who ask.
        rates: Turns away who asks too often; None where everybody may.
        requests: Counts them.
    """

    settings: Settings
    authenticator: Authenticator
    store: Store
    schemas: SchemaCache
    judges: EvaluationPool
    memory: Memory
    feed: Feed
    sessions: OpenConnections
    presence: Presence
    presence_feed: PresenceFeed
    rates: RateLimiter | None = None
    requests: RequestCounters = field(default_factory=RequestCounters)
