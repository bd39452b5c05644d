"""LangChain's standard tests, for ``MemxTool`` and for every tool of the toolkit."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.tools import BaseTool
from langchain_memx import MemxConnection, MemxTool
from langchain_memx.tools import MemxOperationTool
from langchain_tests.integration_tests import ToolsIntegrationTests
from langchain_tests.unit_tests import ToolsUnitTests

from memx_sdk.tools import TOOLS

EXAMPLES: dict[str, dict[str, Any]] = {
    "memx_get": {"key": "plan"},
    "memx_list": {"pattern": "pl*", "values": True},
    "memx_set": {"key": "plan", "value": {"steps": ["a"]}, "reason": "a start"},
    "memx_update": {"key": "count", "increment": 2},
    "memx_delete": {"key": "plan"},
    "memx_wait": {"pattern": "plan", "timeout": 0.2},
    "memx_changes": {"pattern": "*"},
    "memx_history": {"key": "plan"},
    "memx_get_schema": {"key": "plan:*"},
    "memx_check": {"key": "plan", "value": 1},
    "memx_set_schema": {"key": "plan:*", "json_schema": {"type": "object"}},
    "memx_transaction": {
        "conditions": [{"key": "task", "exists": False}],
        "writes": [{"op": "set", "key": "task", "value": 1}],
    },
    "memx_lock": {"key": "lock:plan", "ttl": 5},
    "memx_unlock": {"key": "lock:plan", "token": 1},
}


def test_every_tool_is_held_to_the_standard() -> None:
    assert set(EXAMPLES) == set(TOOLS)


class _Operation:
    """Parametrises a standard test class over all tools of the toolkit."""

    example: dict[str, Any]
    made: BaseTool

    @pytest.fixture(params=sorted(EXAMPLES), autouse=True)
    def _choose(self, request: pytest.FixtureRequest, connection: MemxConnection) -> None:
        spec = TOOLS[request.param]
        self.example = EXAMPLES[spec.name]
        self.made = MemxOperationTool(
            name=spec.name,
            description=spec.description,
            args_schema=spec.arguments,
            connection=connection,
        )

    @property
    def tool_constructor(self) -> BaseTool:
        return self.made

    @property
    def tool_invoke_params_example(self) -> dict[str, Any]:
        return self.example


class TestOperationToolsUnit(_Operation, ToolsUnitTests):
    pass


class TestOperationToolsIntegration(_Operation, ToolsIntegrationTests):
    pass


class _MemxTool:
    connection: MemxConnection

    @pytest.fixture(autouse=True)
    def _connect(self, connection: MemxConnection) -> None:
        self.connection = connection

    @property
    def tool_constructor(self) -> type[BaseTool]:
        return MemxTool

    @property
    def tool_constructor_params(self) -> dict[str, Any]:
        return {"connection": self.connection}

    @property
    def tool_invoke_params_example(self) -> dict[str, Any]:
        return {"action": "set", "key": "plan", "value": {"steps": []}}


class TestMemxToolUnit(_MemxTool, ToolsUnitTests):
    pass


class TestMemxToolIntegration(_MemxTool, ToolsIntegrationTests):
    pass
