"""Layer segments and patches for reference_decoder.py (format.md, sections 9, 9.4, 10.5 and 11).

Written from format.md alone, standard library only; each function names its section.
"""

from __future__ import annotations

import math
from functools import partial

from reference_columns import Cursor, ceil_div, unpack_bits, zstd_content
from reference_rans import decode_segment
from reference_schema import require


def decode_layers(segments, shapes, kept, counts, widths, model):
    """Section 9: for each segment, for each sample, its values in that layer.

    `kept` holds the places of the values of each sample that are stored (section 11), `counts`
    their number, for `raw` of their bytes.
    """
    layers = []
    for number, segment in enumerate(segments):
        own = [w[number] for w in widths]
        coding_2 = None
        if model:  # section 9.3; a raw field has none
            coding_2 = partial(decode_rans, model, shapes, kept, layers, widths)
        layers.append(decode_layer(segment, counts, own, coding_2))
    return layers


def layer_widths(stored_width, plan):
    """Section 9: the bits each layer has of a code of `stored_width` bits."""
    widths = []
    for planned in plan:
        widths.append(min(planned, stored_width - sum(widths)))
    return [*widths, stored_width - sum(widths)]


def decode_layer(segment, counts, widths, coding_2):
    """Section 9: for each sample its values in this layer; none where the width is 0.

    `coding_2` decodes what follows its coding byte; None where coding 2 is not allowed.
    """
    if not any(n * w for n, w in zip(counts, widths, strict=True)):
        require(not segment, "9", "a layer without values has bytes")
        return [[] for _ in counts]
    cursor = Cursor(segment, "9")
    (coding,) = cursor.take(1)
    require(coding <= 2, "9", f"coding {coding}")
    if coding == 2:
        require(coding_2, "9.3", "coding 2 without a model")
        return coding_2(cursor)
    layer = []
    if coding == 0:
        for n, w in zip(counts, widths, strict=True):
            layer.append(unpack_bits(cursor, n, w) if w else [])
        cursor.end()
        return layer
    (per_frame,) = cursor.numbers(1, "I")
    require(1 <= per_frame <= 4096, "9", f"{per_frame} samples per frame")
    lengths = cursor.numbers(ceil_div(len(counts), per_frame), "I")
    for group, length in enumerate(lengths):
        samples = range(group * per_frame, min(len(counts), (group + 1) * per_frame))
        letters = ["B" if widths[i] <= 8 else "H" for i in samples]
        sizes = [counts[i] if widths[i] else 0 for i in samples]  # no bytes where w is 0
        nbytes = sum(n * (1 if c == "B" else 2) for n, c in zip(sizes, letters, strict=True))
        require((nbytes == 0) == (length == 0), "9", f"frame of {length} bytes for {nbytes}")
        frame = cursor.take(length)
        content = Cursor(zstd_content(frame, nbytes) if nbytes else b"", "9")
        for i, n, letter in zip(samples, sizes, letters, strict=True):
            layer.append(content.numbers(n, letter))
            require(max(layer[-1], default=0) < 1 << widths[i], "9", "a value at or above 2^w")
    cursor.end()
    return layer


def decode_rans(model, shapes, kept, layers, widths, cursor):
    """Section 9.3: the values of the layer after `layers`, in whose light it is coded."""
    number = len(layers)

    def known(i):
        return join_layers([layer[i] for layer in layers], widths[i][:number], len(kept[i]))

    pairs = [(sum(w[:number]), w[number]) for w in widths]
    return decode_segment(cursor, model, shapes, kept, pairs, known)


def join_layers(layers, widths, count):
    """Section 9.2: codes u' of one sample from its first layers, exact with all of them."""
    codes = [0] * count
    for layer, width in zip(layers, widths, strict=False):
        if width:
            codes = [code << width | value for code, value in zip(codes, layer, strict=True)]
    missing = sum(widths[len(layers) :])
    if missing:
        codes = [(code << missing) + ((1 << missing) - 1) / 2 for code in codes]
    return codes


def kept_positions(field, shape, mask):
    """Section 11: the places, in C order, of the values that the mask keeps."""
    count = math.prod(shape)
    if not mask:
        return range(count)
    patch, (height, width) = field["patch"], shape[:2]
    across = ceil_div(width, patch)
    bits = ceil_div(height, patch) * across
    require(len(mask) == ceil_div(bits, 8), "11", f"mask of {len(mask)} bytes for {bits} bits")
    mask = int.from_bytes(mask, "little")
    require(mask >> bits == 0, "11", "spare bits of a mask are not zero")
    inner = math.prod(shape[2:])
    kept = []
    for pixel in range(height * width if inner else 0):
        if mask >> (pixel // width // patch * across + pixel % width // patch) & 1:
            kept += range(pixel * inner, (pixel + 1) * inner)
    return kept


def patch_number(field, shape, place):
    """Section 11: the number, in raster order, of the patch that holds a value."""
    patch, pixel = field["patch"], place // math.prod(shape[2:])
    across = ceil_div(shape[1], patch)
    return pixel // shape[1] // patch * across + pixel % shape[1] // patch


def split_ids(field, segment, shapes, masks, group_count, model):
    """Section 9.4: the group ids of each sample, and the segment of the codes."""
    grids, kept = [], []
    for shape, mask in zip(shapes, masks, strict=True):
        filled = math.prod(shape) > 0
        grids.append([ceil_div(d, field["patch"]) if filled else 0 for d in shape[:2]])
        # A grid of ids has the mask as it is: its patches are single values.
        kept.append(kept_positions({"patch": 1}, grids[-1], mask if filled else b""))
    if not any(map(len, kept)):
        return [[] for _ in shapes], segment
    cursor = Cursor(segment, "9.4")
    part = cursor.take(*cursor.numbers(1, "I"))
    widths = [[(group_count - 1).bit_length()] for _ in shapes]
    counts = [len(places) for places in kept]
    (ids,) = decode_layers([part], grids, kept, counts, widths, model)
    ids = [list(own) or [0] * count for own, count in zip(ids, counts, strict=True)]  # w = 0
    for own in ids:
        require(max(own, default=0) < group_count, "9.4", f"a group id of {group_count} groups")
    return ids, cursor.rest()


def group_pairs(field, shape, mask, kept, ids, groups):
    """Section 10.3: (scale, offset) of the group of each kept value."""
    patches = range(len(ids))
    if mask and ids:
        bits = int.from_bytes(mask, "little")
        patches = [number for number in range(bits.bit_length()) if bits >> number & 1]
    group_of = dict(zip(patches, ids, strict=True))
    return [groups[group_of[patch_number(field, shape, place)]] for place in kept]
