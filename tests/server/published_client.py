"""Runs against the published memx-sdk 0.1.2 alone: ``python published_client.py URL API_KEY``."""

import json
import queue
import sys
import time
from importlib.metadata import version
from typing import Any

import httpx

from memx_sdk import memxContext

url, api_key = sys.argv[1:]
ctx = memxContext(api_key=api_key, base_url=url)
seen: queue.Queue[dict[str, Any]] = queue.Queue()
report: dict[str, Any] = {"version": version("memx-sdk")}

report["missing"] = ctx.get("agent:goal")
report["set"] = ctx.set("agent:goal", {"x": 1})
report["get"] = ctx.get("agent:goal")

ctx.subscribe("agent:goal", seen.put)
deadline = time.monotonic() + 10
number = 0
while seen.empty():  # it does not say when it has subscribed
    assert time.monotonic() < deadline, "no callback came"
    number += 1
    ctx.set("agent:goal", number)
    time.sleep(0.05)
ctx.set("agent:goal", "last")
events = [seen.get(timeout=10)]
while events[-1]["value"] != "last":
    events.append(seen.get(timeout=10))
report["events"] = events

schema = {"type": "object", "properties": {"y": {"type": "number"}}, "required": ["y"]}
report["set_schema"] = ctx.set_schema("agent:state", schema)
report["get_schema"] = ctx.get_schema("agent:state")
try:
    ctx.set("agent:state", {"y": "one"})
except httpx.HTTPStatusError as error:
    report["refused"] = {"status": error.response.status_code, "body": error.response.json()}
report["accepted"] = ctx.set("agent:state", {"y": 1})
report["delete_schema"] = ctx.delete_schema("agent:state")
report["free"] = ctx.set("agent:state", "anything")
try:
    memxContext(api_key="wrong", base_url=url).get("agent:goal")
except httpx.HTTPStatusError as error:
    report["wrong_key"] = error.response.status_code
print(json.dumps(report))
