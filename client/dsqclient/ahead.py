"""Work done ahead of its consumer: results in order, errors where they belong, a bounded lead."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Generic, TypeVar

_T = TypeVar("_T")
_R = TypeVar("_R")


class _Task(Generic[_T, _R]):
    """One item and what became of it."""

    def __init__(self, item: _T) -> None:
        self.item = item
        self.done = threading.Event()
        self.result: _R | None = None
        self.error: BaseException | None = None


def map_ahead(
    function: Callable[[_T, threading.Event], _R],
    items: Iterable[_T],
    *,
    depth: int,
    threads: int,
) -> Generator[_R]:
    """Yield function(item, cancelled) for every item, in order, working on the next ones meanwhile.

    An error of the function is raised where its result would have been yielded. When the generator
    is closed, `cancelled` is set, and threads end as soon as their function returns: they are
    daemons, so that a stalled transfer cannot keep a process from exiting.

    The lead grows by one with each result: on a thin link, transfers beside the first ones would
    only delay them.

    Args:
        function: called in a thread; is to return early, or raise, once `cancelled` is set.
        items: taken one by one by the consumer's thread.
        depth: most results ready or under way beyond the one being waited for; 0: no threads.
        threads: most calls at once.
    """
    if depth < 1:
        never = threading.Event()
        for item in items:
            yield function(item, never)
        return
    pool = _Pool(function, min(threads, depth + 1))
    waiting: deque[_Task[_T, _R]] = deque()
    source = iter(items)
    lead = 1
    try:
        while True:
            _fill(pool, waiting, source, lead)
            if not waiting:
                return
            task = waiting.popleft()
            task.done.wait()
            if task.error is not None:
                raise task.error
            lead = min(lead + 1, depth + 1)
            _fill(pool, waiting, source, lead - 1)
            result, task.result = task.result, None
            yield result  # type: ignore[misc]
    finally:
        pool.close()


def _fill(
    pool: _Pool[_T, _R], waiting: deque[_Task[_T, _R]], source: Iterator[_T], most: int
) -> None:
    while len(waiting) < most:
        try:
            task: _Task[_T, _R] = _Task(next(source))
        except StopIteration:
            return
        waiting.append(task)
        pool.submit(task)


class _Pool(Generic[_T, _R]):
    """A few daemon threads that take tasks in order."""

    def __init__(self, function: Callable[[_T, threading.Event], _R], threads: int) -> None:
        self._function = function
        self._tasks: deque[_Task[_T, _R]] = deque()
        self._changed = threading.Condition()
        self._cancelled = threading.Event()
        self._most = threads
        self._threads = 0
        self._idle = 0

    def submit(self, task: _Task[_T, _R]) -> None:
        """Let a thread take up a task."""
        with self._changed:
            self._tasks.append(task)
            if self._idle < len(self._tasks) and self._threads < self._most:
                self._threads += 1
                name = f"dsq-ahead-{self._threads}"
                threading.Thread(target=self._work, name=name, daemon=True).start()
            self._changed.notify()

    def close(self) -> None:
        """Tell all threads to end; wait for none."""
        self._cancelled.set()
        with self._changed:
            self._tasks.clear()
            self._changed.notify_all()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._idle += 1
                while not self._tasks and not self._cancelled.is_set():
                    self._changed.wait()
                self._idle -= 1
                if self._cancelled.is_set():
                    return
                task = self._tasks.popleft()
            try:
                task.result = self._function(task.item, self._cancelled)
            except BaseException as error:
                task.error = error  # raised again where the result is waited for
            task.done.set()
            del task
