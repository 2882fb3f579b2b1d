"""The order in which a window of chunks hands out its samples."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dsqclient.pieces import NOTHING, Pieces, join, picked_rows
from dsqclient.shuffle import derive_key, permutation

_ROWS, _STEP = 1, 2  # what a derived key is for


@dataclass(frozen=True)
class WindowOrder:
    """Hands out the samples of a sequence of pieces while it holds few of them.

    Step s takes in piece s, then hands out one part of every piece held. With shuffling, the rows
    of piece i are permuted and dealt into `window` parts of equal size, handed out in the steps i
    to i + window - 1; what a step hands out is permuted once more. The first pieces are dealt into
    fewer parts (2, 3, ...), so that the first batch needs few chunks. Without shuffling a piece
    is handed out whole, in order, in its own step.

    The order is a pure function of the arguments: no timing, no reading ahead can change it.

    Attributes:
        pieces: the sequence.
        window: most pieces held at once, 1 or more.
        key: of the random order; None for none.
    """

    pieces: Pieces
    window: int
    key: int | None

    def parts(self, piece: int) -> int:
        """Number of parts a piece is dealt into."""
        return 1 if self.key is None else min(self.window, piece + 2)

    @property
    def step_count(self) -> int:
        """Steps until everything has been handed out."""
        last = len(self.pieces) - 1
        return last + self.parts(last) if last >= 0 else 0

    def held(self, step: int) -> range:
        """Pieces of which a step hands out a part."""
        first = max(0, step - self.window + 1)
        while first < step and first + self.parts(first) <= step:
            first += 1
        return range(first, min(step + 1, len(self.pieces)))

    def dealt(self, piece: int, chunk_sample_count: int) -> NDArray[np.int64]:
        """Return the rows of a piece in the order in which it hands them out, int64."""
        rows = self.pieces.rows(piece, chunk_sample_count)
        if self.key is None:
            return rows
        return rows[permutation(derive_key(self.key, _ROWS, piece), len(rows))]

    def part(self, piece: int, step: int, length: int) -> slice:
        """Which of a piece's `length` dealt rows a step hands out."""
        parts, number = self.parts(piece), step - piece
        return slice(length * number // parts, length * (number + 1) // parts)

    def mixed(self, step: int, length: int) -> NDArray[np.int64] | None:
        """Return the permutation of the `length` samples a step hands out; None: as they are."""
        if self.key is None:
            return None
        return permutation(derive_key(self.key, _STEP, step), length)

    def locate(self, handed_out: int) -> tuple[int, int]:
        """Return the step in which a number of samples has been handed out, and how many in it.

        The sample counts of all pieces must be known. After the last sample: (step_count, 0).
        """
        sizes = np.zeros(self.step_count, "i8")
        lengths, numbers = self.pieces.lengths, np.arange(len(self.pieces))
        dealt_into = (
            np.minimum(self.window, numbers + 2) if self.key is not None else numbers * 0 + 1
        )
        for part in range(int(dealt_into.max(initial=0))):
            here = numbers[dealt_into > part]
            low = lengths[here] * part // dealt_into[here]
            sizes[here + part] += lengths[here] * (part + 1) // dealt_into[here] - low
        ends = np.cumsum(sizes)
        step = int(np.searchsorted(ends, handed_out, "right"))
        return step, handed_out - int(ends[step - 1] if step else 0)

    def rest(self, handed_out: int, real_pieces: int) -> Pieces:
        """Return what is left after some samples were handed out, by piece.

        Args:
            handed_out: samples handed out before.
            real_pieces: pieces from this number on are repeats and left out.
        """
        step, offset = self.locate(handed_out)
        parts: list[Pieces] = []
        if step < self.step_count:
            parts = self._rest_of_held(step, offset, real_pieces)
        # Pieces after the step have not been touched.
        untouched = min(step + 1, real_pieces)
        if untouched < real_pieces:
            ends = self.pieces.ends
            start = int(ends[untouched - 1]) if untouched else 0
            parts.append(self.pieces.select(start, int(ends[real_pieces - 1])))
        return join(parts)

    def _rest_of_held(self, step: int, offset: int, real_pieces: int) -> list[Pieces]:
        held = self.held(step)
        dealt = {i: self.dealt(i, int(self.pieces.stop[i])) for i in held}
        here = {i: self.part(i, step, len(dealt[i])) for i in held}
        owner = np.concatenate([np.full(here[i].stop - here[i].start, i) for i in held])
        order = self.mixed(step, len(owner))
        left = np.ones(len(owner), "?")
        left[(np.arange(len(owner)) if order is None else order)[:offset]] = False
        parts = []
        for i in held:
            rows = [dealt[i][here[i]][left[owner == i]], dealt[i][here[i].stop :]]
            both = np.concatenate(rows)
            if i < real_pieces and len(both):
                parts.append(picked_rows(int(self.pieces.chunk[i]), both))
        return parts or [NOTHING]
