"""`patch`: codes of p x p patches with the parameters of shared groups (Tran and Bae, 2026).

All patches of a dataset belong to G groups; a group has one scale and one offset, so that
parameters cost next to nothing per sample and a patch costs ceil(log2 G) bits beside its codes.
"""

from dsqformat.quantize.patch.dequantization import dequantize_patches
from dsqformat.quantize.patch.fitting import fit_groups
from dsqformat.quantize.patch.groups import Method, PatchGroups
from dsqformat.quantize.patch.quantization import quantize_alone, quantize_patches
from dsqformat.quantize.patch.storage import (
    StorageRow,
    group_count_for_budget,
    largest_group_count,
    storage_bits,
    storage_rows,
)

__all__ = [
    "Method",
    "PatchGroups",
    "StorageRow",
    "dequantize_patches",
    "fit_groups",
    "group_count_for_budget",
    "largest_group_count",
    "quantize_alone",
    "quantize_patches",
    "storage_bits",
    "storage_rows",
]
