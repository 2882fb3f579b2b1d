"""How many samples of each class each bin gets."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Final, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from dsqformat.errors import SelectionError

SizeRule: TypeAlias = Literal["balanced", "geometric", "compat"]

SIZE_RULES: Final = get_args(SizeRule)


def bin_size_table(
    counts: NDArray[np.int64],
    bin_count: int,
    rule: SizeRule = "balanced",
    names: Sequence[str] | None = None,
) -> NDArray[np.int64]:
    """Return the samples of each class in each bin: int64, shape (classes, bin_count).

    balanced: the sizes of a class differ by at most 1, and so do the totals of the bins.
    geometric: 1 / bin_count of what is left each time, half to even, the remainder last (Li et
    al., as their published sizes show).
    compat: the rounding of Zhou et al.'s code: K = round(n / bin_count), and of each class
    round(K / left * left of the class), so that bins drift in size.

    Args:
        counts: shape (classes,), samples of each class, at least 1 each.
        bin_count: at least 1.
        rule: one of SIZE_RULES.
        names: of the classes, for messages.

    Raises:
        SelectionError: a class is smaller than the bins, or a bin would get none of it.
    """
    if bin_count < 1:
        raise SelectionError(f"bins: got {bin_count}, expected at least 1")
    names = names or [f"class {i}" for i in range(len(counts))]
    smallest = int(counts.argmin())
    if counts[smallest] < bin_count:
        raise SelectionError(
            f"{names[smallest]}: {counts[smallest]} samples are fewer than the {bin_count} bins; "
            f"ask for at most {counts[smallest]} bins, or for bins of all classes together"
        )
    if rule == "balanced":
        table = _balanced(counts, bin_count)
    elif rule == "geometric":
        table = np.array([_geometric(count, bin_count) for count in counts.tolist()], "i8")
    elif rule == "compat":
        table = _compat(counts, bin_count)
    else:
        raise SelectionError(f"bin sizes: got {rule!r}, expected one of {', '.join(SIZE_RULES)}")
    if (table < 1).any():
        row, number = np.argwhere(table < 1)[0].tolist()
        raise SelectionError(
            f"{names[row]}: bin {number} would get none of its {counts[row]} samples with "
            f"{rule} sizes; ask for fewer bins, or for balanced sizes"
        )
    return table


def _balanced(counts: NDArray[np.int64], bin_count: int) -> NDArray[np.int64]:
    whole, extra = np.divmod(counts, bin_count)
    # The last bins get one more, and each class goes on where the class before it ended.
    first = np.cumsum(extra) - extra
    turn = (np.arange(bin_count)[::-1] - first[:, None]) % bin_count
    table: NDArray[np.int64] = whole[:, None] + (turn < extra[:, None])
    return table


def _geometric(count: int, bin_count: int) -> list[int]:
    sizes = []
    for _ in range(bin_count - 1):
        sizes.append(round(Fraction(count, bin_count)))
        count -= sizes[-1]
    return [*sizes, count]


def _compat(counts: NDArray[np.int64], bin_count: int) -> NDArray[np.int64]:
    per_bin = round(int(counts.sum()) / bin_count)
    left = counts.copy()
    columns = []
    for _ in range(bin_count - 1):
        # Their arithmetic, in their order: a fraction first, then its share of each class.
        fraction = per_bin / int(left.sum()) if left.any() else 0.0
        column = np.array([round(fraction * count) for count in left.tolist()], "i8")
        columns.append(np.minimum(column, left))
        left -= columns[-1]
    return np.stack([*columns, left], axis=1)
