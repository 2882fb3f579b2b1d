"""What a reconstructor is, and those that need no weights by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dsqformat.errors import UnsupportedFeatureError
from dsqformat.reconstruct.harmonic import HARMONIC, fill_harmonic
from dsqformat.reconstruct.mean import MEAN, fill_mean

NONE: Final = "none"

# (pictures (n, height, width, channels), masks (n, rows, columns), side of a patch) -> pictures
Fill = Callable[[NDArray[Any], NDArray[np.bool_], int], NDArray[Any]]


@dataclass(frozen=True)
class Reconstructor:
    """Fills the left-out patches of pictures.

    Attributes:
        id: "mean", "harmonic", "none", "tiny-mae" or "checkpoint".
        fill: the function; visible pixels come back bit-equal.
        weights_nbytes: bytes of weights that have to be shipped with the pictures.
        sha256: of these weights, hexadecimal; None where there are none.
    """

    id: str
    fill: Fill
    weights_nbytes: int = 0
    sha256: str | None = None

    def __call__(
        self, pictures: NDArray[Any], masks: NDArray[np.bool_], patch: int
    ) -> NDArray[Any]:
        """Return the pictures with their left-out patches filled; see `fill_mean`."""
        return self.fill(pictures, masks, patch)


def named_reconstructor(name: str) -> Reconstructor:
    """Return a reconstructor without weights.

    Args:
        name: "harmonic", "mean", or "none", which leaves the pictures as they are and the masks
            to a network that knows about them.

    Raises:
        UnsupportedFeatureError: there is none of this name here.
    """
    known: dict[str, Fill] = {HARMONIC: fill_harmonic, MEAN: fill_mean, NONE: _fill_nothing}
    if name not in known:
        raise UnsupportedFeatureError(
            f"reconstructor {name!r}: expected {', '.join(known)}; tiny-mae and checkpoint need "
            "their weights, see dsqformat.condense.reconstruction"
        )
    return Reconstructor(name, known[name])


def _fill_nothing(pictures: NDArray[Any], masks: NDArray[np.bool_], patch: int) -> NDArray[Any]:
    return pictures
