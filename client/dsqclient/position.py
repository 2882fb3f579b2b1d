"""How far an epoch has been read, and how that is written down."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dsqclient.epochs import Start
from dsqclient.schedule import Layout, Stage


@dataclass
class Position:
    """How far an epoch has been read.

    Attributes:
        epoch: its number.
        finished: stages that were read with another layout.
        layout: of the present stage.
        received: batches (or samples) received in the present stage, by worker.
    """

    epoch: int
    finished: tuple[Stage, ...]
    layout: Layout
    received: list[int]

    @classmethod
    def begin(cls, start: Start, layout: Layout) -> Position:
        """Return where an iteration with this layout begins."""
        finished, last = start.stages, start.stages[-1] if start.stages else None
        received = [0] * layout.workers
        if last is not None and (last.layout == layout or not any(last.received)):
            finished = start.stages[:-1]
            received = list(last.received) if last.layout == layout else received
        return cls(start.epoch, finished, layout, received)

    @property
    def next_worker(self) -> int:
        """The worker whose turn it is; all take turns in order, and finished ones are skipped."""
        return self.received.index(min(self.received))

    def count(self, worker: int) -> None:
        """Note one more batch (or sample) of a worker."""
        self.received[worker] += 1

    def to_start(self) -> Start:
        """Return the start of an iteration that goes on here."""
        return Start(self.epoch, (*self.finished, Stage(self.layout, tuple(self.received))))


def parse_state(state: Mapping[str, Any], identity: Mapping[str, Any]) -> tuple[Start, int | None]:
    """Parse a state_dict.

    Args:
        state: what state_dict() returned.
        identity: what it must agree on with the dataset.

    Returns:
        Where to begin, and the worker whose state this is (None: of the whole loader).

    Raises:
        ValueError: it disagrees, or is no state of this version.
    """
    if state.get("format") != identity["format"]:
        raise ValueError("not a state_dict of a StreamingDataset or StreamingLoader")
    for name, expected in identity.items():
        if name == "snapshot" and state.get(name) != expected:
            raise ValueError(
                f"the state is of snapshot {str(state.get(name))[:12]}, the dataset has "
                f"{str(expected)[:12]}: pass ref={state.get(name)!r} to read what it was taken of"
            )
        if state.get(name) != expected:
            raise ValueError(
                f"the state has {name}={state.get(name)!r}, the dataset {name}={expected!r}: make "
                "the dataset with the same value"
            )
    epoch, stages, worker = state.get("epoch"), state.get("stages"), state.get("worker")
    if not isinstance(epoch, int) or not isinstance(stages, list) or not stages:
        raise ValueError("the state has no epoch or no stages")
    if worker is not None and not isinstance(worker, int):
        raise ValueError(f"the state is of worker {worker!r:.40}")
    return Start(epoch, tuple(Stage.from_json(stage) for stage in stages)), worker
