# Types for checkers, which cannot read those of Cython: the same as in NumPy.
from dsqformat.kernels.plain import pack_uint8 as pack_uint8
from dsqformat.kernels.plain import pack_uint16 as pack_uint16
from dsqformat.kernels.plain import split_uint8 as split_uint8
from dsqformat.kernels.plain import split_uint16 as split_uint16
