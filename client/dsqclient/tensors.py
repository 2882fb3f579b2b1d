"""From arrays to tensors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import torch

from dsqformat.schema import Field, Schema

Sample = dict[str, Any]

_PICTURE_CHANNELS: Final = (1, 3, 4)


def to_tensors(schema: Schema, batch: Sample, *, channels_first: bool) -> Sample:
    """Return a batch with arrays turned into tensors, without copying where that is possible.

    Args:
        schema: of the dataset.
        batch: by name arrays (n, ...), or lists of n.
        channels_first: permute pictures to (channels, height, width), as a view.
    """
    pictures = {f.name for f in schema.fields if channels_first and _is_picture(f)}
    return {name: _tensor(values, name in pictures) for name, values in batch.items()}


def _tensor(values: Any, picture: bool) -> Any:
    if isinstance(values, list):
        return [_tensor(v, picture) if isinstance(v, np.ndarray) else v for v in values]
    flags = values.flags
    if not (flags.writeable and flags.aligned and values.dtype.isnative):
        # Values of `raw` fields may still lie where they arrived.
        values = values.astype(values.dtype.newbyteorder("="))
    tensor = torch.from_numpy(values)
    return tensor.movedim(-1, -3) if picture else tensor


def split_samples(batch: Sample) -> Iterator[Sample]:
    """Yield the samples of a batch of tensors; numbers of columns as Python numbers."""
    count = len(next(iter(batch.values()), ()))
    values = {
        name: v.tolist() if isinstance(v, torch.Tensor) and v.ndim == 1 else v
        for name, v in batch.items()
    }
    for row in range(count):
        yield {name: v[row] for name, v in values.items()}


def _is_picture(field: Field) -> bool:
    return len(field.shape) == 3 and field.shape[-1] in _PICTURE_CHANNELS
