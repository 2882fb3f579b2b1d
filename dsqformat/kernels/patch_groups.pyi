# Types for checkers, which cannot read those of Cython: the same as in NumPy.
from dsqformat.kernels.plain_patches import choose_groups as choose_groups
from dsqformat.kernels.plain_patches import find_nearest as find_nearest
