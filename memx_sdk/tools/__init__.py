"""memX as tools for language models, for adapters of any framework (needs pydantic).

An adapter takes the tools that the API key permits from ``permitted_tools``, runs them with a
``AsyncToolRunner`` or ``ToolRunner``, and hands ``ToolOutcome.text`` to the model::

    runner = AsyncToolRunner(context)
    outcome = await runner.run("memx_get", {"key": "plan"})
"""

from memx_sdk.tools._async.agent_keys import AsyncAgentKeys
from memx_sdk.tools._async.briefing import AsyncBriefing
from memx_sdk.tools._async.runner import AsyncToolRunner
from memx_sdk.tools._sync.agent_keys import AgentKeys
from memx_sdk.tools._sync.briefing import Briefing
from memx_sdk.tools._sync.runner import ToolRunner
from memx_sdk.tools.catalogue import TOOLS, ToolSpec, permitted_tools
from memx_sdk.tools.explain import explain_bad_arguments, explain_error
from memx_sdk.tools.outcome import ToolOutcome

__all__ = [
    "TOOLS",
    "AgentKeys",
    "AsyncAgentKeys",
    "AsyncBriefing",
    "AsyncToolRunner",
    "Briefing",
    "ToolOutcome",
    "ToolRunner",
    "ToolSpec",
    "explain_bad_arguments",
    "explain_error",
    "permitted_tools",
]
