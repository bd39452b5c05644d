"""``GET /metrics``: figures for Prometheus. No key, space, agent or API key is in them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from ipaddress import ip_address
from itertools import accumulate
from time import perf_counter
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse, Response
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector, CollectorRegistry

from memx_sdk.protocol.errors import ProtocolError
from memx_server import __version__
from memx_server.domain.counters import BOUNDS
from memx_server.routes.api.errors import not_found
from memx_server.routes.api.origin_checks import LOOPBACK, calls_by_name
from memx_server.routes.asgi import Scope
from memx_server.services import Services
from memx_server.worker_figures import merged

PATH = "/metrics"

router = APIRouter(tags=["operation"])

_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"description": "Prometheus's text format", "content": {"text/plain": {}}},
    403: {"description": "`forbidden`: this server shows them on its own machine only"},
    404: {"description": "`not_found`: this server shows none"},
}


@router.get(
    PATH,
    summary="Figures for Prometheus",
    response_class=PlainTextResponse,
    responses=_ANSWERS,
)
async def metrics(request: Request) -> Response:
    """Show what this process has done and holds; `MEMX_METRICS` says who may see it."""
    services: Services = request.app.state.services
    _check_reader(request.scope, services)
    asked_at = perf_counter()
    is_up = await services.health.answers()
    figures = _OfAllWorkers(services, is_up, perf_counter() - asked_at)
    encode, content_type = choose_encoder(request.headers.get("accept", ""))
    registry = CollectorRegistry(auto_describe=False)
    registry.register(figures)
    return Response(encode(registry), headers={"content-type": content_type})


def _check_reader(scope: Scope, services: Services) -> None:
    settings = services.settings
    if settings.metrics == "off":
        raise not_found(PATH)
    # The address alone does not do: a page in a browser on this machine comes from it too, under a name of its own.
    is_local = calls_by_name(scope, LOOPBACK) and _is_local(scope.get("client"))
    if settings.metrics == "local" and not is_local:
        raise ProtocolError(
            "forbidden",
            "this server shows its figures on its own machine only; its operator shows them to everybody "
            "who can reach it with MEMX_METRICS=open",
        )


def _is_local(peer: tuple[str, int] | None) -> bool:
    """Return whether a caller is on this machine; one without an address came by a socket file."""
    if peer is None:
        return True
    try:
        return ip_address(peer[0].partition("%")[0]).is_loopback
    except ValueError:
        return False


class _OfAllWorkers(Collector):
    """The figures of a server at the moment of a scrape, whichever worker answers."""

    def __init__(self, services: Services, store_is_up: bool, store_seconds: float) -> None:
        self._services = services
        self._store_is_up = store_is_up
        self._store_seconds = store_seconds

    def collect(self) -> Iterator[Metric]:
        """Yield every metric."""
        own = OwnFigures(self._services)
        # The store is one for all workers: who answers has asked it.
        yield own.make_gauge("memx_store_up", "Whether the store answers.", self._store_is_up)
        yield own.make_gauge(
            "memx_store_response_seconds",
            "How long the store took to answer this scrape.",
            self._store_seconds,
        )
        shared = self._services.worker_figures
        if shared is None:
            yield from own.collect()
        else:
            # What a scrape has shown stays: the next one may be answered by another worker, after this one was killed.
            shared.save()
            yield from merged(own.collect(), str(os.getpid()), shared.others())


class OwnFigures:
    """The figures of this process.

    Args:
        services: The parts of the server.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        # Where the workers do not know of each other, a scrape sees one of them. Without a label the counters
        # would seem to fall, and be added up.
        settings = services.settings
        alone = settings.workers == 1 or settings.worker_figures is not None
        self._labels = {} if alone else {"worker": str(os.getpid())}

    def collect(self) -> Iterator[Metric]:
        """Yield every metric of this process."""
        services = self._services
        yield self._gauge("memx_build_info", "The server's version.", 1, version=__version__)
        yield self._gauge("memx_workers", "Worker processes that serve.", 1)
        yield from self._requests()
        spaces, subscriptions = services.feed.count_listeners()
        yield self._gauge("memx_connections", "Open connections.", services.sessions.count())
        yield self._gauge("memx_subscriptions", "Subscriptions to the feed.", subscriptions)
        yield self._gauge("memx_feed_spaces", "Spaces whose changes are followed.", spaces)
        tally = services.feed.counters
        yield self._counter(
            "memx_feed_slow_subscribers",
            "Subscribers that were too slow for their queue and had to read the log.",
            tally.fell_behind,
        )
        yield self._counter(
            "memx_feed_repairs",
            "Times that a notice of the store was lost, late or too large, and the log was read.",
            tally.repairs,
        )
        yield self._counter(
            "memx_feed_lost_histories",
            "Times that the history which a feed followed turned out to be lost.",
            tally.lost_histories,
        )
        yield self._counter(
            "memx_feed_fruitless_resets",
            "Times that a feed or a subscriber started over and could not read the log again.",
            tally.fruitless_resets,
        )
        yield from self._process()

    def _process(self) -> Iterator[Metric]:
        for family in ProcessCollector(registry=None).collect():
            family.samples = [each._replace(labels=dict(self._labels)) for each in family.samples]
            yield family

    def _requests(self) -> Iterator[Metric]:
        names = list(self._labels)
        values = list(self._labels.values())
        requests = CounterMetricFamily(
            "memx_requests",
            "Requests over every road, by operation and outcome: ok or the error's code.",
            labels=["operation", "outcome", *names],
        )
        for (operation, outcome), count in self._services.requests.by_outcome.items():
            requests.add_metric([operation, outcome, *values], count)
        yield requests
        times = HistogramMetricFamily(
            "memx_request_duration_seconds",
            "How long requests took; a long poll's waiting counts.",
            labels=["operation", *names],
        )
        edges = [*map(str, BOUNDS), "+Inf"]
        for operation, taken in self._services.requests.times.items():
            buckets = list(zip(edges, accumulate(taken.counts), strict=True))
            times.add_metric([operation, *values], buckets, taken.seconds)
        yield times

    def make_gauge(self, name: str, about: str, value: float) -> Metric:
        """Make a gauge of this process."""
        return self._gauge(name, about, value)

    def _gauge(self, name: str, about: str, value: float, **labels: str) -> Metric:
        every = {**labels, **self._labels}
        family = GaugeMetricFamily(name, about, labels=list(every))
        family.add_metric(list(every.values()), value)
        return family

    def _counter(self, name: str, about: str, value: float) -> Metric:
        family = CounterMetricFamily(name, about, labels=list(self._labels))
        family.add_metric(list(self._labels.values()), value)
        return family
