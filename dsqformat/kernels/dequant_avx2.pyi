# Types for checkers, which cannot read those of Cython: the same as in NumPy.
from dsqformat.kernels.plain import dequantize_float32 as dequantize_float32
from dsqformat.kernels.plain import dequantize_uint8 as dequantize_uint8
from dsqformat.kernels.plain import join_uint8 as join_uint8
from dsqformat.kernels.plain import join_uint16 as join_uint16
from dsqformat.kernels.plain import measure as measure
