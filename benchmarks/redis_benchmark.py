"""What Redis itself can do, by the tool that comes with it."""

from __future__ import annotations

import shutil
import subprocess

from benchmarks.servers import Server
from benchmarks.table import Sample

_PIPELINE = 16
_PER_SECOND = 1_000_000
"""About what one Redis does; the tool is told a number and no time."""


def hammer(redis: Server, verb: str, size: int, seconds: float) -> Sample:
    """Run ``redis-benchmark -P 16`` for about ``seconds``.

    Args:
        redis: The server.
        verb: ``get`` or ``set``.
        size: Bytes of each value.
        seconds: How long, about.

    Raises:
        RuntimeError: It is not installed.
    """
    tool = shutil.which("redis-benchmark")
    if tool is None:
        raise RuntimeError("redis-benchmark is not installed (Debian: redis-tools)")
    count = max(1, int(_PER_SECOND * seconds))
    command = [tool, "-p", str(redis.port), "-t", verb, "-n", str(count), "-d", str(size)]
    command += ["-P", str(_PIPELINE), "-c", "32", "--csv"]
    before = redis.processor_time()
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=True)
    spent = redis.processor_time() - before
    names, values = (
        [cell.strip('"') for cell in line.split(",")] for line in done.stdout.splitlines()[-2:]
    )
    found = dict(zip(names, values, strict=True))
    return Sample(
        rate=float(found["rps"]), p99=float(found["p99_latency_ms"]), cpu=1e6 * spent / count
    )
