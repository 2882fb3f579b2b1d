# Types for checkers, which cannot read those of Cython: the same as in NumPy.
from dsqformat.kernels.plain_rans import decode_streams as decode_streams
from dsqformat.kernels.plain_rans import encode_streams as encode_streams
from dsqformat.kernels.plain_rans import trace as trace
