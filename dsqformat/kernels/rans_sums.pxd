# What does not depend on the current row, summed up for a whole row of a stream at once
# (spec 9.3.5 and 9.3.6), and where `rans` keeps it.

from dsqformat.kernels.rans_context cimport (
    CLASSES,
    CURRENT_TAPS,
    EN,
    ENERGY,
    MIDDLE,
    NN,
    NUMBERS,
    SS,
    N,
    S,
)
from dsqformat.kernels.rans_vectors cimport (
    add,
    all_of,
    fold,
    load,
    multiply,
    none,
    quad,
    store,
    turn,
    wide,
)

# The type of the number of channels picks the copy of a function: for 3 or 1 of them, whose loops
# over channels compilers unroll, or for any number.
ctypedef unsigned char uchar
ctypedef unsigned short ushort

ctypedef fused Channels:
    uchar
    ushort
    int


cdef inline Py_ssize_t span(Py_ssize_t channels) noexcept nogil:
    """Return the room for the sums of a pixel, of prediction and energy of each channel."""
    return 8 if channels > 2 else 4


# Scratch of four streams: their pairs (value, error) of the current row, four by four, with two
# pixels before the first. Then for each of them the sums, the last channel first; what N changes to
# its left and right, per value, and room for 4 more; where the weights of each pixel are;
# activities.
cdef inline Py_ssize_t room_of(Py_ssize_t width, Py_ssize_t c) noexcept nogil:
    return width * (span(c) + c + 2) + 4


cdef inline Py_ssize_t group_room(Py_ssize_t width, Py_ssize_t c) noexcept nogil:
    return 4 * ((width + 2) * c + room_of(width, c))


cdef inline Py_ssize_t pairs_of(Py_ssize_t lane, Py_ssize_t width, Py_ssize_t c) noexcept nogil:
    return (lane >> 2) * group_room(width, c) + (lane & 3)


cdef inline Py_ssize_t sums_of(Py_ssize_t lane, Py_ssize_t width, Py_ssize_t c) noexcept nogil:
    return pairs_of(lane & ~3, width, c) + 4 * (width + 2) * c + (lane & 3) * room_of(width, c)


cdef inline Py_ssize_t classes_of(Py_ssize_t width, Py_ssize_t c) noexcept nogil:
    return width * (span(c) + c) + 4


cdef inline void prepare(
    Py_ssize_t c, Py_ssize_t number, Py_ssize_t begin, Py_ssize_t end, int above,
    const int[::1] numbers, const int[::1] borders, const short[::1] weights,
    const int[::1] constants, const short[::1] energy, short[::1] shorts, Py_ssize_t rows,
    Py_ssize_t stride, int[::1] ints, Py_ssize_t sums, Py_ssize_t width,
) noexcept nogil:
    """Sum up for some pixels what does not depend on the current row.

    `number` is the configuration, `rows` and `sums` are where rows and scratch begin.
    """
    cdef Py_ssize_t i
    cdef Py_ssize_t x
    cdef Py_ssize_t k
    cdef Py_ssize_t j
    cdef Py_ssize_t north = rows + 2 * c + N * stride
    cdef Py_ssize_t far = rows + 2 * c + NN * stride
    cdef Py_ssize_t middle = rows + 2 * c + MIDDLE * stride
    cdef Py_ssize_t south = rows + 2 * c + S * stride
    cdef Py_ssize_t changes = sums + width * span(c)
    cdef Py_ssize_t classes = sums + classes_of(width, c)
    cdef int here
    cdef int change
    cdef int activity
    cdef int border
    # Sums are not there yet: their room serves for the activities of single values.
    for i in range(begin * c, end * c):
        here = shorts[north + i]
        change = abs(here - shorts[north + i - c]) + abs(here - shorts[north + i + c])
        ints[changes + i] = change
        ints[sums + i] = change + abs(here - shorts[far + i])
    if above > 0:
        for i in range(begin * c, end * c):
            here = shorts[middle + i]
            ints[sums + i] += abs(here - shorts[south + i]) + abs(here - shorts[middle + i + c])
    for x in range(begin, end):
        activity = 0
        for k in range(c):
            activity += ints[sums + x * c + k]
        ints[classes + width + x] = activity
        ints[classes + x] = numbers[number * NUMBERS + 4]
    for j in range(CLASSES - 1):
        border = borders[number * (CLASSES - 1) + j]
        if border == 0x7fffffff:
            break
        for x in range(begin, end):
            ints[classes + x] += border <= ints[classes + width + x]
    if c == 3:
        sum_up(
            <uchar>3, begin, end, above, number, weights, constants, energy, shorts, rows, stride,
            ints, sums, classes,
        )
    elif c == 1:
        sum_up(
            <ushort>1, begin, end, above, number, weights, constants, energy, shorts, rows, stride,
            ints, sums, classes,
        )
    else:
        sum_up(
            <int>c, begin, end, above, number, weights, constants, energy, shorts, rows, stride,
            ints, sums, classes,
        )


cdef inline void sum_up(
    Channels kind, Py_ssize_t begin, Py_ssize_t end, int above, Py_ssize_t number,
    const short[::1] weights, const int[::1] constants, const short[::1] energy, short[::1] shorts,
    Py_ssize_t rows, Py_ssize_t stride, int[::1] ints, Py_ssize_t sums, Py_ssize_t classes,
) noexcept nogil:
    """Sum up the taps; a class makes way for where the weights of the current row are."""
    cdef Py_ssize_t c
    cdef Py_ssize_t x
    cdef Py_ssize_t k
    cdef Py_ssize_t at
    cdef Py_ssize_t group
    cdef Py_ssize_t weight
    cdef Py_ssize_t room
    cdef int lanes
    cdef quad[8] parts
    cdef quad[4] columns
    cdef wide sum
    if Channels is uchar:
        c = 3
    elif Channels is ushort:
        c = 1
    else:
        c = kind
    lanes = <int>((5 * c + 7) // 8 * 8)
    room = span(c)
    for k in range(8):
        parts[k] = all_of(0)
    for x in range(begin, end):
        at = rows + x * c
        group = ints[classes + x]
        for k in range(c):
            weight = (group * c + k) * (5 * lanes + CURRENT_TAPS)
            sum = multiply(none(), &shorts[at + NN * stride], &weights[weight], lanes)
            sum = multiply(sum, &shorts[at + N * stride], &weights[weight + lanes], lanes)
            if above > 0:
                sum = multiply(
                    sum, &shorts[at + 2 * c + MIDDLE * stride], &weights[weight + 2 * lanes], lanes
                )
                sum = multiply(sum, &shorts[at + S * stride], &weights[weight + 3 * lanes], lanes)
                sum = multiply(sum, &shorts[at + SS * stride], &weights[weight + 4 * lanes], lanes)
            parts[2 * (c - 1 - k)] = fold(sum)
            weight = (number * c + k) * ENERGY
            sum = multiply(none(), &shorts[at + c + EN * stride], &energy[weight], 16)
            parts[2 * (c - 1 - k) + 1] = fold(sum)
        turn(parts, columns)
        columns[0] = add(add(columns[0], columns[1]), add(columns[2], columns[3]))
        store(&ints[sums + x * room], add(columns[0], load(&constants[group * room])))
        if room > 4:
            turn(&parts[4], columns)
            columns[0] = add(add(columns[0], columns[1]), add(columns[2], columns[3]))
            store(&ints[sums + x * room + 4], add(columns[0], load(&constants[group * room + 4])))
        ints[classes + x] = <int>(group * (4 * c * room + 16))
