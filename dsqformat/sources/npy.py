"""Plain arrays in the .npy format: nothing is unpickled, nothing over-allocated."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from dsqformat.errors import SampleError

_MOST_DIMENSIONS = 32


@dataclass(frozen=True)
class NpyHeader:
    """Type and shape of an array.

    Attributes:
        shape: dimensions.
        dtype: without Python objects.
        fortran: whether the first dimension varies fastest.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran: bool

    @property
    def nbytes(self) -> int:
        """Bytes of the values."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_npy_header(file: IO[bytes], what: str) -> NpyHeader:
    """Read the header of an array, and leave the file where its values begin.

    Args:
        file: at the first byte of the array.
        what: its name for error messages.

    Raises:
        SampleError: it is no .npy array, or one of Python objects.
    """
    try:
        version = npy_format.read_magic(file)
        if version == (1, 0):
            shape, fortran, dtype = npy_format.read_array_header_1_0(file)
        elif version == (2, 0):
            shape, fortran, dtype = npy_format.read_array_header_2_0(file)
        else:
            raise ValueError(f"version {version[0]}.{version[1]}, expected 1.0 or 2.0")
    except (ValueError, SyntaxError, EOFError, RecursionError) as error:
        raise SampleError(f"{what}: not a .npy array: {error}") from error
    if dtype.hasobject:
        raise SampleError(
            f"{what}: holds Python objects, which are pickles, and reading one can run any "
            "program; store numbers or fixed-width text"
        )
    if len(shape) > _MOST_DIMENSIONS or any(length < 0 for length in shape):
        raise SampleError(f"{what}: shape {shape} is not one of an array")
    return NpyHeader(shape, dtype, fortran)


def parse_npy(data: bytes, what: str) -> NDArray[Any]:
    """Return the array in the bytes of a .npy file.

    Raises:
        SampleError: it is no .npy array, one of Python objects, or of another length.
    """
    file = io.BytesIO(data)
    header = read_npy_header(file, what)
    start = file.tell()
    if len(data) - start != header.nbytes:
        raise SampleError(
            f"{what}: {len(data) - start} bytes for an array of {header.nbytes}: "
            f"{header.dtype}{list(header.shape)}"
        )
    flat = np.frombuffer(data, header.dtype, offset=start)
    return flat.reshape(header.shape, order="F" if header.fortran else "C")
