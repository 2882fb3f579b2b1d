"""Distilled sets as condensation methods save them: tensors in .pt, arrays in .npz."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from dsqformat.condense.networks import read_tensors
from dsqformat.condense.pictures import checked_labels
from dsqformat.errors import ModelError, SourceError

_PICTURE_NAMES: Final = ("images", "image", "pictures", "x", "data", "images_train")
_LABEL_NAMES: Final = ("labels", "label", "y", "targets", "labels_train")
_CHANNELS: Final = (1, 3, 4)


@dataclass(frozen=True)
class DistilledSet:
    """Synthetic pictures, which need not be in [0, 1].

    Attributes:
        pictures: float32, shape (n, height, width, channels).
        labels: int64, shape (n,), or None where there are none.
    """

    pictures: NDArray[np.float32]
    labels: NDArray[np.int64] | None


def load_distilled(path: str | os.PathLike[str]) -> DistilledSet:
    """Read a distilled set; nothing in the file is run.

    Known forms: a tensor; (pictures, labels); a mapping with one of the names images, image, x or
    data, and labels, label, y or targets; and {"data": [[pictures, labels], ...]} of several runs,
    of which the last counts. Soft labels become their largest class.

    Args:
        path: .npz, .npy, .pt or .pth.

    Raises:
        SourceError: the file holds no pictures, or needs code to be read.
        OSError: it cannot be read.
    """
    where = os.fspath(path)
    try:
        content = (
            _read_arrays(path) if Path(path).suffix in (".npz", ".npy") else read_tensors(path)
        )
    except ModelError as error:
        raise SourceError(f"{error} (a tensor, or a mapping with images and labels)") from error
    except ValueError as error:
        raise SourceError(f"{where}: not arrays of numbers; write them with numpy.savez") from error
    pictures, labels = _pictures_and_labels(content, where)
    values = _channels_last(_as_array(pictures, where), where)
    finite = np.isfinite(values).all(axis=(1, 2, 3))
    if not finite.all():
        raise SourceError(
            f"{where}: picture {int(finite.argmin())}: a value is NaN or infinite; mend it "
            "or leave it out"
        )
    if labels is None:
        return DistilledSet(values, None)
    classes = _as_array(labels, where)
    if classes.ndim == 2:
        classes = classes.argmax(axis=1)
    return DistilledSet(values, checked_labels(classes, len(values)))


def _read_arrays(path: str | os.PathLike[str]) -> Any:
    content = np.load(path, allow_pickle=False)
    if isinstance(content, np.ndarray):
        return content
    with content:
        return {name: content[name] for name in content.files}


def _pictures_and_labels(content: Any, where: str) -> tuple[Any, Any]:
    if isinstance(content, Mapping):
        pictures = next((content[name] for name in _PICTURE_NAMES if name in content), None)
        labels = next((content[name] for name in _LABEL_NAMES if name in content), None)
        if isinstance(pictures, Sequence):
            return _pictures_and_labels(pictures, where)
        if pictures is not None:
            return pictures, labels
    elif isinstance(content, Sequence) and content:
        if isinstance(content[-1], Sequence):
            return _pictures_and_labels(content[-1], where)
        if len(content) == 2:
            return content[0], content[1]
    elif isinstance(content, np.ndarray | torch.Tensor):
        return content, None
    names = f" named {', '.join(map(str, content))}"[:200] if isinstance(content, Mapping) else ""
    raise SourceError(
        f"{where}: no pictures found in a {type(content).__name__}{names}; save a tensor, or a "
        "mapping with images and labels"
    )


def _as_array(values: Any, where: str) -> NDArray[Any]:
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu()
        # NumPy has no bfloat16.
        array: NDArray[Any] = (values.float() if values.is_floating_point() else values).numpy()
        return array
    if not isinstance(values, np.ndarray):
        raise SourceError(f"{where}: a {type(values).__name__} where an array was expected")
    return values


def _channels_last(values: NDArray[Any], where: str) -> NDArray[np.float32]:
    if values.ndim == 3:
        values = values[..., np.newaxis]
    if values.ndim != 4 or values.dtype.kind not in "fu":
        raise SourceError(
            f"{where}: {values.dtype} of shape {values.shape}, expected pictures "
            "(n, channels, height, width) or (n, height, width, channels)"
        )
    if values.shape[3] not in _CHANNELS and values.shape[1] in _CHANNELS:
        values = values.transpose(0, 2, 3, 1)
    pictures: NDArray[np.float32] = np.ascontiguousarray(values, "f4")
    if values.dtype == np.uint8:
        pictures /= np.float32(255)
    return pictures
