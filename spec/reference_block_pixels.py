"""From codes to pixels of block pictures for reference_decoder.py (format.md, A.2 and A.9).

Written from format.md alone, standard library only; each function names its section.
"""

from __future__ import annotations

from reference_schema import fl

# Section A.2: C, O.
COSINES = (
    64, 90, 90, 90, 89, 88, 87, 85, 83, 82, 80, 78, 75, 73, 70, 67,
    64, 61, 57, 54, 50, 46, 43, 38, 36, 31, 25, 22, 18, 13, 9, 4,
)  # fmt: skip
OCTAVE = (
    65536, 68438, 71468, 74632, 77936, 81386, 84990, 88752,
    92682, 96785, 101070, 105545, 110218, 115098, 120194, 125515,
)  # fmt: skip


def basis(size, k, n):
    """Section A.2: B_T(k, n)."""
    k *= 32 // size
    m, sign = k * (2 * n + 1) % 128, 1
    if m > 64:
        m = 128 - m
    if m > 32:
        m, sign = 64 - m, -1
    return 64 if k == 0 else 0 if m == 32 else sign * COSINES[m]


BASES = {t: [[basis(t, k, n) for n in range(t)] for k in range(t)] for t in (4, 8, 16, 32)}


def band(size, v, u):
    """Section A.2."""
    if v + u == 1:
        return 0
    f = 8 * (v + u) / size
    return 1 + sum(f >= bound for bound in (3, 4, 6, 8, 11))


def clamp(v, c):
    """Section A.1."""
    return max(-c, min(c, v))


def coefficient(model, layers, qp, plane, s, place, q):
    """Section A.9.1: c of one code, of the first `layers` layers."""
    chroma, dc = int(plane > 0), place == (0, 0)
    step = (OCTAVE[qp % 16] << qp // 16) + 1024 >> 11
    weight = model["weights"][8 * chroma + (7 if dc else band(4 << s, *place))]
    w = max(1, step * weight + 32 >> 6) << len(model["tables"]) - layers
    o = model["offsets"][layers - 1]
    if dc:
        value = (16 * q + o[6]) * w
    else:
        value = (16 * abs(q) + o[3 * chroma + min(abs(q), 3) - 1]) * w
        value = -value if q < 0 else value
    c = min(65535 >> s, abs(value) + (1 << 4 + 2 * s) >> 5 + 2 * s)
    return -c if value < 0 else c


def block_pixels(coefficients, s):
    """Section A.9.2: p of a block, of its coefficients by place; those that are 0 may be left out.

    A column u without coefficients has w(n, u) = 0.
    """
    size, basis_, limit = 4 << s, BASES[4 << s], 65535 >> s
    columns = {u for _, u in coefficients}
    pixels = []
    for n in range(size):
        w = dict.fromkeys(columns, 32)
        for (v, u), c in coefficients.items():
            w[u] += basis_[v][n] * c
        w = {u: clamp(total >> 6, limit) for u, total in w.items()}
        rows = [
            sum(value * basis_[u][m] for u, value in w.items()) + (1 << 8 - s) >> 9 - s
            for m in range(size)
        ]
        pixels.append([clamp(value, 7167) for value in rows])
    return pixels


def channels(model, pixels):
    """Section A.9.3: y of each channel of one pixel, of its values in all planes."""
    y = [1024 * pixel for pixel in pixels]
    if model["rgb"]:
        a, b, c = pixels[:3]
        y[:3] = [591 * a + 724 * b - 418 * c, 591 * a + 836 * c, 591 * a - 724 * b - 418 * c]
    return [value + (o << 10) for value, o in zip(y, model["channel_offsets"], strict=True)]


def integer_value(y):
    """Section A.9.3: v."""
    return max(0, min(y + 8192 >> 14, 255))


def real_value(y):
    """Section A.9.3: x. A quotient rounded twice is as if rounded once, as with `fl` of a sum."""
    return fl(max(0, min(y, 255 << 14)) / (255 << 14))
