"""HTTP load by wrk, and what it measured."""

from __future__ import annotations

import json
import math
import re
import secrets
import shutil
import signal
import subprocess
import tempfile
from dataclasses import dataclass
from typing import Any

from benchmarks.servers import API_KEY, Server
from benchmarks.table import Sample

CLIENTS = 32
"""Connections, each with one request under way."""

REVISION = "the revision that the answer before told"
"""As a body's ``if_revision``: each connection at a time writes a key of its own, and the condition holds."""

_MILLISECONDS = {"us": 0.001, "ms": 1.0, "s": 1000.0}


@dataclass(frozen=True)
class Call:
    """One HTTP request that is sent over and over.

    Attributes:
        body: JSON that is POSTed; None makes it a GET.
        script: A script for wrk that makes every request, where they differ.
    """

    path: str
    body: dict[str, Any] | None = None
    script: str = ""


def drive(server: Server, call: Call, seconds: float, *, clients: int = CLIENTS) -> Sample:
    """Send ``call`` from ``clients`` connections for a while.

    Raises:
        RuntimeError: wrk is not installed, or fails.
    """
    wrk = shutil.which("wrk")
    if wrk is None:
        raise RuntimeError("the benchmarks drive load by wrk; install it (Debian: wrk)")
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(wrk_script(call))
        script.flush()
        command = [wrk, "-t1", f"-c{clients}", f"-d{math.ceil(seconds)}s", "--latency"]
        command += ["-s", script.name, "-H", f"x-api-key: {API_KEY}", server.url + call.path]
        before = server.processor_time()
        text = _run(command, seconds)
    return _read(text, server.processor_time() - before)


def _run(command: list[str], seconds: float) -> str:
    """Run wrk; it only knows whole seconds, but tells its figures when it is interrupted."""
    whole = math.ceil(seconds) == seconds
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        text, _ = process.communicate(timeout=seconds + (30 if whole else 0))
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
        text, _ = process.communicate(timeout=30)
    if process.returncode != 0:
        raise RuntimeError(f"wrk failed: {text}")
    return text


def wrk_script(call: Call) -> str:
    if call.body is None:
        return call.script
    body = json.dumps(call.body, separators=(",", ":"), ensure_ascii=False)
    head = 'wrk.method = "POST"\nwrk.headers["content-type"] = "application/json"\n'
    if call.body.get("if_revision") != REVISION:
        return head + f"wrk.body = [=[{body}]=]\n"
    return head + _conditional(call.body)


def _conditional(body: dict[str, Any]) -> str:
    """Writes that name the revision: wrk does not say whose answer came, the answer names its key."""
    run, value = secrets.token_hex(4), json.dumps(body["value"], separators=(",", ":"))
    return f"""
local free = {{}}
for number = 1, 1000 do free[number] = {{"{body["key"]}:{run}:" .. number, "0"}} end
function request()
  local entry = table.remove(free)
  local head = '{{"key":"' .. entry[1] .. '","if_revision":' .. entry[2]
  return wrk.format(nil, nil, nil, head .. [=[,"value":{value}}}]=])
end
function response(status, headers, body)
  local key, revision = body:match('"key":"([^"]+)","revision":(%d+)')
  if key then table.insert(free, {{key, revision}}) end
end
"""


def _read(text: str, processor_time: float) -> Sample:
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
    return Sample(
        rate=float(rate[1]),
        p99=float(p99[1]) * _MILLISECONDS[p99[2]],
        cpu=1e6 * processor_time / max(1, int(requests[1])),
        failed=failed,
    )
