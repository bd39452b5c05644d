"""Much of a thing beside little of it: nothing on the way of a get or a set should grow with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from benchmarks.growth_site import Shape, Site, running
from benchmarks.growth_traffic import Operation, traffic
from benchmarks.load import drive
from benchmarks.plan import Measurement, Plan
from benchmarks.table import Row

TITLE = "Growth: requests spread over all there are; the floor has few"

_AIM = 0.95
_AIMED_AT = 100_000
"""Beyond this many of a thing no ratio is promised."""

_OPERATIONS: Final[tuple[Operation, ...]] = ("set", "get")


@dataclass(frozen=True)
class Growth:
    """What there is more and more of.

    Attributes:
        sizes: How many; the first is what the others stand beside.
        shape: Says what a site of a size holds.
    """

    what: str
    sizes: tuple[int, ...]
    shape: Callable[[int], Shape]


def growths(*, quick: bool) -> tuple[Growth, ...]:
    """What is measured."""
    key_sizes = (1_000, 100_000) if quick else (1_000, 100_000, 1_000_000)
    # As many writes at each size, so that their logs are alike: 250,000 fill one.
    writes = 100_000 if quick else 250_000
    long = () if quick else _long_growths()
    return (
        Growth("keys", key_sizes, lambda size: Shape(keys=size, writes=writes)),
        Growth("schemas", (1, 1_000), lambda size: Shape(schemas=size)),
        Growth(
            "spaces",
            (1, 10_000),
            lambda size: Shape(keys=10_000, api_keys=10_000, spaces=size),
        ),
        Growth("API keys", (1, 10_000), lambda size: Shape(keys=10_000, api_keys=size)),
        Growth("subscribers", (1, 1_000), lambda size: Shape(subscribers=size)),
        *long,
    )


def _long_growths() -> tuple[Growth, ...]:
    """What takes long to set up: a hundred times as many of what each request asks for by name."""
    return (
        Growth(
            "spaces",
            (1_000, 100_000),
            lambda size: Shape(keys=100_000, api_keys=100_000, spaces=size),
        ),
        Growth("API keys", (1_000, 100_000), lambda size: Shape(keys=100_000, api_keys=size)),
    )


def measure(plan: Plan) -> list[Row]:
    """Measure gets and sets at every size."""
    if plan.quick:
        plan = replace(plan, rounds=1, seconds=min(plan.seconds, 0.5))
    return [row for each in growths(quick=plan.quick) for row in _measure_one(each, plan)]


def _measure_one(growth: Growth, plan: Plan) -> Iterator[Row]:
    with _sites([growth.shape(size) for size in growth.sizes]) as (small, *larger):
        for size, site in zip(growth.sizes[1:], larger, strict=True):
            for operation in _OPERATIONS[:1] if plan.quick else _OPERATIONS:
                row = Row(
                    TITLE,
                    f"{size:,} {growth.what}: {operation}",
                    "little of it (1, or 1,000 where there are 100,000 or more)",
                    aim=_AIM if size <= _AIMED_AT else None,
                    note=memory_note(size - growth.sizes[0], small, site),
                )
                yield plan.alternate(row, _load(site, operation), _load(small, operation))


def memory_note(more: int, small: Site, large: Site) -> str:
    """Say what one more takes, told from what ``more`` of them took."""
    server = (large.server_bytes - small.server_bytes) / more
    redis = (large.redis_bytes - small.redis_bytes) / more
    return f"each takes {max(0, server):,.0f} B in the server, {max(0, redis):,.0f} B in Redis"


def _load(site: Site, operation: Operation) -> Measurement:
    return partial(drive, site.server, traffic(site.shape, operation))


@contextmanager
def _sites(shapes: list[Shape]) -> Iterator[list[Site]]:
    """Start and fill all at the same time."""
    with ExitStack() as stack, ThreadPoolExecutor() as pool:
        yield list(pool.map(lambda shape: stack.enter_context(running(shape)), shapes))
