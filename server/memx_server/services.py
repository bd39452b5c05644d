"""What the routes work with: made once by ``create_app``, the same for every request."""

from __future__ import annotations

from dataclasses import dataclass, field

from memx_server.auth.base import Authenticator
from memx_server.domain.feed import Feed
from memx_server.domain.feed_sessions import Sessions
from memx_server.domain.memory import Memory
from memx_server.domain.presence import Presence
from memx_server.domain.presence_feed import PresenceFeed
from memx_server.domain.rates import RateLimiter
from memx_server.domain.schemas import SchemaCache
from memx_server.domain.tally import Requests
from memx_server.judge_pool import JudgePool
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
    judges: JudgePool
    memory: Memory
    feed: Feed
    sessions: Sessions
    presence: Presence
    presence_feed: PresenceFeed
    rates: RateLimiter | None = None
    requests: Requests = field(default_factory=Requests)
