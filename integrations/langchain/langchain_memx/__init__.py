"""The tools, memory and state that LangChain and LangGraph keep in memX.

``MemxStore`` and ``MemxSaver`` need ``langchain-memx[langgraph]``, ``MemxMiddleware`` needs
``langchain-memx[agents]``; they are imported when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_memx.byte_store import MemxByteStore
from langchain_memx.cache import MemxCache
from langchain_memx.chat_history import MemxChatMessageHistory
from langchain_memx.connection import MemxConnection
from langchain_memx.record_manager import MemxRecordManager
from langchain_memx.tools import MemxTool, MemxToolkit
from langchain_memx.trigger import MemxTrigger

if TYPE_CHECKING:
    from langchain_memx.known_types import RefusedTypeError
    from langchain_memx.middleware import MemxMiddleware
    from langchain_memx.saver import MemxSaver
    from langchain_memx.store import MemxStore
    from langchain_memx.store_items import MemxItem

_OPTIONAL = {
    "MemxItem": "langchain_memx.store_items",
    "MemxMiddleware": "langchain_memx.middleware",
    "MemxSaver": "langchain_memx.saver",
    "MemxStore": "langchain_memx.store",
    "RefusedTypeError": "langchain_memx.known_types",
}

__all__ = [
    "MemxByteStore",
    "MemxCache",
    "MemxChatMessageHistory",
    "MemxConnection",
    "MemxItem",
    "MemxMiddleware",
    "MemxRecordManager",
    "MemxSaver",
    "MemxStore",
    "MemxTool",
    "MemxToolkit",
    "MemxTrigger",
    "RefusedTypeError",
]


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name not in _OPTIONAL:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(import_module(_OPTIONAL[name]), name)
    except ModuleNotFoundError as missing:
        # Only what an extra installs: another missing module is a fault that its own message explains best.
        package = (missing.name or "").partition(".")[0]
        if package not in ("langgraph", "langchain"):
            raise
        extra = "agents" if name == "MemxMiddleware" else "langgraph"
        raise ImportError(
            f'{name} needs {package}: pip install "langchain-memx[{extra}]"'
        ) from missing
