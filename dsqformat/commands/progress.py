"""Progress on stderr, for what takes longer than a second, where somebody is watching."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

# (stage, done, total or None)
OnProgress = Callable[[str, int, int | None], None]

_QUIET_S: Final = 1.0
_BETWEEN_S: Final = 0.1


@contextmanager
def shown_progress() -> Iterator[OnProgress]:
    """Yield a function to call as often as convenient; it shows a bar once a second has passed.

    Nothing is shown where stderr is not a terminal.
    """
    bars = _Bars()
    try:
        yield bars.update if sys.stderr.isatty() else _ignore
    finally:
        bars.stop()


def _ignore(_stage: str, _done: int, _total: int | None) -> None:
    pass


class _Bars:
    """One bar per stage."""

    def __init__(self) -> None:
        self._next_s = time.monotonic() + _QUIET_S
        self._progress: Progress | None = None
        self._tasks: dict[str, TaskID] = {}

    def update(self, stage: str, done: int, total: int | None) -> None:
        """Show how far a stage is."""
        now = time.monotonic()
        if now < self._next_s and done != total:
            return
        if self._progress is None:
            if now < self._next_s:
                return
            self._progress = _start()
        self._next_s = now + _BETWEEN_S
        if stage not in self._tasks:
            self._tasks[stage] = self._progress.add_task(stage, total=total)
        self._progress.update(self._tasks[stage], completed=done, total=total)

    def stop(self) -> None:
        """Take the bars away."""
        if self._progress is not None:
            self._progress.stop()


def _start() -> Progress:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    progress.start()
    return progress
