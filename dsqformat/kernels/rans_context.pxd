# What decoder and encoder of `rans` share: the rows around a value, and what is expected of it
# (spec 9.3.4 to 9.3.6).
#
# A .pxd, because inline functions of one compiled module can be used by another only from there.
# The numbers are those of plain_layout.py; a test compares them.
#
# What of a context does not depend on the current row is summed up for a whole row at once
# (`prepare`); the rest follows value by value and waits for the value before.

cdef enum:
    NN = 0
    N = 1
    CURRENT = 2
    MIDDLE = 3
    S = 4
    SS = 5
    EN = 6
    ERRORS = 7
    ROWS = 8
    SLACK = 32
    WINDOW = 128
    CURRENT_TAPS = 16
    ENERGY = 26
    CLASSES = 8
    ENERGY_TOP = 4095
    LUT = 4096
    FIRST_LEVEL = 15
    LEVELS = 16
    SYMBOLS = 40
    DIRECT_BITS = 4
    NUMBERS = 7
    BUCKETS = 64
    LANES = 4

# The type of the number of channels picks the copy of a function: for 3 or 1 of them, whose loops
# over channels compilers unroll, or for any number.
ctypedef unsigned char uchar
ctypedef unsigned short ushort

ctypedef fused Channels:
    uchar
    ushort
    int


cdef extern from *:
    """
    /* Not unrolled, so that compilers see a sum they can vectorize, also within other loops. */
    static CYTHON_INLINE int dsq_dot(const short *a, const short *b, const int count) {
        int i, total = 0;
        #if defined(__GNUC__) && !defined(__clang__)
        #pragma GCC unroll 1
        #endif
        for (i = 0; i < count; i++) total += (int)a[i] * (int)b[i];
        return total;
    }
    static CYTHON_INLINE void dsq_copy(short *to, const short *from, const int count) {
        memcpy(to, from, count * sizeof(short));
    }
    """
    void dsq_copy(short *to, const short *from_, const int count) nogil
    int dsq_dot(const short *a, const short *b, const int count) nogil


cdef inline void copy(
    short[::1] shorts, Py_ssize_t source, Py_ssize_t target, const int count
) noexcept nogil:
    dsq_copy(&shorts[target], &shorts[source], count)


cdef inline int dot(
    short[::1] a, Py_ssize_t at, const short[::1] b, Py_ssize_t begin, const int count
) noexcept nogil:
    return dsq_dot(&a[at], &b[begin], count)


cdef inline void fill_row(
    const unsigned short[::1] codes, Py_ssize_t source, Py_ssize_t count, Py_ssize_t channels,
    int shift, int width, int middle, short[::1] shorts, Py_ssize_t row,
) noexcept nogil:
    """Put the middles of what the layers before say of `count` values into a row."""
    cdef Py_ssize_t i
    cdef Py_ssize_t start = row + 2 * channels
    cdef int half = ((1 << width) >> 1) - middle
    for i in range(count):
        shorts[start + i] = ((<int>codes[source + i] >> shift) << width) + half
    extend(shorts, row, count, channels)


cdef inline void extend(
    short[::1] shorts, Py_ssize_t row, Py_ssize_t count, Py_ssize_t channels,
) noexcept nogil:
    """Continue a row to both sides with its outermost pixels."""
    cdef Py_ssize_t i
    cdef Py_ssize_t end = row + 2 * channels + count
    for i in range(channels):
        shorts[row + i] = shorts[row + channels + i] = shorts[row + 2 * channels + i]
        shorts[end + i] = shorts[end + channels + i] = shorts[end - channels + i]


cdef inline void copy_row(
    short[::1] shorts, Py_ssize_t source, Py_ssize_t target, Py_ssize_t count,
) noexcept nogil:
    copy(shorts, source, target, <int>(count))


cdef inline void start_row(
    const unsigned short[::1] codes, Py_ssize_t first, Py_ssize_t y, Py_ssize_t height,
    Py_ssize_t width, Py_ssize_t channels, int above, int shift, int bits, short[::1] shorts,
    Py_ssize_t at,
) noexcept nogil:
    """Move the rows up by one and prepare the current one; `at` is where they begin."""
    cdef Py_ssize_t i
    cdef Py_ssize_t count = width * channels
    cdef Py_ssize_t stride = count + 4 * channels + SLACK
    cdef int middle = (1 << (above + bits)) >> 1
    if y == 0:
        for i in range(ROWS * stride):
            shorts[at + i] = 0
        if above > 0:
            for i in range(min(height, 2)):
                fill_row(
                    codes,
                    first + i * count,
                    count,
                    channels,
                    shift,
                    bits,
                    middle,
                    shorts,
                    at + (S + i) * stride,
                )
            if height == 1:
                copy_row(shorts, at + S * stride, at + SS * stride, stride)
            copy_row(shorts, at + S * stride, at + NN * stride, stride)
            copy_row(shorts, at + S * stride, at + N * stride, stride)
    else:
        extend(shorts, at + CURRENT * stride, count, channels)
        extend(shorts, at + ERRORS * stride, count, channels)
        copy_row(shorts, at + N * stride, at + NN * stride, stride)
        copy_row(shorts, at + CURRENT * stride, at + N * stride, stride)
        copy_row(shorts, at + ERRORS * stride, at + EN * stride, stride)
    if above > 0:
        copy_row(shorts, at + S * stride, at + MIDDLE * stride, stride)
        copy_row(shorts, at + SS * stride, at + S * stride, stride)
        if y + 2 < height:
            fill_row(
                codes,
                first + (y + 2) * count,
                count,
                channels,
                shift,
                bits,
                middle,
                shorts,
                at + SS * stride,
            )
    # To the left of a row stands the first pixel of the row above it.
    for i in range(2 * channels):
        shorts[at + CURRENT * stride + i] = shorts[at + N * stride + i]
        shorts[at + ERRORS * stride + i] = shorts[at + EN * stride + i]


cdef inline void end_pixel(
    Py_ssize_t channels, int above, short[::1] shorts, Py_ssize_t at, Py_ssize_t stride,
) noexcept nogil:
    """In the first row the pixels above are those to the left; `at` is the pixel in row NN."""
    cdef Py_ssize_t k
    cdef short value
    for k in range(channels):
        value = shorts[at + ERRORS * stride + k]
        shorts[at + EN * stride + channels + k] = value
        shorts[at + EN * stride + 2 * channels + k] = value
        if above == 0:
            value = shorts[at + CURRENT * stride + k]
            shorts[at + NN * stride + channels + k] = shorts[at + N * stride + channels + k] = value
            shorts[at + NN * stride + 2 * channels + k] = value
            shorts[at + NN * stride + 3 * channels + k] = value
            shorts[at + N * stride + 2 * channels + k] = value
            shorts[at + N * stride + 3 * channels + k] = value


cdef inline int clamp(int value, int top) noexcept nogil:
    value = 0 if value < 0 else value
    return top if value > top else value


cdef inline void prepare(
    Channels kind, Py_ssize_t number, Py_ssize_t begin, Py_ssize_t end, int above, int zero,
    const int[::1] numbers, const int[::1] borders, const short[::1] weights, const int[::1] bias,
    const short[::1] energy, short[::1] shorts, Py_ssize_t rows, Py_ssize_t stride, int[::1] ints,
    Py_ssize_t sums, Py_ssize_t width,
) noexcept nogil:
    """Sum up for some pixels what does not depend on the current row.

    `number` is the configuration, `rows` and `sums` are where rows and results begin. Results are,
    one after another: sums of prediction, of energy and of the gradient, one per value of the row;
    where the weights of the current row begin and the activity, one per pixel.
    """
    cdef Py_ssize_t c
    cdef Py_ssize_t x
    cdef Py_ssize_t k
    cdef Py_ssize_t i
    cdef Py_ssize_t at
    cdef Py_ssize_t weight
    cdef Py_ssize_t lanes
    # Where the window of taps is gathered: behind the rows.
    cdef Py_ssize_t window = rows + ROWS * stride
    cdef int total
    cdef int activity
    cdef int north
    cdef int here
    cdef Py_ssize_t count
    cdef Py_ssize_t group
    if Channels is uchar:
        c = 3
    elif Channels is ushort:
        c = 1
    else:
        c = kind
    count = width * c
    lanes = (5 * c + 7) // 8 * 8
    for x in range(begin, end):
        at = rows + (x + 2) * c
        activity = 0
        for k in range(c):
            i = at + N * stride + k
            here = shorts[i]
            north = abs(here - shorts[i - c]) + abs(here - shorts[i + c])
            ints[sums + 2 * count + x * c + k] = north
            activity += north + abs(here - shorts[at + NN * stride + k])
            if above > 0:
                i = at + MIDDLE * stride + k
                here = shorts[i]
                activity += abs(here - shorts[at + S * stride + k]) + abs(here - shorts[i + c])
        group = numbers[number * NUMBERS + 4]
        for i in range(CLASSES - 1):
            if borders[number * (CLASSES - 1) + i] <= activity:
                group += 1
        i = at - 2 * c
        copy(shorts, i + NN * stride, window, lanes)
        copy(shorts, i + N * stride, window + lanes, lanes)
        if above > 0:
            copy(shorts, at + MIDDLE * stride, window + 2 * lanes, lanes)
            copy(shorts, i + S * stride, window + 3 * lanes, lanes)
            copy(shorts, i + SS * stride, window + 4 * lanes, lanes)
        group *= c
        for k in range(c):
            weight = (group + k) * (5 * lanes + CURRENT_TAPS)
            if above > 0:
                total = dot(shorts, window, weights, weight, 5 * lanes)
            else:
                total = dot(shorts, window, weights, weight, 2 * lanes)
            ints[sums + x * c + k] = total + 128 + (bias[group + k] + zero) * 256
            weight = (number * c + k) * ENERGY
            total = dot(shorts, at + EN * stride - c, energy, weight, 16)
            ints[sums + count + x * c + k] = total + (
                <int>energy[weight + ENERGY - 1] * 256
            )
        ints[sums + 3 * count + x] = group * (5 * lanes + CURRENT_TAPS) + 5 * lanes
        ints[sums + 3 * count + width + x] = activity


cdef inline int predict(
    Channels kind, int above, int top, const short[::1] weights, Py_ssize_t weight,
    short[::1] shorts, Py_ssize_t here, int total,
) noexcept nogil:
    """Return the predicted value in sixteenths, 0 to `top`.

    `weight` is where the weights of the current row begin, `here` the pixel in it, `total` what
    `prepare` summed up.
    """
    cdef Py_ssize_t c
    if Channels is uchar:
        c = 3
    elif Channels is ushort:
        c = 1
    else:
        c = kind
    # Channels of this pixel that are not known yet have weights of 0.
    if c > 3:
        total += dot(shorts, here - 2 * c, weights, weight, 16)
    else:
        total += dot(shorts, here - 2 * c, weights, weight, 8)
    return clamp(total >> 8, top)


cdef inline int foresee(
    Channels kind, const short[::1] energy, Py_ssize_t term, short[::1] shorts, Py_ssize_t error,
    int gradient, int total,
) noexcept nogil:
    """Return the expected error in sixteenths, 0 to ENERGY_TOP.

    `term` is where the weights of the current errors begin, `error` the pixel in their row,
    `total` what `prepare` summed up.
    """
    cdef Py_ssize_t c
    if Channels is uchar:
        c = 3
    elif Channels is ushort:
        c = 1
    else:
        c = kind
    total += dot(shorts, error - c, energy, term, 8)
    total += clamp(gradient, ENERGY_TOP) * energy[term + 8]
    return clamp(total >> 8, ENERGY_TOP)


cdef inline int error(int value, int predicted, int coarse) noexcept nogil:
    cdef int error = abs((value << 4) - predicted) >> coarse
    return ENERGY_TOP if error > ENERGY_TOP else error
