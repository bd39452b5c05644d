"""HTTP load by wrk, and what it measured."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from typing import Any

import psutil

_MILLISECONDS = {"us": 0.001, "ms": 1.0, "s": 1000.0}


@dataclass(frozen=True)
class Call:
    """One HTTP request that is sent over and over.

    Attributes:
        body: JSON that is POSTed; None makes it a GET.
    """

    path: str
    body: Any = None


@dataclass(frozen=True)
class Load:
    """What a server did under load.

    Attributes:
        rate: Requests per second.
        p99: Milliseconds.
        cpu: Microseconds of processor time that the server spent on each request; unlike the rate,
            it says the same on a machine that others use too.
        failed: Answers that were no success, and connections that broke.
    """

    rate: float
    p99: float
    cpu: float
    failed: int


@dataclass(frozen=True)
class Target:
    """A server under load: where it answers, and its process."""

    url: str
    pid: int


def drive(target: Target, call: Call, *, seconds: float, clients: int, api_key: str) -> Load:
    """Send ``call`` from ``clients`` connections for a while.

    Raises:
        RuntimeError: wrk is not installed, or fails.
    """
    wrk = shutil.which("wrk")
    if wrk is None:
        raise RuntimeError("the benchmarks drive load by wrk; install it (Debian: wrk)")
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(_script(call))
        script.flush()
        command = [wrk, "-t1", f"-c{clients}", f"-d{seconds:g}s", "--latency", "-s", script.name]
        command += ["-H", f"x-api-key: {api_key}", target.url + call.path]
        before = _processor_time(target.pid)
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 30)
    if done.returncode != 0:
        raise RuntimeError(f"wrk failed: {done.stderr or done.stdout}")
    return _read(done.stdout, _processor_time(target.pid) - before)


def _processor_time(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


def _script(call: Call) -> str:
    if call.body is None:
        return ""
    body = json.dumps(call.body, separators=(",", ":"), ensure_ascii=False)
    return (
        f'wrk.method = "POST"\nwrk.body = [=[{body}]=]\n'
        'wrk.headers["content-type"] = "application/json"\n'
    )


def _read(text: str, processor_time: float) -> Load:
    rate = re.search(r"Requests/sec:\s+([0-9.]+)", text)
    p99 = re.search(r"99%\s+([0-9.]+)(us|ms|s)", text)
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    broken = re.search(
        r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text
    )
    requests = re.search(r"(\d+) requests in", text)
    if rate is None or p99 is None or requests is None:
        raise RuntimeError(f"wrk said nothing to the point: {text}")
    failed = int(refused[1]) if refused else 0
    failed += sum(int(each) for each in broken.groups()) if broken else 0
    return Load(
        rate=float(rate[1]),
        p99=float(p99[1]) * _MILLISECONDS[p99[2]],
        cpu=1e6 * processor_time / max(1, int(requests[1])),
        failed=failed,
    )
