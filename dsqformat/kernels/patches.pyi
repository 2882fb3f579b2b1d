# Types for checkers, which cannot read those of Cython: the same as in NumPy.
from dsqformat.kernels.plain_patches import (
    dequantize_patches_float32 as dequantize_patches_float32,
)
from dsqformat.kernels.plain_patches import dequantize_patches_uint8 as dequantize_patches_uint8
