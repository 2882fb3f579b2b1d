"""Codes of blocks in NumPy, the same block of many streams at a time (spec A.4).

Arrays have lanes last: values of all lanes at one place lie side by side. A lane that has met the
end of its block reads nothing until all have.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dsqformat.coding.block.layout import (
    BANDS,
    BIT_FIRST,
    DC_BIT_FIRST,
    DC_FIRST,
    DC_LEANINGS,
    END,
    LAST_AC_SYMBOL,
    LEVEL_OF,
    LEVELS,
    MAX_CODE,
    SCAN_BAND,
    SCAN_COLUMN,
    SCAN_ROW,
    SIGN_FIRST,
)
from dsqformat.coding.block.plain_streams import Reader, Values
from dsqformat.errors import CorruptShardError

GUARD: Final = 3  # rows and columns of a field that no block covers: one before, two after
_CLASSES: Final = BANDS * LEVELS
_LEVEL_OF: Final = LEVEL_OF.astype("i8")
_A: Final = np.arange(64)
# What a magnitude adds to the next two places, the next two of the row below, and the one below
# that; for luma and chroma.
_PUSHED: Final = (
    np.stack([(5 * _A + 1) >> 1, _A, (5 * _A + 1) >> 1, _A, _A]),
    np.stack([2 * _A, _A, 2 * _A, 2 * _A, _A]),
)


def field_of(seen: NDArray[np.int64], done: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """Return expected magnitudes before the first code, shape ((T + 3)^2, lanes) (spec A.4.3).

    Args:
        seen: sum of the profiles of the neighbours, shape (8, 8, lanes).
        done: codes of the planes before this one, shape (planes, T * T, lanes).
        size: index of the block size.
    """
    T, plane = 4 << size, len(done)
    to = np.arange(T) * 8 // T
    field = np.zeros((T + GUARD, T + GUARD, seen.shape[-1]), "i8")
    body = field[1 : T + 1, 1 : T + 1]
    body += seen[to[:, None], to]
    for p in {0, plane - 1} if plane else ():
        a = np.minimum(np.abs(done[p]), 63).reshape(T, T, -1)
        a[0, 0] = 0
        if p == 0:
            body += (3 if plane == 1 else 2) * a
            body[:, :-1] += a[:, 1:]
            body[:-1] += a[1:]
        else:
            body += 7 * a
    return field.reshape((T + GUARD) ** 2, -1)


def read_dc(
    reader: Reader, codes: Values, size: int, h: int, near: tuple[NDArray[Any], ...]
) -> tuple[Values, Values]:
    """Read DC codes of layer 0; return the gradients to the left and to the upper block.

    Args:
        reader: of the lanes.
        codes: shape (T * T, lanes), written.
        size: index of the block size.
        h: 0 for luma, 1 for chroma.
        near: whether there is a left block, an upper one, and their edges.
    """
    has_left, has_upper, left, upper = near
    prediction = predicted_dc(near)
    steep = np.searchsorted([128, 256, 512, 1024], np.abs(left - upper), "right")
    context = np.where(has_left & has_upper, steep, np.where(has_left | has_upper, 0, 5))
    token = reader.symbol(DC_FIRST + (2 * size + h) * 6 + context)
    if reader.top >= 8:
        n = np.where(token >= 8, 2 + ((token - 8) >> 1), 0)
        token = np.where(token >= 8, (2 + (token & 1) << n) + reader.raw(n), token)
    dc = ((prediction + 32) >> 6) + np.where(token & 1, -((token + 1) >> 1), token >> 1)
    codes[0] = np.clip(dc, -MAX_CODE, MAX_CODE)
    return (
        np.where(has_left, (-3 * (64 * codes[0] - left)) >> 3, 0),
        np.where(has_upper, (-3 * (64 * codes[0] - upper)) >> 3, 0),
    )


def predicted_dc(near: tuple[NDArray[Any], ...]) -> Values:
    """Return DC codes, in 1/64, that edges of neighbours suggest; `near` as for `read_dc`."""
    has_left, has_upper, left, upper = near
    alone: Values = left * has_left + upper * has_upper
    return np.where(has_left & has_upper, (left + upper) >> 1, alone)


def dc_leaning(ahead: Values, none: NDArray[np.bool_]) -> Values:
    """Return how much neighbours speak for the larger of two DC codes, 0 to 8 (spec A.4.2).

    Args:
        ahead: their prediction less the middle of the two, in 1/64.
        none: where there are no neighbours.
    """
    leaning: Values = np.searchsorted([-192, -96, -32, 0, 33, 97, 193], ahead, "right")
    return np.where(none, 8, leaning)


def read_ac(
    reader: Reader, none: int, codes: Values, field: Values, size: int, h: int,
    alone: NDArray[np.bool_], slopes: tuple[Values, Values],
) -> None:  # fmt: skip
    """Read AC codes of layer 0.

    Args:
        reader: of the lanes.
        none: context of lanes that read nothing.
        codes: shape (T * T, lanes), zeros but for DC, written.
        field: of `field_of`, changed.
        size: index of the block size.
        h: 0 for luma, 1 for chroma.
        alone: which lanes have neither a left nor an upper block.
        slopes: of `read_dc`.

    Raises:
        CorruptShardError: a symbol that no coefficient has.
    """
    T, R, pushed, keep = 4 << size, (4 << size) + GUARD, _PUSHED[h], 2 if h else 4
    base = ((2 * size + h) * 2 + alone) * (2 * _CLASSES)
    row, previous = base + _CLASSES, np.zeros_like(base)
    places = PLACES[size]
    for k in range(1, T * T):
        place, at, band = places[k]
        m = field[place] + previous
        if k < 3:
            m += np.minimum(64, np.abs(slopes[k - 1]) >> 3)
        context = _LEVEL_OF.take(m)
        context += row
        context += band
        symbol = reader.symbol(context)
        ended = symbol == END
        np.copyto(base, none, where=ended)
        if reader.top <= END:  # nothing but zeros and ends
            if np.logical_and.reduce(ended):
                break
            row = base
            previous = np.zeros_like(base)
            continue
        a = np.maximum(symbol - 1, 0)
        if reader.top > 13:
            a = _large(reader, a)
        some = (a > 0).astype("i8")
        if k < 3:
            g = slopes[k - 1]
            kind = (g >= -96) * 1 + (g >= -32) + (g >= 0) + (g > 32) + (g > 96)
            negative = reader.symbol(np.where(some, SIGN_FIRST + 6 * h + kind, none)) > 0
        else:
            negative = reader.signs(some) > 0
        codes[at] = np.where(negative, -a, a)
        np.minimum(a, 63, out=a)
        more = pushed.take(a, 1)
        field[place + 1 : place + 3] += more[:2]
        field[place + R : place + R + 2] += more[2:4]
        field[place + 2 * R] += more[4]
        previous = a * keep
        row = some * _CLASSES
        row += base


def read_refinement(
    reader: Reader, none: int, codes: Values, field: Values, size: int, h: int,
    near: tuple[NDArray[Any], ...], upwards: int,
) -> None:  # fmt: skip
    """Read one more bit of the codes; arguments and errors as of `read_ac`, but for the last two.

    Args:
        reader: of the lanes.
        none: context of lanes that read nothing.
        codes: those of the layer before, changed.
        field: of `field_of`, changed.
        size: index of the block size.
        h: 0 for luma, 1 for chroma.
        near: as for `read_dc`.
        upwards: 1 where the DC codes of the layer before were rounded up.
    """
    T, R = 4 << size, (4 << size) + GUARD
    dc = 2 * codes[0] - upwards
    leaning = dc_leaning(predicted_dc(near) - 64 * dc - 32, ~(near[0] | near[1]))
    bit = reader.symbol(DC_BIT_FIRST + (2 * size + h) * DC_LEANINGS + leaning) > 0
    old = codes.copy()
    old[0] = 0
    expect_known(field.reshape(R, R, -1), old.reshape(T, T, -1), h)
    codes[0] = dc + bit
    any_known: list[bool] = np.asarray(old.any(1)).tolist()
    over, open_ = np.zeros(codes.shape[1], np.bool_), np.full(codes.shape[1], _CLASSES)
    base = (2 * size + h) * 2 * _CLASSES
    for k, (place, at, band) in enumerate(PLACES[size]):
        if k == 0:
            continue
        fresh = ~over
        if any_known[at]:
            known = old[at] != 0
            a = np.abs(old[at])
            context = np.where(known, BIT_FIRST + 3 * h + np.minimum(a, 3) - 1, none)
            a = np.minimum(2 * a + (reader.symbol(context) > 0), MAX_CODE)
            codes[at] = np.where(known, np.where(old[at] < 0, -a, a), 0)
            fresh &= ~known
        if not fresh.any():
            continue
        context = base + band + open_ + _LEVEL_OF.take(field[place])
        symbol = reader.symbol(np.where(fresh, context, none))
        if reader.top > 2:
            raise CorruptShardError("block stream: a symbol above 2; fetch the shard again")
        over |= fresh & (symbol == END)
        open_ = np.where(fresh, _CLASSES * (symbol == 2), open_)
        if reader.top == 2:
            new = (symbol == 2).astype("i8")
            codes[at] += new - 2 * reader.signs(new)
            more = _PUSHED[h].take(new, 1)
            field[place + 1 : place + 3] += more[:2]
            field[place + R : place + R + 2] += more[2:4]
            field[place + 2 * R] += more[4]


def profile_of(codes: Values, size: int, weight: int) -> Values:
    """Return what later blocks see of blocks, shape (8, 8, lanes) (spec A.4.3).

    Args:
        codes: shape (T * T, lanes).
        size: index of the block size.
        weight: 6 for luma, 5 for chroma.
    """
    T = 4 << size
    a = np.minimum(np.abs(codes), 63).reshape(T, T, -1)
    a[0, 0] = 0
    if size == 0:
        own, side = (weight * a).repeat(2, 0).repeat(2, 1), (2 * a).repeat(2, 0).repeat(2, 1)
    else:
        shift = size - 1
        half = (1 << shift) >> 1
        cells = (8, 1 << shift, 8, 1 << shift, -1)
        own = np.where(a, (weight * a + half) >> shift, 0).reshape(cells).sum((1, 3))
        side = np.where(a, (2 * a + half) >> shift, 0).reshape(cells).sum((1, 3))
    own[:, :-1] += side[:, 1:]
    own[:-1] += side[1:]
    return own


def _places(size: int) -> list[tuple[int, int, int]]:
    """Return for each scan position its place in a field, in codes, and its band."""
    T = 4 << size
    v, u = SCAN_ROW[size, : T * T].astype(int), SCAN_COLUMN[size, : T * T].astype(int)
    field = (v + 1) * (T + GUARD) + u + 1
    bands = SCAN_BAND[size, : T * T].tolist()
    return list(zip(field.tolist(), (v * T + u).tolist(), bands, strict=True))


PLACES: Final = [_places(size) for size in range(4)]


def _large(reader: Reader, a: Values) -> Values:
    """Return magnitudes with the raw bits of those above 12 added."""
    if reader.top > LAST_AC_SYMBOL:
        raise CorruptShardError("block stream: a symbol above 26; fetch the shard again")
    n = np.where(a >= 13, a - 11, 0)
    out: Values = np.where(a >= 13, np.minimum((1 << n) + reader.raw(n) + 9, MAX_CODE), a)
    return out


def expect_known(field: NDArray[Any], old: NDArray[Any], h: int) -> None:
    """Expect more on both sides of codes that are known, shapes (R, R, lanes), (T, T, lanes)."""
    T = len(old)
    a = np.minimum(63, 2 * np.abs(old))
    near, diagonal = (2 * a, 2 * a) if h else ((5 * a + 1) >> 1, a)
    for dv, du, amount in (
        (0, 1, near), (1, 0, near), (1, 1, diagonal), (0, 2, a), (2, 0, a), (0, -1, near),
        (-1, 0, near), (-1, -1, a), (-1, 1, a), (1, -1, a),
    ):  # fmt: skip
        field[1 + dv : 1 + dv + T, 1 + du : 1 + du + T] += amount
