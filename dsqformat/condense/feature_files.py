"""Features in .npy files: of pictures, made here, or of samples of any kind, brought along."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dsqformat.errors import SourceError

_SCAN_VALUES: Final = 1 << 22


def load_features(path: str | os.PathLike[str], count: int | None = None) -> NDArray[Any]:
    """Open features of samples of any kind as a read-only memory map.

    Args:
        path: a .npy file: floating point, shape (n, d), finite.
        count: samples there must be; None for any number.

    Returns:
        Shape (n, d), the dtype of the file. Values are looked at once, in pieces.

    Raises:
        SourceError: the file is no such array, or a value is NaN or infinite.
        OSError: the file cannot be read.
    """
    where = os.fspath(path)
    try:
        features = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise SourceError(
            f"{where}: not a .npy file of numbers; write one with numpy.save"
        ) from error
    if not isinstance(features, np.ndarray):
        features.close()
        raise SourceError(f"{where}: an archive of arrays; save the features alone as .npy")
    if features.ndim != 2 or features.dtype.kind != "f" or not features.shape[1]:
        raise SourceError(
            f"{where}: {features.dtype} of shape {features.shape}, expected floating point "
            "(samples, features)"
        )
    if count is not None and len(features) != count:
        raise SourceError(
            f"{where}: features of {len(features)} samples for {count} samples; they must be the "
            "same, in the same order"
        )
    check_finite(features, where)
    return features


def check_finite(features: NDArray[Any], where: str) -> None:
    """Raise SourceError for the first sample with a value that is NaN or infinite.

    Args:
        features: shape (n, d); read in pieces.
        where: name of the features for the message.
    """
    step = max(1, _SCAN_VALUES // max(1, features.shape[1]))
    for begin in range(0, len(features), step):
        finite = np.isfinite(features[begin : begin + step]).all(axis=1)
        if not finite.all():
            raise SourceError(
                f"{where}: features of sample {begin + int(finite.argmin())} are NaN or infinite; "
                "leave the sample out or mend what made them"
            )


@contextmanager
def new_features(path: str | os.PathLike[str], shape: tuple[int, int]) -> Iterator[NDArray[Any]]:
    """Yield a float32 memory map to fill; the file appears under its name once all went well."""
    target = Path(path)
    partial = target.with_name(f"{target.name}.part")
    features = np.lib.format.open_memmap(partial, "w+", "<f4", shape)
    try:
        yield features
        features.flush()
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    os.replace(partial, target)
