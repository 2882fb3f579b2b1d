"""What patches and groups cost, and how many groups a budget buys."""

from __future__ import annotations


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
    return {
        "codes": codes,
        "group_ids": ids,
        "parameters": 64 * group_count,
        "total": codes + ids + 64 * group_count,
    }


def largest_group_count(
    budget_nbytes: int, value_count: int, patches: int, samples: int, bits: int, limit: int = 65536
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
        count = min((8 * budget_nbytes - fixed) // 64, 1 << id_bits, limit)
        if count >= 1 and (count - 1).bit_length() <= id_bits:
            best = max(best, count)
    if not best:
        raise ValueError(f"{budget_nbytes} bytes hold not one group and the codes")
    return best
