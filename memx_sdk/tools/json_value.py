"""Any JSON value, in what tools take and return."""

from __future__ import annotations

from typing import Annotated

from pydantic import JsonValue as PydanticJsonValue
from pydantic.json_schema import WithJsonSchema

JsonValue = Annotated[PydanticJsonValue, WithJsonSchema({})]
"""Its schema stands where it is used: hosts that resolve a reference drop the description beside it."""
