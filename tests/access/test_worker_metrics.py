"""``/metrics`` of a server with several workers: one server's figures, whichever worker answers."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from memx_server.worker_figures import WorkerFigures, merged
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from tests.access.test_metrics import Figures, figure, figures, requests
from tests.support.memx_server import MemxServer
from tests.support.redis_server import RedisServer

KEY = {"x-api-key": "local_dev_key"}


def workers_of(found: Figures) -> set[int]:
    return {
        int(dict(labels)["worker"])
        for (name, labels) in found
        if name == "process_start_time_seconds"
    }


def scraped_until(url: str, holds: Callable[[Figures], bool]) -> Figures:
    """Scrape over connections of their own, so that each worker answers now and then."""
    deadline = time.monotonic() + 30
    while not holds(found := figures(url)):
        assert time.monotonic() < deadline, found
        time.sleep(0.1)
    return found


def test_all_workers_are_counted_and_what_a_dead_one_did_stays(redis_any: RedisServer) -> None:
    environ = {"REDIS_URL": redis_any.url}
    with MemxServer("serve", environ=environ, arguments=("--workers", "2")) as server:
        scraped_until(server.url, lambda found: len(workers_of(found)) == 2)
        for number in range(20):
            # A connection for each, as the workers take turns at accepting.
            httpx.post(f"{server.url}/set", json={"key": "w", "value": number}, headers=KEY)
        before = scraped_until(server.url, lambda found: requests(found, "set", "ok") == 20)
        assert figure(before, "memx_workers") == 2
        assert figure(before, "memx_request_duration_seconds_count", operation="set") == 20
        assert not any("worker" in dict(labels) for name, labels in before if name[0] == "m")

        victim = min(workers_of(before))
        os.kill(victim, signal.SIGKILL)
        # While it dies and is replaced every scrape is answered, and no counter falls.
        after = scraped_until(server.url, lambda found: len(workers_of(found) - {victim}) == 2)
        assert requests(after, "set", "ok") == 20
        assert figure(after, "memx_workers") == 2


def family(kind: type[Metric], name: str, value: float) -> Metric:
    made = kind(name, "about", labels=["a"])  # type: ignore[call-arg]  # a family, which takes labels
    made.add_metric(["x"], value)  # type: ignore[attr-defined]  # as above
    return made


def test_snapshots_are_whole_or_not_there(tmp_path: Path) -> None:
    own = [family(CounterMetricFamily, "memx_c", 1), family(GaugeMetricFamily, "memx_g", 5)]
    shared = WorkerFigures(tmp_path, lambda: own)
    with pytest.raises(TimeoutError):
        asyncio.run(asyncio.wait_for(shared.run(), 0.01))
    (saved,) = tmp_path.glob("*.json")
    assert saved.stem == str(os.getpid())
    # A worker that is gone, half a file, and what is no worker's.
    (tmp_path / "4194305.json").write_text(saved.read_text())
    (tmp_path / "7.json").write_text(saved.read_text()[:20])
    (tmp_path / "note.json").write_text("{}")

    (other,) = shared.others()
    assert other[:2] == ("4194305", False)
    found = {each.name: each.samples[0].value for each in merged(own, "1", [other])}
    assert found == {"memx_c": 2.0, "memx_g": 5.0}
    assert json.loads(saved.read_text())[0]["type"] == "counter"
