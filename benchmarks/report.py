"""The figures of a run as JSON, with all that one needs to know to compare them."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.plan import Plan
from benchmarks.table import Row
from tests.support.redis_server import newest_redis

_PACKAGES = (
    "memx-server",
    "memx-sdk",
    "uvicorn",
    "uvloop",
    "httptools",
    "redis",
    "hiredis",
    "fastapi",
    "starlette",
    "websockets",
    "httpx",
    "mcp",
    "langchain-core",
    "autogen-core",
)


def write(path: Path, plan: Plan, rows: list[Row]) -> None:
    """Write a run's figures to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(as_dict(plan, rows), indent=2, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


def as_dict(plan: Plan, rows: list[Row]) -> dict[str, Any]:
    """The run: when, where, with what and how; then the rows."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join(["python -m benchmarks", *sys.argv[1:]]),
        "plan": asdict(plan),
        "machine": machine(),
        "versions": versions(),
        "rows": [row.as_dict() for row in rows],
    }


def machine() -> dict[str, Any]:
    """What the run had to run on."""
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "system": platform.platform(),
    }


def versions() -> dict[str, str]:
    """What was measured, and with what."""
    found = {"python": platform.python_version(), "redis-server": _says(newest_redis())}
    found["wrk"] = _says("wrk")
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "from the checkout" if package.startswith("memx") else "not installed"
    return found


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor()


def _says(program: str) -> str:
    """What a program says about its version, in its first line."""
    if shutil.which(program) is None:
        return "not installed"
    done = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=10)
    return (done.stdout or done.stderr).splitlines()[0]
