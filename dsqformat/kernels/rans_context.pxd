# What decoder and encoder of `rans` share: their numbers, and the rows around a value (spec 9.3.4).
#
# A .pxd, because inline functions of one compiled module can be used by another only from there.
# The numbers are those of plain_layout.py; a test compares them.

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
    QUADS = 4
    LANES = 16

cdef extern from *:
    """
    static CYTHON_INLINE void dsq_copy(short *to, const short *from, const int count) {
        memcpy(to, from, count * sizeof(short));
    }
    """
    void dsq_copy(short *to, const short *from_, const int count) nogil


cdef inline void copy(
    short[::1] shorts, Py_ssize_t source, Py_ssize_t target, const int count
) noexcept nogil:
    dsq_copy(&shorts[target], &shorts[source], count)


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
    Py_ssize_t at, int[::1] ints, Py_ssize_t pairs,
) noexcept nogil:
    """Move the rows up by one and prepare the current one.

    `at` is where rows begin, `pairs` where the pairs of this stream do, four apart.
    """
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
        ints[pairs + 4 * i] = (
            (shorts[at + N * stride + i] & 65535) | <int>shorts[at + EN * stride + i] << 16
        )


cdef inline void end_pixel(
    Py_ssize_t channels, int above, short[::1] shorts, Py_ssize_t at, Py_ssize_t stride,
    const int[::1] ints, Py_ssize_t pairs,
) noexcept nogil:
    """In the first row the pixels above are those to the left.

    `at` is the pixel in row NN, `pairs` where its values and errors are.
    """
    cdef Py_ssize_t k
    cdef short value
    for k in range(channels):
        value = <short>(ints[pairs + 4 * k] >> 16)
        shorts[at + EN * stride + channels + k] = value
        shorts[at + EN * stride + 2 * channels + k] = value
        if above == 0:
            value = <short>ints[pairs + 4 * k]
            shorts[at + NN * stride + channels + k] = shorts[at + N * stride + channels + k] = value
            shorts[at + NN * stride + 2 * channels + k] = value
            shorts[at + NN * stride + 3 * channels + k] = value
            shorts[at + N * stride + 2 * channels + k] = value
            shorts[at + N * stride + 3 * channels + k] = value


cdef inline void leave_out(Py_ssize_t channels, int[::1] ints, Py_ssize_t pairs) noexcept nogil:
    """Give a pixel that a mask leaves out the values and errors of the one to its left.

    `pairs` is where its own are.
    """
    cdef Py_ssize_t k
    for k in range(channels):
        ints[pairs + 4 * k] = ints[pairs + 4 * (k - channels)]


cdef inline void end_row(
    unsigned short[::1] codes, Py_ssize_t target, Py_ssize_t count, Py_ssize_t channels,
    int middle, short[::1] shorts, Py_ssize_t at, Py_ssize_t stride, const int[::1] ints,
    Py_ssize_t pairs,
) noexcept nogil:
    """Take the values of a row and their errors from its pairs."""
    cdef Py_ssize_t i
    cdef int pair
    for i in range(2 * channels, count + 2 * channels):
        pair = ints[pairs + 4 * i]
        shorts[at + CURRENT * stride + i] = <short>pair
        shorts[at + ERRORS * stride + i] = <short>(pair >> 16)
        codes[target + i - 2 * channels] = <unsigned short>(<short>pair + middle)
