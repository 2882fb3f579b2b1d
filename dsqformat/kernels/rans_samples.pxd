# How samples are decoded, some streams in step: the inner part of `rans_decode` (spec 9.3.7 to 9.3.9).

from dsqformat.kernels.rans_context cimport (
    BUCKETS,
    CURRENT,
    CURRENT_TAPS,
    DIRECT_BITS,
    ENERGY,
    ERRORS,
    FIRST_LEVEL,
    LEVELS,
    LUT,
    NUMBERS,
    ROWS,
    SLACK,
    WINDOW,
    Channels,
    N,
    clamp,
    end_pixel,
    error,
    foresee,
    predict,
    prepare,
    start_row,
    uchar,
    ushort,
)


cdef inline int unfold(int z, int expected, int top) noexcept nogil:
    # Without branches, which nobody could foresee.
    cdef int other = top - expected
    cdef int reach = min(expected, other)
    cdef int down = expected >= other
    cdef int near = (z >> 1) ^ -(z & 1)
    cdef int far = ((z - reach) ^ -down) + down
    return expected + (far if z > 2 * reach else near)


cdef inline Py_ssize_t decode_samples(
    Channels kind, Py_ssize_t stream, Py_ssize_t lanes, Py_ssize_t sample, Py_ssize_t step,
    const unsigned char[::1] data, unsigned short[::1] codes, const long long[::1] first,
    Py_ssize_t height, Py_ssize_t width, Py_ssize_t number, const int[::1] numbers,
    const int[::1] borders, const short[::1] weights, const int[::1] bias,
    const short[::1] energy, const unsigned char[::1] levels, const unsigned short[::1] table_of,
    const unsigned char[::1] nearest, const short[::1] starts, long long[::1] states,
    short[::1] shorts, int[::1] ints,
) noexcept nogil:
    """Decode samples `sample`, `sample + step`, ..., one per lane from `stream` on, all alike.

    Returns:
        -1, or the sample in which the data turned out to be corrupt.
    """
    cdef Py_ssize_t c
    cdef Py_ssize_t y
    cdef Py_ssize_t x
    cdef Py_ssize_t k
    cdef Py_ssize_t lane
    cdef Py_ssize_t at
    cdef Py_ssize_t place
    cdef Py_ssize_t target
    cdef Py_ssize_t table
    cdef Py_ssize_t context
    cdef Py_ssize_t pos
    cdef Py_ssize_t end
    cdef int above = numbers[number * NUMBERS]
    cdef int bits = numbers[number * NUMBERS + 1]
    cdef Py_ssize_t contexts = numbers[number * NUMBERS + 2]
    cdef Py_ssize_t bins = numbers[number * NUMBERS + 3]
    cdef int middle = (1 << (above + bits)) >> 1
    cdef int coarse = max(0, above + bits - 8)
    cdef int top = ((1 << (above + bits)) - 1) << 4
    cdef int expected
    # Up to DIRECT_BITS a place in the range and a margin on both sides, else a part of a code.
    cdef int margin = 16 if bits <= DIRECT_BITS else 0
    cdef int reach = (16 << bits) + 16 if bits <= DIRECT_BITS else (16 << bits) - 16
    cdef int mask = -1 if bits <= DIRECT_BITS else 15
    cdef int shift = 2 if bits > DIRECT_BITS else max(0, bits - 2)
    cdef int offset
    cdef int gradient
    cdef int west
    cdef int p
    cdef int level
    cdef int value
    cdef int base
    cdef int size
    cdef unsigned long long state
    cdef unsigned long long more
    cdef unsigned long long word
    cdef int slot
    cdef Py_ssize_t start
    # Where the starts of symbols of table 0 would stand.
    cdef Py_ssize_t symbols = numbers[number * NUMBERS + 5]
    cdef Py_ssize_t spread = numbers[number * NUMBERS + 6]

    cdef Py_ssize_t count
    cdef Py_ssize_t stride
    cdef Py_ssize_t room
    cdef Py_ssize_t results
    cdef Py_ssize_t vector
    if Channels is uchar:
        c = 3
    elif Channels is ushort:
        c = 1
    else:
        c = kind
    vector = (5 * c + 7) // 8 * 40 + CURRENT_TAPS
    count = width * c
    stride = count + 4 * c + SLACK
    room = ROWS * stride + WINDOW
    results = 3 * count + 2 * width
    for y in range(height):
        for lane in range(lanes):
            start_row(
                codes,
                first[sample + lane * step],
                y,
                height,
                width,
                c,
                above,
                0,
                bits,
                shorts,
                lane * room,
            )
            if y > 0:
                prepare(
                    kind,
                    number,
                    0,
                    width,
                    above,
                    middle << 4,
                    numbers,
                    borders,
                    weights,
                    bias,
                    energy,
                    shorts,
                    lane * room,
                    stride,
                    ints,
                    lane * results,
                    width,
                )
        for x in range(width):
            if y == 0:
                for lane in range(lanes):
                    prepare(
                        kind,
                        number,
                        x,
                        x + 1,
                        above,
                        middle << 4,
                        numbers,
                        borders,
                        weights,
                        bias,
                        energy,
                        shorts,
                        lane * room,
                        stride,
                        ints,
                        lane * results,
                        width,
                    )
            for k in range(c):
                for lane in range(lanes):
                    at = lane * room + (x + 2) * c
                    place = lane * results
                    p = predict(
                        kind,
                        above,
                        top,
                        weights,
                        ints[place + 3 * count + x] + k * vector,
                        shorts,
                        at + CURRENT * stride,
                        ints[place + x * c + k],
                    )
                    west = shorts[at + CURRENT * stride - c + k]
                    gradient = ints[place + 2 * count + x * c + k]
                    gradient += abs(west - shorts[at + N * stride - c + k])
                    expected = foresee(
                        kind,
                        energy,
                        (number * c + k) * ENERGY + 16,
                        shorts,
                        at + ERRORS * stride,
                        gradient >> coarse,
                        ints[place + count + x * c + k],
                    )
                    level = levels[number * LUT + expected]
                    if x == 0 and y == 0:
                        level = FIRST_LEVEL
                    target = first[sample + lane * step] + y * count + x * c + k
                    base = <int>(codes[target]) << bits
                    # Where in the range of the layer the value is expected, and its margin.
                    offset = clamp(p - (base << 4) + margin, reach)
                    context = contexts + (k * LEVELS + level) * bins + ((offset & mask) >> shift)
                    table = table_of[context]
                    start = symbols + table * spread
                    state = states[3 * (stream + lane)]
                    pos = states[3 * (stream + lane) + 1]
                    end = states[3 * (stream + lane) + 2]
                    slot = <int>(state & 4095)
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
                    state = <unsigned long long>(starts[start + value + 1] - starts[start + value]) * (state >> 12) + <unsigned long long>(slot - starts[start + value])
                    more = (state < 65536) & (pos < end)
                    word = <unsigned long long>(data[pos]) << 8 | data[pos + 1]
                    state = state << (more << 4) | (word & (0 - more))
                    pos += 2 * <Py_ssize_t>(more)
                    if bits > DIRECT_BITS:
                        if value >= 16:
                            size = 3 + ((value - 16) >> 1)
                            value = (2 | (value & 1)) << size | <int>(state & ((1 << size) - 1))
                            state >>= size
                            more = (state < 65536) & (pos < end)
                            word = <unsigned long long>(data[pos]) << 8 | data[pos + 1]
                            state = state << (more << 4) | (word & (0 - more))
                            pos += 2 * <Py_ssize_t>(more)
                            if value >> bits > 0:
                                return sample + lane * step
                        value = unfold(value, offset >> 4, (1 << bits) - 1)
                    states[3 * (stream + lane)] = state
                    states[3 * (stream + lane) + 1] = pos
                    value += base
                    codes[target] = value
                    shorts[at + CURRENT * stride + k] = value - middle
                    shorts[at + ERRORS * stride + k] = error(value, p, coarse)
            if y == 0:
                for lane in range(lanes):
                    end_pixel(c, above, shorts, lane * room + (x + 2) * c, stride)
    return -1
