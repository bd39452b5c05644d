"""A made-up log, and the frames that a server would send of it. Nothing waits here."""

from __future__ import annotations

from typing import Any

Frame = dict[str, Any]


class Space:
    """A log with a floor, and what a server sends of it."""

    def __init__(self) -> None:
        self.log: list[list[str]] = []  # the keys of each transaction; revisions count from 1
        self.floor = 0
        self.values: dict[tuple[str, int], Any] = {}

    @property
    def head(self) -> int:
        return len(self.log)

    def commit(self, *keys: str, value: Any = None) -> int:
        self.log.append(list(keys))
        for key in keys:
            self.values[key, self.head] = value
        return self.head

    def frames(self, revision: int) -> list[Frame]:
        keys = self.log[revision - 1]
        frames: list[Frame] = [self.frame(key, revision, more=True) for key in keys]
        del frames[-1]["more"]
        frames[-1]["cursor"] = f"a-{revision}"
        return frames

    def frame(self, key: str, revision: int, **members: Any) -> Frame:
        value = self.values.get((key, revision))
        change = {"event": "value", "action": "set", "key": key, "revision": revision}
        return {**change, "value": value, **members}

    def live(self) -> Frame:
        return {"event": "live", "cursor": f"a-{self.head}"}

    def state(self) -> dict[str, int]:
        return {key: revision for revision, keys in enumerate(self.log, 1) for key in keys}

    def snapshot(self) -> list[Frame]:
        return [self.frame(key, at, snapshot=True) for key, at in self.state().items()]

    def opening(self, query: dict[str, str]) -> list[Frame]:
        """What a new stream begins with."""
        if "snapshot" in query:
            return [*self.snapshot(), self.live()]
        since = query.get("since", "now")
        if since == "now":
            return [self.live()]
        at = int(since.removeprefix("a-"))
        if at < self.floor:
            return [{"event": "reset", "reason": "compacted"}, *self.snapshot(), self.live()]
        later = [
            frame for revision in range(at + 1, self.head + 1) for frame in self.frames(revision)
        ]
        return [*later, self.live()]
