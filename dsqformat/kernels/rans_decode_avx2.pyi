# Types for checkers, which cannot read those of Cython: the same as in NumPy.
from dsqformat.kernels.plain_rans import decode_streams as decode_streams
