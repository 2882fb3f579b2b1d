"""Probability tables of one layer: from histograms to tables, to bytes and back (spec A.7).

A table is the list of starts of 32 symbols in 4096 slots; symbol 31 is the escape, which every
table has. Contexts share tables: a map gives the table of each.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dsqformat.coding.block.bitstring import BitReader, BitWriter
from dsqformat.coding.block.layout import (
    AC_CONTEXTS,
    BIT_FIRST,
    CONTEXTS,
    DC_BIT_FIRST,
    DC_FIRST,
    ESCAPE,
    MAX_TABLES,
    REFINEMENT_CONTEXTS,
    SIGN_FIRST,
    SYMBOLS,
    TABLE_STRIDE,
)
from dsqformat.errors import CorruptShardError

# P(k | >= k) in 2^-16 for logits -8 to 8 in fifths; ABSENT stands for probability 0.
HAZARDS: Final = tuple(round(65536 / (1 + math.exp(-z / 5))) for z in range(-40, 41))
ABSENT: Final = -41

# Contexts whose symbols mean the same are clustered together, apart from the others.
KINDS: Final = {
    CONTEXTS: (0, DC_FIRST, SIGN_FIRST, CONTEXTS),
    REFINEMENT_CONTEXTS: (0, BIT_FIRST, DC_BIT_FIRST, REFINEMENT_CONTEXTS),
}
# What a table costs, in bits, and each of its symbols: measured on serialized models.
_TABLE_BITS: Final = 30.0
_SYMBOL_BITS: Final = 4.0
_MIN_COUNT: Final = 6


@dataclass(frozen=True, slots=True)
class LayerTables:
    """Contexts and tables of one layer.

    Attributes:
        map: uint8, shape (contexts,), the table of each context.
        used: bool, shape (contexts,), False: takes the table of the context before it.
        logits: one tuple per table: fifths of a logit for each symbol but the last.
        starts: uint16, shape (tables, 33).
    """

    map: NDArray[np.uint8]
    used: NDArray[np.bool_]
    logits: tuple[tuple[int, ...], ...]
    starts: NDArray[np.uint16]

    def costs(self) -> NDArray[np.float32]:
        """Return the bits of each symbol, float32, shape (tables, 32)."""
        f = np.diff(self.starts.astype("f8"), axis=1)
        direct = 12 - np.log2(np.maximum(f, 1))
        escaped = direct[:, ESCAPE:] + 5
        out: NDArray[np.float32] = np.where(f > 0, direct, escaped).astype("f4")
        out[:, ESCAPE] = escaped[:, 0]
        return out


def frequencies(logits: tuple[int, ...]) -> list[int]:
    """Return the 32 frequencies, sum 4096, that a list of logits stands for (spec A.7.2)."""
    left = 1 << 28
    shares = []
    for z in logits:
        share = left * HAZARDS[z + 40] >> 16 if z != ABSENT else 0
        shares.append(share)
        left -= share
    shares.append(left)
    counts = [max(1, (share * 4095 + (1 << 27)) >> 28) if share else 0 for share in shares]
    largest = counts.index(max(counts))
    counts[largest] += 4095 - sum(counts)
    return counts + [0] * (ESCAPE - len(counts)) + [1]


def build(
    map_: NDArray[np.uint8], used: NDArray[np.bool_], logits: tuple[tuple[int, ...], ...]
) -> LayerTables:
    """Return tables with their starts worked out."""
    starts = np.zeros((len(logits), TABLE_STRIDE), "u2")
    for row, values in zip(starts, logits, strict=True):
        row[1:] = np.cumsum(frequencies(values))
    return LayerTables(map_, used, logits, starts)


def fit_tables(counts: NDArray[np.int64], max_tables: int = MAX_TABLES) -> LayerTables:
    """Cluster contexts by their histograms while that saves bits, tables included.

    Args:
        counts: int64, shape (contexts, 32), symbols seen in each context.
        max_tables: at most so many tables, 1 to 255.

    Returns:
        Tables for all contexts, those not seen included.
    """
    contexts = len(counts)
    used = counts.sum(1) >= _MIN_COUNT
    map_ = np.zeros(contexts, "u1")
    logits: list[tuple[int, ...]] = []
    bounds = KINDS[contexts]
    for first, stop in itertools.pairwise(bounds):
        seen = np.nonzero(used[first:stop])[0] + first
        if not len(seen):
            continue
        limit = max_tables * 3 // 4 if stop - first > AC_CONTEXTS // 4 else max_tables // 8
        labels = _cluster(counts[seen].astype("f8"), max(1, limit))
        sums = {label: counts[seen[labels == label]].sum(0) for label in np.unique(labels)}
        mean = {label: (s * np.arange(SYMBOLS)).sum() / s.sum() for label, s in sums.items()}
        for label in sorted(sums, key=lambda label: mean[label]):
            map_[seen[labels == label]] = len(logits)
            logits.append(_logits(sums[label]))
    if not logits:
        logits, used = [(0,)], used.copy()
    return build(_inherit(map_, used), used, tuple(logits))


def write_tables(tables: LayerTables, out: BitWriter) -> None:
    """Append tables and map (spec A.7.1)."""
    out.unsigned(len(tables.logits) - 1)
    before = [0] * SYMBOLS
    length = 0
    for logits in tables.logits:
        out.signed(len(logits) - length)
        length = len(logits)
        for k, z in enumerate(logits):
            out.signed(z - before[k])
            before[k] = z
    at, table = 0, 0
    for context in np.nonzero(tables.used)[0].tolist():
        out.unsigned(context - at)
        out.signed(int(tables.map[context]) - table)
        at, table = context + 1, int(tables.map[context])
    if at < len(tables.map):
        out.unsigned(len(tables.map) - at)


def read_tables(source: BitReader, contexts: int) -> LayerTables:
    """Undo `write_tables`.

    Args:
        source: where the tables begin.
        contexts: number of contexts of the layer.

    Raises:
        CorruptShardError: a value is out of its range or the bits end early.
    """
    count = source.unsigned() + 1
    if count > MAX_TABLES:
        raise CorruptShardError(f"{count} tables, expected at most {MAX_TABLES}")
    before = [0] * SYMBOLS
    length = 0
    all_logits = []
    for _ in range(count):
        length += source.signed()
        if not 0 <= length < ESCAPE:
            raise CorruptShardError(f"a table of {length + 1} symbols, expected 1-31")
        for k in range(length):
            before[k] += source.signed()
            if not ABSENT <= before[k] <= 40:
                raise CorruptShardError(f"logit {before[k]}, expected -41 to 40")
        all_logits.append(tuple(before[:length]))
    map_ = np.zeros(contexts, "u1")
    used = np.zeros(contexts, np.bool_)
    at, table = 0, 0
    while at < contexts:
        at += source.unsigned()
        if at > contexts:
            raise CorruptShardError(f"context {at}, expected at most {contexts}")
        if at < contexts:
            table += source.signed()
            if not 0 <= table < count:
                raise CorruptShardError(f"table {table}, expected 0 to {count - 1}")
            map_[at], used[at] = table, True
            at += 1
    return build(_inherit(map_, used), used, tuple(all_logits))


def _inherit(map_: NDArray[np.uint8], used: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Give contexts without a table of their own that of the one before, the first table 0."""
    last = np.maximum.accumulate(np.where(used, np.arange(len(map_)), -1))
    out: NDArray[np.uint8] = np.where(last < 0, 0, map_[np.maximum(last, 0)]).astype("u1")
    return out


def _logits(counts: NDArray[np.int64]) -> tuple[int, ...]:
    last = int(np.nonzero(counts)[0].max())
    last = min(last, ESCAPE - 1)
    rest = int(counts.sum())
    out = []
    for k in range(last):
        here = int(counts[k])
        rest -= here
        if here == 0:
            out.append(ABSENT)
        elif rest <= 0:
            out.append(40)
        else:
            out.append(min(40, max(-40, round(5 * math.log(here / rest)))))
    return tuple(out)


def _bits(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the bits of data and table of each histogram, shape (n,)."""
    total = rows.sum(1)
    own = (rows * np.log2(np.maximum(rows, 1))).sum(1)
    out: NDArray[np.float64] = (
        total * np.log2(np.maximum(total, 1)) - own
        + _SYMBOL_BITS * (rows > 0).sum(1) + _TABLE_BITS
    )  # fmt: skip
    return out


def _cluster(rows: NDArray[np.float64], limit: int) -> NDArray[np.int64]:
    """Merge the pair of histograms that saves most, until none does and `limit` are left."""
    n = len(rows)
    rows = rows.copy()
    labels = np.arange(n)
    own = _bits(rows)
    alive = np.ones(n, np.bool_)
    gain = np.full((n, n), np.inf)
    for i in range(n - 1):
        gain[i, i + 1 :] = _bits(rows[i] + rows[i + 1 :]) - own[i] - own[i + 1 :]
    partner = gain.argmin(1)
    best = gain[np.arange(n), partner]
    for left in range(n, 1, -1):
        i = int(best.argmin())
        if best[i] > 0 and left <= limit:
            break
        j = int(partner[i])
        rows[i] += rows[j]
        labels[labels == j] = i
        alive[j] = False
        best[j] = np.inf
        gain[j, :] = np.inf
        gain[:, j] = np.inf
        own[i] = _bits(rows[i : i + 1])[0]
        fresh = np.where(alive, _bits(rows[i] + rows) - own[i] - own, np.inf)
        gain[i, i + 1 :] = fresh[i + 1 :]
        gain[:i, i] = fresh[:i]
        stale = np.nonzero(alive & ((partner == i) | (partner == j)))[0]
        stale = np.union1d(stale, [i])
        partner[stale] = gain[stale].argmin(1)
        best[stale] = gain[stale, partner[stale]]
        closer = np.nonzero(fresh[:i] < best[:i])[0]
        partner[closer], best[closer] = i, fresh[closer]
    return labels
