# How samples are decoded, some streams in step: the inner part of `rans_decode` (spec 9.3.8 and
# 9.3.9).

from dsqformat.kernels.rans_context cimport (
    BUCKETS,
    DIRECT_BITS,
    FIRST_LEVEL,
    LANES,
    LEVELS,
    LUT,
    NUMBERS,
    QUADS,
    ROWS,
    SLACK,
    end_pixel,
    end_row,
    leave_out,
    start_row,
)
from dsqformat.kernels.rans_pixels cimport Layer, Pixel, expect, keep, place, set_layer, start_pixels
from dsqformat.kernels.rans_sums cimport pairs_of, prepare, sums_of, uchar
from dsqformat.kernels.rans_vectors cimport (
    add,
    all_of,
    clamp_to,
    down,
    join,
    quad,
    store,
    subtract,
    up,
    word_at,
)


# The type of an argument picks the copy of a function: uchar for samples with patch masks.
ctypedef fused Masked:
    uchar
    int


cdef inline int unfold(int z, int expected, int top) noexcept nogil:
    # Without branches, which nobody could foresee.
    cdef int other = top - expected
    cdef int reach = min(expected, other)
    cdef int down = expected >= other
    cdef int near = (z >> 1) ^ -(z & 1)
    cdef int far = ((z - reach) ^ -down) + down
    return expected + (far if z > 2 * reach else near)


cdef inline unsigned int refill(
    const unsigned char[::1] data, unsigned int state, Py_ssize_t* pos, Py_ssize_t end
) noexcept nogil:
    """Take two bytes where the state is low and some are left."""
    # All ones where both differences are negative; a branch would often be a surprise.
    cdef long long taken = ((pos[0] - end) & (<long long>state - 65536)) >> 63
    cdef unsigned int word = word_at(&data[pos[0]])
    pos[0] -= taken + taken
    return state << (taken & 16) | (word & <unsigned int>taken)


cdef inline Py_ssize_t decode_samples(
    Masked kind, Py_ssize_t c, Py_ssize_t stream, Py_ssize_t lanes, Py_ssize_t sample, Py_ssize_t step,
    const unsigned char[::1] data, unsigned short[::1] codes, const long long[::1] first,
    Py_ssize_t height, Py_ssize_t width, Py_ssize_t number, const int[::1] numbers,
    const int[::1] borders, const short[::1] weights, const short[::1] energy,
    const short[::1] mixes, const int[::1] constants, const unsigned char[::1] levels,
    const unsigned short[::1] table_of, const unsigned char[::1] nearest, const short[::1] starts,
    long long[::1] states, short[::1] shorts, int[::1] ints, const unsigned char[::1] kept,
) noexcept nogil:
    """Decode samples `sample`, `sample + step`, ..., one per lane from `stream` on, all alike.

    `kept` tells of each pixel of all samples whether it is coded, where there are masks.

    Returns:
        -1, or the sample in which the data turned out to be corrupt.
    """
    cdef Py_ssize_t y
    cdef Py_ssize_t x
    cdef Py_ssize_t k
    cdef Py_ssize_t lane
    cdef Py_ssize_t group
    cdef Py_ssize_t groups = (lanes + 3) // 4
    cdef Py_ssize_t start
    cdef Py_ssize_t context
    cdef int above = numbers[number * NUMBERS]
    cdef int bits = numbers[number * NUMBERS + 1]
    cdef Py_ssize_t contexts = numbers[number * NUMBERS + 2]
    cdef Py_ssize_t bins = numbers[number * NUMBERS + 3]
    cdef int middle = (1 << (above + bits)) >> 1
    cdef int mask = -1 if bits <= DIRECT_BITS else 15
    cdef int shift = 2 if bits > DIRECT_BITS else max(0, bits - 2)
    cdef int level
    cdef int value
    cdef int size
    cdef unsigned int state
    cdef Py_ssize_t pos
    cdef short slot
    cdef Py_ssize_t table
    # Where the starts of symbols of table 0 would stand.
    cdef Py_ssize_t symbols = numbers[number * NUMBERS + 5]
    cdef Py_ssize_t spread = numbers[number * NUMBERS + 6]
    cdef Py_ssize_t count = width * c
    cdef Py_ssize_t stride = count + 4 * c + SLACK
    cdef Py_ssize_t room = ROWS * stride
    cdef unsigned int[LANES] state_of
    cdef Py_ssize_t[LANES] pos_of
    cdef Py_ssize_t[LANES] end_of
    cdef int[LANES] energy_of
    cdef int[LANES] offset_of
    cdef int[LANES] value_of
    cdef Py_ssize_t[LANES] table_at
    cdef bint[LANES] gone
    cdef Pixel[QUADS] pixels
    cdef quad[QUADS] predicted
    cdef quad[QUADS] bases
    cdef quad foreseen
    cdef Layer layer
    set_layer(&layer, c, above, bits, number, energy)
    for lane in range(LANES):
        value_of[lane] = 0
    for lane in range(lanes):
        state_of[lane] = <unsigned int>states[3 * (stream + lane)]
        pos_of[lane] = states[3 * (stream + lane) + 1]
        end_of[lane] = states[3 * (stream + lane) + 2]
    for y in range(height):
        for lane in range(lanes):
            start_row(
                codes, first[sample + lane * step], y, height, width, c, above, 0, bits, shorts,
                lane * room, ints, pairs_of(lane, width, c),
            )
            if y > 0:
                prepare(
                    c, number, 0, width, above, numbers, borders, weights, constants, energy,
                    shorts, lane * room, stride, ints, sums_of(lane, width, c), width,
                )
        for x in range(width):
            if Masked is uchar:
                for lane in range(lanes):
                    gone[lane] = kept[first[sample + lane * step] // c + y * width + x] == 0
            if y == 0:
                for lane in range(lanes):
                    prepare(
                        c, number, x, x + 1, above, numbers, borders, weights, constants, energy,
                        shorts, lane * room, stride, ints, sums_of(lane, width, c), width,
                    )
            for group in range(groups):
                start_pixels(
                    c, &pixels[group], x, above, mixes, shorts, 4 * group * room, stride, ints,
                    pairs_of(4 * group, width, c), width, lanes - 4 * group,
                )
            for k in range(c):
                for group in range(groups):
                    predicted[group] = expect(&layer, &pixels[group], k, &foreseen)
                    store(&energy_of[4 * group], foreseen)
                    foreseen = place(
                        &layer, &pixels[group], k, predicted[group], &bases[group]
                    )
                    store(&offset_of[4 * group], foreseen)
                # Several short loops: what waits in one stream is done in another meanwhile.
                for lane in range(lanes):
                    level = levels[number * LUT + energy_of[lane]]
                    if x == 0 and y == 0:
                        level = FIRST_LEVEL
                    context = contexts + (k * LEVELS + level) * bins
                    table_at[lane] = table_of[context + ((offset_of[lane] & mask) >> shift)]
                for lane in range(lanes):
                    if Masked is uchar:
                        if gone[lane]:
                            continue
                    table = table_at[lane]
                    start = symbols + table * spread
                    slot = <short>(state_of[lane] & 4095)
                    if bits <= 2:
                        value = (
                            <int>(starts[start + 1] <= slot)
                            + <int>(starts[start + 2] <= slot)
                            + <int>(starts[start + 3] <= slot)
                        )
                    else:
                        value = nearest[table * BUCKETS + (slot >> 6)]
                        while starts[start + value + 1] <= slot:
                            value += 1
                    value_of[lane] = value
                    table_at[lane] = start + value
                for lane in range(lanes):
                    if Masked is uchar:
                        if gone[lane]:
                            continue
                    size = starts[table_at[lane]]
                    state = state_of[lane]
                    pos = pos_of[lane]
                    # The frequency times the upper bits, and how far the lower are above the start.
                    state = (
                        <unsigned int>(starts[table_at[lane] + 1] - size) * (state >> 12)
                        + (state & 4095) - <unsigned int>size
                    )
                    state = refill(data, state, &pos, end_of[lane])
                    if bits > DIRECT_BITS:
                        value = value_of[lane]
                        if value >= 16:
                            size = 3 + ((value - 16) >> 1)
                            value = (2 | (value & 1)) << size | <int>(state & ((1 << size) - 1))
                            state >>= size
                            state = refill(data, state, &pos, end_of[lane])
                            if value >> bits > 0:
                                return sample + lane * step
                        value_of[lane] = unfold(value, offset_of[lane] >> 4, (1 << bits) - 1)
                    state_of[lane] = state
                    pos_of[lane] = pos
                for group in range(groups):
                    if lanes == 1:
                        foreseen = all_of(value_of[0])
                    else:
                        foreseen = join(
                            value_of[4 * group], value_of[4 * group + 1], value_of[4 * group + 2],
                            value_of[4 * group + 3],
                        )
                    keep(
                        &layer, &pixels[group], k, add(bases[group], foreseen), predicted[group],
                        ints, pairs_of(4 * group, width, c) + 4 * ((x + 2) * c + k),
                    )
            if Masked is uchar:
                for lane in range(lanes):
                    if gone[lane]:
                        leave_out(c, ints, pairs_of(lane, width, c) + 4 * (x + 2) * c)
            if y == 0:
                for lane in range(lanes):
                    end_pixel(
                        c, above, shorts, lane * room + (x + 2) * c, stride, ints,
                        pairs_of(lane, width, c) + 4 * (x + 2) * c,
                    )
        for lane in range(lanes):
            end_row(
                codes, first[sample + lane * step] + y * count, count, c, middle, shorts,
                lane * room, stride, ints, pairs_of(lane, width, c),
            )
    for lane in range(lanes):
        states[3 * (stream + lane)] = state_of[lane]
        states[3 * (stream + lane) + 1] = pos_of[lane]
    return -1
