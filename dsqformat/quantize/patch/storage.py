"""What patches and groups cost, and how many groups a budget of bytes buys (Tran and Bae)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

# Scale and offset of a group, float32 each.
PARAMETER_BITS: Final = 64
MAX_GROUPS: Final = 65536
# Halvings of the range of counts between two powers of two.
REFINEMENTS: Final = 3


@dataclass(frozen=True)
class StorageRow:
    """One line of a table of storage.

    Attributes:
        name: what is stored.
        bits: for the whole dataset, without entropy coding.
        nbytes_per_sample: `bits` / 8 / samples.
    """

    name: str
    bits: int
    nbytes_per_sample: float


def storage_bits(
    value_count: int, patches: int, samples: int, bits: int, group_count: int
) -> dict[str, int]:
    """Return the bits of the formula of the paper, without entropy coding.

    Args:
        value_count: values of a sample.
        patches: patches of a sample.
        samples: samples of the dataset.
        bits: bits of a code.
        group_count: G.

    Returns:
        "codes", "group_ids", "parameters" (64 bits per group) and their sum "total".
    """
    codes = value_count * bits * samples
    ids = samples * patches * (group_count - 1).bit_length()
    parameters = PARAMETER_BITS * group_count
    return {
        "codes": codes,
        "group_ids": ids,
        "parameters": parameters,
        "total": codes + ids + parameters,
    }


def storage_rows(
    *, values: int, patches: int, samples: int, bits: int, group_count: int
) -> list[StorageRow]:
    """Return the formula of the paper as a table, for samples of any shapes.

    Args:
        values: of all samples together.
        patches: of all samples together.
        samples: of the dataset, at least 1.
        bits: bits of a code.
        group_count: G.

    Returns:
        Codes, group ids, groups and their total; then, to compare with, what the same codes take
        with a scale and an offset of its own for each patch, and the values as float32.
    """
    parts = storage_bits(values, patches, 1, bits, group_count)
    alone = parts["codes"] + PARAMETER_BITS * patches
    rows = [
        ("codes", parts["codes"]),
        ("group ids", parts["group_ids"]),
        ("groups (scale, offset)", parts["parameters"]),
        ("total", parts["total"]),
        ("with a range for each patch", alone),
        ("values as float32", 32 * values),
    ]
    return [StorageRow(name, count, count / 8 / samples) for name, count in rows]


def largest_group_count(
    budget_nbytes: int,
    value_count: int,
    patches: int,
    samples: int,
    bits: int,
    limit: int = MAX_GROUPS,
) -> int:
    """Return the largest G whose storage fits a budget, at most one group per patch.

    Args:
        budget_nbytes: bytes for the dataset, by the formula of `storage_bits`.
        value_count: values of a sample.
        patches: patches of a sample.
        samples: samples of the dataset.
        bits: bits of a code.
        limit: largest G to return.

    Raises:
        ValueError: not even one group fits.
    """
    limit = min(limit, patches * samples)
    best = 0
    for id_bits in range(17):
        fixed = value_count * bits * samples + samples * patches * id_bits
        count = min((8 * budget_nbytes - fixed) // PARAMETER_BITS, 1 << id_bits, limit)
        if count >= 1 and (count - 1).bit_length() <= id_bits:
            best = max(best, count)
    if not best:
        raise ValueError(f"{budget_nbytes} bytes hold not one group and the codes")
    return best


def group_count_for_budget(
    measure: Callable[[int], int], budget_nbytes: int, limit: int = 4096
) -> int:
    """Return a G whose measured bytes fit a budget, as large as a short search finds.

    Entropy coding makes codes cheaper as groups fit better, and ids dearer, so that bytes must be
    measured. The search halves the range of powers of two, then that between two of them: at most
    8 measurements for 4096 groups. Bytes should grow with G; where they do not, the result still
    fits.

    Args:
        measure: returns the bytes of the dataset, or of a sample of it, with so many groups;
            called once for a count.
        budget_nbytes: bytes for what `measure` measures.
        limit: largest G, 1 to 65536.

    Raises:
        ValueError: one group takes more than the budget, or `limit` is out of range.
    """
    if not 1 <= limit <= MAX_GROUPS:
        raise ValueError(f"at most {limit} groups, expected 1 to {MAX_GROUPS}")
    nbytes = measure(1)
    if nbytes > budget_nbytes:
        raise ValueError(
            f"one group takes {nbytes} bytes, the budget is {budget_nbytes}: "
            "allow more bytes, or fewer bits for a code"
        )
    counts = [1 << power for power in range(limit.bit_length())]
    if counts[-1] < limit:
        counts.append(limit)
    fits, above = 0, len(counts)
    while above - fits > 1:
        middle = (fits + above) // 2
        if measure(counts[middle]) <= budget_nbytes:
            fits = middle
        else:
            above = middle
    best = counts[fits]
    if above == len(counts):
        return best
    too_many = counts[above]
    for _ in range(REFINEMENTS):
        count = (best + too_many) // 2
        if count == best:
            break
        if measure(count) <= budget_nbytes:
            best = count
        else:
            too_many = count
    return best
