"""States of every kind, and poisoned ones, for tests of what a checkpoint restores.

LangGraph finds classes at the top level of a module, so these are in one of their own.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, NamedTuple
from uuid import UUID

import ormsgpack
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage
from langchain_memx import MemxSaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from pydantic import BaseModel
from typing_extensions import TypedDict


class Mood(enum.Enum):
    CALM = "calm"


class Point(NamedTuple):
    x: int
    y: int


@dataclass
class Step:
    what: str
    mood: Mood = Mood.CALM
    done: bool = False


class Plan(BaseModel):
    goal: str
    due: date | None = None


@dataclass
class DataclassState:
    steps: list[Step] = field(default_factory=list)


class ModelState(BaseModel):
    plan: Plan | None = None
    mood: Mood | None = None


class DictState(TypedDict, total=False):
    messages: Annotated[list[AnyMessage], add_messages]
    plan: Plan
    mood: Mood
    point: Point
    step: Step
    when: datetime
    price: Decimal
    raw: bytes
    id: UUID
    wait: timedelta
    tags: set[str]


class Loose(TypedDict, total=False):
    anything: Any


class Unlisted(BaseModel):
    n: int


FULL: DictState = {
    "messages": [HumanMessage("What?", id="1"), AIMessage("That.", id="2")],
    "plan": Plan(goal="eat", due=date(2026, 12, 24)),
    "mood": Mood.CALM,
    "point": Point(1, 2),
    "step": Step("mix"),
    "when": datetime(2026, 11, 27, 18, 0, tzinfo=UTC),
    "price": Decimal("0.10"),
    "raw": b"\x00\xff",
    "id": UUID("12345678-1234-5678-1234-567812345678"),
    "wait": timedelta(minutes=5),
    "tags": {"a", "b"},
}


THREAD: Any = {"configurable": {"thread_id": "t"}}


def graph(schema: Any, saver: MemxSaver, update: Any = None) -> Any:
    builder = StateGraph(schema)
    builder.add_node("keep", lambda state: update or {})
    builder.add_edge(START, "keep")
    builder.add_edge("keep", END)
    return builder.compile(checkpointer=saver)


STRICT = """
import sys
from langchain_memx import MemxConnection, MemxSaver
from tests.access import restored_states as states

saver = MemxSaver(MemxConnection(sys.argv[1], sys.argv[2]))
update = {"plan": states.Plan(goal="eat"), "mood": states.Mood.CALM}
states.graph(states.ModelState, saver, update).invoke(states.ModelState(), states.THREAD)
assert states.graph(states.ModelState, saver).get_state(states.THREAD).values == update
"""


def extension(code: int, *named: Any) -> bytes:
    """LangGraph's msgpack of an object: the module and the name of what makes it, and its arguments."""
    return ormsgpack.packb(ormsgpack.Ext(code, ormsgpack.packb(named)))


def _delta(target: str) -> bytes:
    return ormsgpack.packb({"checkpoint": [ormsgpack.Ext(7, extension(0, "os", "mkdir", target))]})


def _constructor(target: str) -> bytes:
    return json.dumps(
        {"lc": 2, "type": "constructor", "id": ["os", "mkdir"], "args": [target]}
    ).encode()


POISONS: dict[str, Callable[[str], tuple[str, bytes]]] = {
    "one": lambda target: ("msgpack", extension(0, "os", "mkdir", target)),
    "positional": lambda target: ("msgpack", extension(1, "os", "mkdir", [target])),
    "named": lambda target: ("msgpack", extension(2, "os", "mkdir", {"path": target})),
    "method": lambda target: ("msgpack", extension(3, "os", "path", target, "mkdir")),
    "pydantic1": lambda target: ("msgpack", extension(4, "os", "mkdir", {"path": target})),
    "pydantic2": lambda target: ("msgpack", extension(5, "os", "mkdir", {"path": target}, "x")),
    "delta": lambda target: ("msgpack", _delta(target)),
    "pickle": lambda target: ("pickle", b"cos\nmkdir\n(V" + target.encode() + b"\ntR."),
    "json": lambda target: ("json", _constructor(target)),
}
"""Serialised values that make a trusting reader create the folder ``target``."""
