"""The parts of a running server: made once by ``create_app``, the same for every request.

The store is none of them: the routes reach it through domain objects alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from memx_server.auth.base import Authenticator
from memx_server.domain.byte_budget import ByteBudget
from memx_server.domain.counters import RequestCounters
from memx_server.domain.evaluator import Evaluator
from memx_server.domain.feed.connections import OpenConnections
from memx_server.domain.feed.durable import Durable
from memx_server.domain.feed.feed import Feed
from memx_server.domain.memory.memory import Memory
from memx_server.domain.presence.feed import PresenceFeed
from memx_server.domain.presence.registry import Presence
from memx_server.domain.rate_limit import RateLimiter
from memx_server.domain.schema.cache import SchemaCache
from memx_server.domain.store_health import StoreHealth
from memx_server.domain.tickets import Tickets
from memx_server.evaluation.pool import EvaluationPool
from memx_server.settings import Settings
from memx_server.worker_figures import WorkerFigures


@dataclass(slots=True)
class Services:
    """The parts of a running server.

    Attributes:
        settings: What the operator has set.
        authenticator: Turns credentials into principals.
        schemas: The schemas of the spaces in use.
        evaluation: The processes that do what would hold up the event loop.
        evaluator: Decides what they do, and does the rest itself.
        memory: Every operation on entries, schemas and the change log.
        durable: How far subscribers of a name have got.
        tickets: Credentials for one connection of a browser.
        health: Whether the store can serve.
        feed: Sends changes to subscribers.
        sessions: The connections that are open.
        presence: Notes who is active.
        presence_feed: Lists who is active, and sends changes of it to subscribers.
        bodies: Counts what large requests under way hold.
        responses: Counts what large responses and snapshots hold until they are sent.
        rates: Refuses requests of an API key that come too often; None for no limit.
        requests: Counts them.
        worker_figures: The figures of the other workers; None where there are none.
    """

    settings: Settings
    authenticator: Authenticator
    schemas: SchemaCache
    evaluation: EvaluationPool
    evaluator: Evaluator
    memory: Memory
    durable: Durable
    tickets: Tickets
    health: StoreHealth
    feed: Feed
    sessions: OpenConnections
    presence: Presence
    presence_feed: PresenceFeed
    bodies: ByteBudget
    responses: ByteBudget
    rates: RateLimiter | None = None
    requests: RequestCounters = field(default_factory=RequestCounters)
    worker_figures: WorkerFigures | None = None
