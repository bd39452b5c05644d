"""The progress of an export or an import, on a terminal."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from memx_sdk.cli.output import Output


class Count:
    """Counts what was done.

    Attributes:
        done: How many entries.
    """

    def __init__(self) -> None:
        self.done = 0
        self._begun = time.monotonic()

    @property
    def rate(self) -> float:
        """Entries a second since the beginning."""
        return self.done / max(time.monotonic() - self._begun, 0.001)


class _Shown(Count):
    def __init__(self, progress: Progress, total: int | None) -> None:
        super().__init__()
        self._progress = progress
        self._task = progress.add_task("", total=total, count="", rate="")
        self._of = "" if total is None else f" of {total:,}"

    def __setattr__(self, name: str, value: object) -> None:
        super().__setattr__(name, value)
        if name == "done" and hasattr(self, "_task"):
            count = f"{self.done:,}{self._of}"
            rate = f"{self.rate:,.0f}/s"
            self._progress.update(self._task, completed=self.done, count=count, rate=rate)


@contextmanager
def counting(output: Output, total: int | None = None) -> Iterator[Count]:
    """Show how far the work has come, where a person looks at the standard error."""
    if output.as_json or not output.notes.is_terminal:
        yield Count()
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.fields[count]} entries"),
        TextColumn("{task.fields[rate]}", style="dim"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=output.notes, transient=True) as progress:
        yield _Shown(progress, total)
