"""Coresets: a share of the samples, at random, by a score, or by strata of a score (CCS)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from dsqformat.errors import SelectionError
from dsqformat.select.apportionment import apportion
from dsqformat.select.per_sample import checked_scores, class_codes
from dsqformat.select.ratios import Ratio, keep_count, share_count
from dsqformat.select.streams import keyed_order

Balance: TypeAlias = Literal["proportional", "equal"]
End: TypeAlias = Literal["highest", "lowest"]

BALANCES: Final = get_args(Balance)
ENDS: Final = get_args(End)
CCS_STRATA: Final = 50

# (members, how many of them, number of the class) -> those chosen
_Choose = Callable[[NDArray[np.int64], int, int], NDArray[np.int64]]


def random_coreset(
    sample_count: int,
    keep_ratio: Ratio,
    labels: NDArray[Any] | None = None,
    *,
    balance: Balance = "proportional",
    seed: int = 0,
) -> NDArray[np.int64]:
    """Keep samples at random; a larger share of the same seed holds the smaller.

    Args:
        sample_count: n.
        keep_ratio: above 0, at most 1.
        labels: shape (n,); with them each class gets an exact number.
        balance: "proportional" to what the classes hold, or "equal", as far as they suffice.
        seed: of the choice.

    Returns:
        Indices of the samples kept: int64, ascending, round(keep_ratio * n) of them.

    Raises:
        SelectionError: the ratio is out of range, or labels do not fit.
    """

    def choose(members: NDArray[np.int64], quota: int, code: int) -> NDArray[np.int64]:
        return members[keyed_order(len(members), seed, code)[:quota]]

    return _by_class(sample_count, keep_ratio, labels, balance, choose)


def score_coreset(
    scores: NDArray[Any],
    keep_ratio: Ratio,
    labels: NDArray[Any] | None = None,
    *,
    keep: End = "highest",
    balance: Balance = "proportional",
) -> NDArray[np.int64]:
    """Keep the samples of the highest or lowest scores, of equals those that come first.

    Args:
        scores: shape (n,), finite.
        keep_ratio: above 0, at most 1.
        labels: shape (n,); with them each class gets an exact number.
        keep: which end.
        balance: as for `random_coreset`.

    Returns:
        Indices of the samples kept: int64, ascending.

    Raises:
        SelectionError: the ratio is out of range, a score is not finite, or labels do not fit.
    """
    values = checked_scores(scores)
    if keep not in ENDS:
        raise SelectionError(f"keep: got {keep!r}, expected one of {', '.join(ENDS)}")
    keys = -values if keep == "highest" else values

    def choose(members: NDArray[np.int64], quota: int, _code: int) -> NDArray[np.int64]:
        return members[np.argsort(keys[members], kind="stable")[:quota]]

    return _by_class(len(values), keep_ratio, labels, balance, choose)


def ccs_coreset(
    scores: NDArray[Any],
    keep_ratio: Ratio,
    labels: NDArray[Any] | None = None,
    *,
    hardest: End,
    beta: Ratio = 0,
    strata: int = CCS_STRATA,
    balance: Balance = "proportional",
    seed: int = 0,
) -> NDArray[np.int64]:
    """Drop the hardest samples, and take the rest evenly over the range of the score (CCS).

    floor(beta * n) are dropped. What is left is cut into strata of equal width, the highest score
    in the last of them. Strata are visited from the one with fewest samples to the one with most,
    and each gives min(its size, what is still wanted // strata still to come), at random.

    Args:
        scores: shape (n,), finite; any of them, such as AUM, EL2N or forgetting.
        keep_ratio: above 0, at most 1 - beta.
        labels: shape (n,); with them each class is a set of its own.
        hardest: which end of the score is hardest: "lowest" for AUM, "highest" for the others.
        beta: share to drop; the paper has 0.3 when a tenth is kept of CIFAR-10.
        strata: how many.
        balance: as for `random_coreset`.
        seed: of the choice inside strata.

    Returns:
        Indices of the samples kept: int64, ascending, round(keep_ratio * n) of them.

    Raises:
        SelectionError: too few are left to choose from, a ratio is out of range, a score is not
            finite, or labels do not fit.
    """
    values = checked_scores(scores)
    if hardest not in ENDS:
        raise SelectionError(f"hardest: got {hardest!r}, expected one of {', '.join(ENDS)}")
    if strata < 1:
        raise SelectionError(f"strata: got {strata}, expected at least 1")
    keys = -values if hardest == "highest" else values

    def choose(members: NDArray[np.int64], quota: int, code: int) -> NDArray[np.int64]:
        dropped = share_count(beta, len(members), "beta")
        left = len(members) - dropped
        if left < quota:
            most = (1000 - -(-1000 * quota // len(members))) / 1000
            raise SelectionError(
                f"ccs: {quota} samples are wanted and {left} of {len(members)} are left without "
                f"the hardest (beta {beta}); lower beta to {most:.3g} or less, "
                "or keep fewer"
            )
        pool = np.sort(members[np.argsort(keys[members], kind="stable")[dropped:]])
        return _stratified(pool, values[pool], quota, strata, seed, code)

    return _by_class(len(values), keep_ratio, labels, balance, choose)


def _by_class(
    count: int,
    keep_ratio: Ratio,
    labels: NDArray[Any] | None,
    balance: Balance,
    choose: _Choose,
) -> NDArray[np.int64]:
    total = keep_count(keep_ratio, count)
    if labels is None:
        return np.sort(choose(np.arange(count), total, 0))
    if balance not in BALANCES:
        raise SelectionError(f"balance: got {balance!r}, expected one of {', '.join(BALANCES)}")
    codes, names = class_codes(labels, count)
    sizes = np.bincount(codes, minlength=len(names))
    weights = sizes if balance == "proportional" else np.ones_like(sizes)
    quotas = apportion(weights, sizes, total)
    parts = []
    for code, quota in enumerate(quotas.tolist()):
        try:
            parts.append(choose(np.flatnonzero(codes == code), quota, code))
        except SelectionError as error:
            raise SelectionError(f"class {names.tolist()[code]!r}: {error}") from error
    return np.sort(np.concatenate(parts))


def _stratified(
    pool: NDArray[np.int64],
    values: NDArray[np.float64],
    quota: int,
    strata: int,
    seed: int,
    code: int,
) -> NDArray[np.int64]:
    if not len(pool):
        return pool
    # The edge at the top belongs to the last stratum. Halves, because a range may be too wide.
    least, most = values.min() / 2, values.max() / 2
    place = np.zeros(len(pool), "i8")
    if most > least:
        place = ((values / 2 - least) / (most - least) * strata).astype("i8")
        np.minimum(place, strata - 1, out=place)
    sizes = np.bincount(place, minlength=strata)
    chosen = []
    for visited, stratum in enumerate(np.argsort(sizes, kind="stable").tolist()):
        members = pool[place == stratum]
        taken = min(len(members), quota // (strata - visited))
        chosen.append(members[keyed_order(len(members), seed, code, stratum)[:taken]])
        quota -= taken
    return np.concatenate(chosen)
