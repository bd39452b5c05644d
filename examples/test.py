"""What the original's `examples/test.py` tried: schemas, and values that fit them. `examples/basic.py` shows the rest.

Start a server (`memx dev`), then:

    python examples/test.py

It also runs with the published memx-sdk 0.1.2.
"""

from __future__ import annotations

import os

from memx_sdk import memxContext

POINT = {
    "type": "object",
    "properties": {"x": {"type": "number"}, "y": {"type": "number"}},
    "required": ["x", "y"],
}

memory = memxContext(
    api_key=os.environ.get("MEMX_API_KEY", "local_dev_key"),
    base_url=os.environ.get("MEMX_BASE_URL", "http://127.0.0.1:8000"),
)
memory.set_schema("agent:goal", POINT)
print("before", memory.get("agent:goal"))
memory.set("agent:goal", {"x": 1, "y": 7})
print("after", memory.get("agent:goal"))

for number in range(10):
    key = f"agent:goal:{number}"
    memory.set_schema(key, POINT)
    memory.set(key, {"x": number, "y": number * 2})
    print(key, memory.get(key))
