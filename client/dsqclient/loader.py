"""A DataLoader that knows which batches the training loop has received."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

from torch.utils.data import DataLoader

from dsqclient.position import Position
from dsqclient.schedule import Layout
from dsqclient.streaming import Carried, StreamingDataset


class StreamingLoader(DataLoader[Any]):
    """A DataLoader for a StreamingDataset whose state is exact in mid-epoch.

    Batches come out of the workers with their place in the epoch. `state_dict()` counts what the
    training loop has received, not what workers have read ahead: a small dict of JSON values.
    After `load_state_dict`, the next iteration brings the rest of the interrupted epoch: every
    sample once, in the same order if the numbers of ranks and workers and the batch size are the
    same. The state of one rank serves all ranks, taken at the same step.

    A state taken after the last batch of an epoch leaves nothing of it: the next iteration is
    empty, and the one after it reads the next epoch.

    Args:
        dataset: what to read; batches are cut by it (`StreamingDataset(batch_size=...)`).
        num_workers: worker processes; 0: read in this process.
        options: further arguments of DataLoader, such as persistent_workers or pin_memory.

    Raises:
        ValueError: an option that has no place here.
    """

    def __init__(self, dataset: StreamingDataset, *, num_workers: int = 0, **options: Any) -> None:
        for name in ("batch_size", "shuffle", "sampler", "batch_sampler", "drop_last"):
            if options.pop(name, None):
                raise ValueError(f"StreamingLoader: {name} is an argument of StreamingDataset")
        if not options.get("in_order", True):
            raise ValueError("StreamingLoader: in_order=False would make the state meaningless")
        if options.get("collate_fn") is not None:
            raise ValueError("StreamingLoader: use transform of StreamingDataset, not collate_fn")
        carrying = copy.copy(dataset)
        carrying.carry_position()
        super().__init__(
            carrying, batch_size=None, num_workers=num_workers, **{**options, "collate_fn": _as_is}
        )
        self._stream = carrying
        self._position: Position | None = None

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        """Begin an iteration: what is left of a loaded state, else the next epoch."""
        start = self._stream.announce_start()
        self._position = Position.begin(start, self._layout())
        return _Received(super().__iter__(), self._position, has_workers=self.num_workers > 0)

    def state_dict(self) -> dict[str, Any]:
        """Return how much of the epoch the training loop has received."""
        position = self._position
        if position is None:
            position = Position.begin(self._stream.next_start(), self._layout())
        return self._stream.describe(position)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Let the next iteration go on where `state` was taken.

        Raises:
            ValueError: the state is of another snapshot, seed or shuffling, or no state at all.
        """
        self._stream.load_state_dict(state)
        self._position = None

    def set_epoch(self, epoch: int) -> None:
        """Let the next iteration read this epoch, from its start."""
        self._stream.set_epoch(epoch)
        self._position = None

    def _layout(self) -> Layout:
        return self._stream.layout_of(self.num_workers)


class _Received(Iterator[Any]):
    """Strips batches of their position and keeps count."""

    def __init__(self, items: Iterator[Carried], position: Position, *, has_workers: bool) -> None:
        self._items = items
        self._position = position
        self._has_workers = has_workers

    def __next__(self) -> Any:
        epoch, worker, received, item = self._next()
        expected = self._position.received[worker] + 1
        if (epoch, received) != (self._position.epoch, expected):
            raise RuntimeError(
                f"StreamingLoader: worker {worker} sent batch {received} of epoch {epoch}, "
                f"expected {expected} of {self._position.epoch}; please report this"
            )
        self._position.received[worker] = received
        return item

    def _next(self) -> Carried:
        try:
            return next(self._items)
        except StopIteration:
            raise
        except Exception as error:
            if not self._has_workers:
                raise
            # The message holds the worker's traceback. The one of this process would keep the
            # workers alive in a cycle, whose collection then waits for each of them in vain.
            self._items = iter(())
            raise error.with_traceback(None) from None


def _as_is(item: Any) -> Any:
    return item
