"""Some pictures of a set, and pictures as a trainer will see them: masked, quantized, filled."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsqformat.condense.pictures import PictureSet
from dsqformat.condense.round_trips import RoundTrip
from dsqformat.errors import SourceError
from dsqformat.reconstruct.reconstructor import Fill
from dsqformat.reconstruct.visible import visible_pixels


class PictureSubset:
    """Some pictures of a set, in an order of their own.

    Args:
        pictures: the whole set.
        rows: positions in it, int64, shape (m,).
    """

    def __init__(self, pictures: PictureSet, rows: NDArray[np.int64]) -> None:
        self._pictures = pictures
        self._rows = np.asarray(rows, "i8")
        self._whole = np.array_equal(self._rows, np.arange(len(pictures)))
        self.labels = None if pictures.labels is None else pictures.labels[self._rows]

    def __len__(self) -> int:
        return len(self._rows)

    def batches(
        self, batch_size: int, order: NDArray[np.int64] | None = None
    ) -> Iterator[NDArray[Any]]:
        """Yield batches; see PictureSet."""
        if order is None and self._whole:
            return self._pictures.batches(batch_size)
        return self._pictures.batches(
            batch_size, self._rows if order is None else self._rows[order]
        )


class SeenPictures:
    """Pictures as they come back: quantized without their hidden patches, and these filled in.

    Args:
        pictures: the originals.
        round_trip: quantizes a batch, and back to float32 of [0, 1].
        masks: boolean, shape (n, rows, columns), True for patches that are kept; None: all are.
        patch: side of a patch.
        fill: puts something into hidden patches; None: zeros.
    """

    def __init__(
        self,
        pictures: PictureSet,
        round_trip: RoundTrip,
        masks: NDArray[np.bool_] | None = None,
        patch: int = 1,
        fill: Fill | None = None,
    ) -> None:
        self._pictures, self._round_trip = pictures, round_trip
        self._masks, self._patch, self._fill = masks, patch, fill
        self.labels = pictures.labels

    def __len__(self) -> int:
        return len(self._pictures)

    def batches(
        self, batch_size: int, order: NDArray[np.int64] | None = None
    ) -> Iterator[NDArray[Any]]:
        """Yield batches; see PictureSet."""
        begin = 0
        for batch in self._pictures.batches(batch_size, order):
            rows: Any = slice(begin, begin + len(batch))
            begin += len(batch)
            if self._masks is None:
                yield self._round_trip(batch)
                continue
            masks = np.asarray(self._masks[rows if order is None else order[rows]])
            yield self._seen(batch, masks)

    def _seen(self, batch: NDArray[Any], masks: NDArray[np.bool_]) -> NDArray[Any]:
        visible = visible_pixels(batch, masks, self._patch)
        # Hidden pixels take the values of a visible one: they must not widen any range.
        first = visible.reshape(len(batch), -1).argmax(axis=1)
        stand_in = batch.reshape(len(batch), -1, batch.shape[3])[np.arange(len(batch)), first]
        shown = np.where(visible[..., np.newaxis], batch, stand_in[:, np.newaxis, np.newaxis])
        back = np.where(visible[..., np.newaxis], self._round_trip(shown), np.float32(0))
        return back if self._fill is None else self._fill(back, masks, self._patch)


def picture_shape(pictures: PictureSet) -> tuple[int, int, int]:
    """Return height, width and channels of the pictures of a set.

    Raises:
        SourceError: there are none.
    """
    if not len(pictures):
        raise SourceError("no pictures: a network or a mask needs at least one to look at")
    height, width, channels = next(iter(pictures.batches(1))).shape[1:]
    return height, width, channels
