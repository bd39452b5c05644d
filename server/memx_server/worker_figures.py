"""The figures of all workers of a server, whichever of them is asked.

Each worker leaves its figures in a folder that all of them share, once a second and as it ends. Whoever is asked adds
the others' to its own. Counters of a worker that has ended stay in the sum, so that no counter ever falls; gauges of it
are gone with it.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from prometheus_client.core import Metric

VARIABLE = "MEMX_WORKER_FIGURES"
"""Names the folder; `memx serve` makes it for its workers."""

_INTERVAL = 1.0
"""Seconds between two snapshots, and so the most by which the others' figures are old."""

_ADDED = frozenset({"counter", "histogram"})
_NEWEST = "process_"
"""Figures of a process say nothing when they are added up: each keeps its worker."""

Document = list[dict[str, Any]]


class WorkerFigures:
    """The snapshots of a server's workers.

    Args:
        folder: Where they are.
        collect: Returns the figures of this worker.
    """

    def __init__(self, folder: Path, collect: Callable[[], Iterable[Metric]]) -> None:
        self._folder = folder
        self._collect = collect
        self._own = folder / f"{os.getpid()}.json"

    async def run(self) -> None:
        """Leave a snapshot now and then; the last one as this is cancelled."""
        try:
            while True:
                self.save()
                await asyncio.sleep(_INTERVAL)
        finally:
            self.save()

    def save(self) -> None:
        """Leave a snapshot of this worker; a scrape that comes meanwhile finds the old one or the new one."""
        part = self._own.with_suffix(".part")
        try:
            part.write_text(json.dumps([_document(each) for each in self._collect()]))
            part.replace(self._own)
        except OSError:
            pass  # the folder went with the server, or the disk is full: a scrape then shows less

    def others(self) -> Iterator[tuple[str, bool, Document]]:
        """Yield the snapshots of the other workers: the worker, whether it lives, and its figures."""
        for path in sorted(self._folder.glob("*.json")):
            if path == self._own:
                continue
            try:
                yield path.stem, _lives(int(path.stem)), json.loads(path.read_text())
            except (OSError, ValueError):
                continue  # what is no snapshot, or is gone by now


def merged(
    own: Iterable[Metric], worker: str, others: Iterable[tuple[str, bool, Document]]
) -> Iterator[Metric]:
    """Add the figures of all workers up.

    Args:
        own: The figures of this worker.
        worker: Its name.
        others: Those of the others, as `WorkerFigures.others` gives them.
    """
    families: dict[str, Metric] = {}
    sums: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], float]] = {}
    documents = [(worker, True, [_document(each) for each in own])]
    for name, lives, document in [*documents, *others]:
        for family in document:
            # What a worker held is gone with it; what it has done stays done.
            if not lives and family["type"] not in _ADDED:
                continue
            title = family["name"]
            families.setdefault(title, Metric(title, family["about"], family["type"]))
            added = sums.setdefault(title, {})
            for sample, labels, value in family["samples"]:
                if title.startswith(_NEWEST):
                    if not lives:
                        continue
                    labels = {**labels, "worker": name}
                place = (sample, tuple(sorted(labels.items())))
                # An information has one value, however many tell it.
                added[place] = value if title.endswith("_info") else added.get(place, 0.0) + value
    for title, merged_family in families.items():
        for (sample, named), value in sums[title].items():
            merged_family.add_sample(sample, dict(named), value)
        yield merged_family


def _document(family: Metric) -> dict[str, Any]:
    samples: list[tuple[str, Mapping[str, str], float]] = [
        (each.name, each.labels, each.value) for each in family.samples
    ]
    return {
        "name": family.name,
        "about": family.documentation,
        "type": family.type,
        "samples": samples,
    }


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # it is another user's, and so lives
    return True
