"""Which epoch the next iteration reads, agreed between a process and its loader's workers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dsqclient.schedule import Stage
from dsqclient.shared_json import SharedJson


@dataclass(frozen=True)
class Start:
    """Where an iteration begins.

    Attributes:
        epoch: its number.
        stages: what has been read of it before, empty for a fresh epoch.
    """

    epoch: int
    stages: tuple[Stage, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the start as JSON."""
        return {"epoch": self.epoch, "stages": [stage.to_json() for stage in self.stages]}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Start:
        """Parse what to_json returned."""
        return cls(value["epoch"], tuple(Stage.from_json(item) for item in value["stages"]))


class EpochClock:
    """Hands out the start of each iteration; workers of one iteration all get the same.

    The process that makes a loader does not run the dataset when there are workers, and workers
    may be new in every epoch or live through all. So the state is a small JSON text in memory
    shared with the workers. Workers of one iteration know each other by a token (the seed that
    their loader drew for them); a worker that lives on counts by itself.

    A pickled copy that is not on its way to a child process is a clock of its own.
    """

    def __init__(self) -> None:
        first = {"generation": 0, "next": Start(0).to_json(), "claim": None, "start": None}
        self._shared = SharedJson({**first, "workers": 0})
        # Of this process: generation, token and epoch of its last iteration.
        self._last: tuple[int, object, int] | None = None

    @property
    def workers(self) -> int:
        """Workers that read in the last iteration; 0: none, this process itself."""
        with self._shared.locked():
            return int(self._shared.read()["workers"])

    def next_start(self) -> Start:
        """Return where the next iteration would begin."""
        with self._shared.locked():
            return Start.from_json(self._shared.read()["next"])

    def set_next(self, start: Start) -> None:
        """Let the next iteration begin there."""
        with self._shared.locked():
            state = self._shared.read()
            state["generation"] += 1
            state["next"] = start.to_json()
            self._shared.write(state)

    def announce(self, token: str) -> Start:
        """Fix the start of the next iteration for workers that will ask with this token."""
        with self._shared.locked():
            state = self._shared.read()
            state["generation"] += 1
            return self._claim(state, [token, state["generation"]])

    def begin(self, token: object, *, workers: int) -> Start:
        """Return where an iteration that begins now is to start.

        Args:
            token: the same for all workers of one iteration, another for others.
            workers: how many there are; 0: this process reads itself.
        """
        with self._shared.locked():
            state = self._shared.read()
            state["workers"] = workers
            generation = state["generation"]
            if workers and self._last is not None and self._last[:2] == (generation, token):
                start = Start(self._last[2] + 1)
                if start.epoch >= state["next"]["epoch"]:
                    state["next"] = Start(start.epoch + 1).to_json()
                self._shared.write(state)
            elif token is not None and state["claim"] == [token, generation]:
                start = Start.from_json(state["start"])
                self._shared.write(state)
            else:
                start = self._claim(state, [token, generation])
        self._last = (generation, token, start.epoch)
        return start

    def begin_at(self, start: Start, token: object, *, workers: int) -> None:
        """Note that a worker begins where its own saved state told it to."""
        with self._shared.locked():
            state = self._shared.read()
            state["workers"] = workers
            if start.epoch >= state["next"]["epoch"]:
                state["next"] = Start(start.epoch + 1).to_json()
            self._last = (state["generation"], token, start.epoch)
            self._shared.write(state)

    def _claim(self, state: dict[str, Any], claim: Sequence[object]) -> Start:
        start = Start.from_json(state["next"])
        state["claim"], state["start"] = claim, state["next"]
        state["next"] = Start(start.epoch + 1).to_json()
        self._shared.write(state)
        return start
