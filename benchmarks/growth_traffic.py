"""Scripts for wrk that spread requests at random over keys and API keys."""

from __future__ import annotations

import json
from typing import Literal

from benchmarks.growth_site import VALUE, Shape
from benchmarks.load import Call
from benchmarks.servers import API_KEY

Operation = Literal["get", "set"]

_SCRIPT = """
local random = math.random
math.randomseed(os.time())
function request()
  local number = random(0, {keys} - 1)
  local key = 'growth:' .. number % {families} .. ':' .. number
  local who = number % {api_keys}
  local api_key = who == 0 and '{first}' or 'growth-key-' .. who
  {request}
end
"""
_HEAD = "HTTP/1.1\\r\\nhost: 127.0.0.1\\r\\nx-api-key: ' .. api_key .. '\\r\\n"
_GET = f"return 'GET /get?key=' .. key .. ' {_HEAD}\\r\\n'"
_SET = f"""local body = '{{"key":"' .. key .. '","value":%s}}'
  return 'POST /set {_HEAD}content-type: application/json\\r\\ncontent-length: ' .. #body
    .. '\\r\\n\\r\\n' .. body"""


def traffic(shape: Shape, operation: Operation) -> Call:
    """Make the call that gets or sets any key of ``shape``.

    Its script writes whole requests itself: wrk's own ``wrk.format`` takes longer than the rest together.
    """
    request = _GET if operation == "get" else _SET % json.dumps(VALUE, separators=(",", ":"))
    script = _SCRIPT.format(
        keys=shape.keys,
        families=shape.families,
        api_keys=shape.api_keys,
        first=API_KEY,
        request=request,
    )
    return Call("", script=script)
