# Types for checkers, which cannot read those of Cython: the same as in NumPy.
from dsqformat.kernels.plain_rans import trace as trace
