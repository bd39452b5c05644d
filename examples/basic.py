"""A tour of the SDK in one run.

Start a server (`memx dev`), then:

    MEMX_API_KEY=local_dev_key python examples/basic.py
"""

from __future__ import annotations

import threading

from memx_sdk import Change, ConflictError, SchemaViolationError, memxContext


def main() -> None:
    """Show one thing after another."""
    with memxContext(agent="tourist") as memory:
        for key in memory.keys("tour:*"):
            memory.delete(key)
        values(memory)
        conditional_writes(memory)
        updates(memory)
        schemas(memory)
        transactions(memory)
        subscriptions(memory)
        coordination(memory)


def values(memory: memxContext) -> None:
    """A key holds any JSON value; every entry knows who wrote it and when."""
    memory.set("tour:goal", {"find": "the bug", "by": "friday"}, reason="kick-off")
    entry = memory.get("tour:goal")
    assert entry is not None
    print(f"value       {entry.value} at revision {entry.revision}, written by {entry.writer}")
    print(f"missing     {memory.get('tour:nothing')}")


def conditional_writes(memory: memxContext) -> None:
    """A write may ask that nobody has written since: no update is lost."""
    entry = memory.get("tour:goal")
    assert entry is not None
    memory.set("tour:goal", {"find": "the cause"}, if_revision=entry.revision)
    try:
        memory.set("tour:goal", {"find": "somebody else"}, if_revision=entry.revision)
    except ConflictError as conflict:
        print(f"conflict    the key holds {conflict.entry and conflict.entry.value} by now")


def updates(memory: memxContext) -> None:
    """The server computes on the present value, so that writers need not read first."""
    goal = memory.merge("tour:goal", {"by": "monday", "find": None})
    memory.append("tour:notes", ["it rains", "it pours"], cap=100)
    count = memory.increment("tour:visits", minimum=0)
    print(f"update      {goal.value}, visits: {count.value}")
    total = memory.modify("tour:total", lambda held: held + 5, default=0)
    print(f"modify      {total.value}, computed here and retried if somebody else was faster")


def schemas(memory: memxContext) -> None:
    """A JSON Schema guards a key, or all keys of a pattern."""
    memory.set_schema(
        "tour:score:*", {"type": "object", "properties": {"points": {"type": "number"}}}
    )
    try:
        memory.set("tour:score:ann", {"points": "many"})
    except SchemaViolationError as refusal:
        print(f"refused     {refusal.errors[0]['path']}: {refusal.errors[0]['message']}")
    memory.delete_schema("tour:score:*")


def transactions(memory: memxContext) -> None:
    """Several writes happen at once or not at all."""
    memory.set("tour:stock", 1)
    for buyer in ("ann", "bob"):
        order = memory.txn(
            if_=[{"key": "tour:stock", "value": 1}],
            then=[
                {"op": "increment", "key": "tour:stock", "increment": -1},
                {"op": "set", "key": "tour:buyer", "value": buyer},
            ],
        )
        print(f"transaction {buyer} {'gets it' if order.branch == 'then' else 'is too late'}")


def subscriptions(memory: memxContext) -> None:
    """Changes are pushed; nobody polls."""
    arrived = threading.Event()

    def on_change(change: Change) -> None:
        print(f"pushed      {change.key} = {change.value}, by {change.writer} ({change.reason})")
        arrived.set()

    subscription = memory.subscribe("tour:news:*", on_change)
    subscription.ready()
    memory.set("tour:news:today", "the bug is found", reason="good news")
    arrived.wait(timeout=10)
    subscription.close()
    for change in memory.history("tour:goal"):
        print(f"history     revision {change.revision}: {change.value}")


def coordination(memory: memxContext) -> None:
    """A lease keeps others out, and a wait ends when somebody writes."""
    with memory.lock("tour:printer", ttl=10) as lock:
        print(f"lock        held with the fencing token {lock.token}")
    later = threading.Timer(0.1, lambda: memory.set("tour:verdict", "ship it"))
    later.start()
    verdict = memory.wait_for("tour:verdict", timeout=10)
    later.join()
    print(f"wait        somebody wrote {verdict.value!r}")


if __name__ == "__main__":
    main()
