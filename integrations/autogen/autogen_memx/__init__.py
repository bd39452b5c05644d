"""The tools, memory and state that AutoGen teams share in memX."""

from autogen_memx.cache import MemxCacheStore
from autogen_memx.connection import MemxConnection, MemxConnectionConfig
from autogen_memx.memory import MemxMemory
from autogen_memx.model_context import MemxChatCompletionContext
from autogen_memx.shared_state import MemxSharedState
from autogen_memx.team_state import MemxTeamState
from autogen_memx.termination import MemxTermination
from autogen_memx.tools import MemxTool, MemxToolError, MemxWorkbench

__all__ = [
    "MemxCacheStore",
    "MemxChatCompletionContext",
    "MemxConnection",
    "MemxConnectionConfig",
    "MemxMemory",
    "MemxSharedState",
    "MemxTeamState",
    "MemxTermination",
    "MemxTool",
    "MemxToolError",
    "MemxWorkbench",
]
