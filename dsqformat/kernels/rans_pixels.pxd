# What decoder and encoder of `rans` expect of a value (spec 9.3.5 to 9.3.7).
#
# To the sums of `rans_sums` comes what depends on the pixels to the left when a pixel begins. The
# rest follows value by value and waits for the value before: here four streams are one, number by
# number.

from dsqformat.kernels.rans_context cimport DIRECT_BITS, ENERGY, ENERGY_TOP, MIDDLE, ROWS, N
from dsqformat.kernels.rans_sums cimport Channels, classes_of, span, sums_of, uchar, ushort
from dsqformat.kernels.rans_vectors cimport (
    add,
    all_of,
    clamp_to,
    down,
    load,
    load_pairs,
    low_of,
    mix,
    pair,
    pairs_at,
    quad,
    size_of,
    store,
    subtract,
    turn,
    up,
)


# A pixel of up to four streams; each quad is a number of each of them, with those of channel k at
# [k]. Where there are fewer streams, the last one stands for the others.
cdef struct Pixel:
    # Sums of prediction and energy, what N changes to its left and right; (northwest, middle).
    quad[4] predicted
    quad[4] foreseen
    quad[4] change
    quad[4] around
    # Weights (of prediction, 0) of channel j for channel k at [k * (k - 1) / 2 + j].
    quad[8] inner
    # What changes around the value that was expected last.
    quad gradient
    # Values and errors, of this pixel and of the one before.
    quad[4] pairs
    quad[4] left


# What the streams of one call have in common, each in all four places: the largest prediction and
# expected error; the middle of all values, and how far below that of those left the least one is;
# where in its range a value is expected: a margin, and the largest such number. Then the loss, and
# weights of energy: (0, weight) as `Pixel.inner`, (gradient, 0).
cdef struct Layer:
    quad top
    quad energy_top
    quad middle
    quad below
    quad margin
    quad reach
    int coarse
    quad[8] inner
    quad[4] steep


cdef inline void set_layer(
    Layer* layer, Py_ssize_t c, int above, int bits, Py_ssize_t number, const short[::1] energy
) noexcept nogil:
    """`number` is the configuration, of `bits` bits below `above` known ones."""
    cdef Py_ssize_t j
    cdef Py_ssize_t k
    cdef int weight
    layer.coarse = max(0, above + bits - 8)
    layer.top = all_of(((1 << (above + bits)) - 1) << 4)
    # Up to DIRECT_BITS a place in the range and a margin on both sides, else a part of a code.
    layer.margin = all_of(16 if bits <= DIRECT_BITS else 0)
    layer.reach = all_of((16 << bits) + 16 if bits <= DIRECT_BITS else (16 << bits) - 16)
    layer.energy_top = all_of(ENERGY_TOP)
    layer.middle = all_of((1 << (above + bits)) >> 1)
    layer.below = all_of((1 << bits) >> 1)
    for k in range(c):
        layer.steep[k] = all_of(energy[(number * c + k) * ENERGY + 24] & 65535)
        for j in range(k):
            weight = energy[(number * c + k) * ENERGY + 16 + c + j]
            layer.inner[k * (k - 1) // 2 + j] = all_of((weight & 65535) << 16)


cdef inline void start_pixel(
    Channels kind, Pixel* pixel, Py_ssize_t x, int above, const short[::1] mixes,
    const short[::1] shorts, Py_ssize_t rows, Py_ssize_t stride, const int[::1] ints,
    Py_ssize_t scratch, Py_ssize_t width, Py_ssize_t lanes,
) noexcept nogil:
    """Add to the sums of a pixel what the pixels to its left say, and turn them by 90 degrees.

    `rows` and `scratch` are those of the first of `lanes` streams.
    """
    cdef Py_ssize_t c
    cdef Py_ssize_t t
    cdef Py_ssize_t k
    cdef Py_ssize_t lane
    cdef Py_ssize_t at
    cdef Py_ssize_t place = 0
    cdef Py_ssize_t sums
    cdef Py_ssize_t room
    cdef Py_ssize_t pairs
    cdef quad both
    cdef quad[4] low
    cdef quad[4] high
    cdef quad[4] change
    cdef quad[4] around
    cdef quad[4] inner
    cdef quad[4] more
    if Channels is uchar:
        c = 3
    elif Channels is ushort:
        c = 1
    else:
        c = kind
    room = span(c)
    pairs = scratch + 4 * x * c
    for lane in range(4):
        if lane < lanes:
            place = lane
            sums = scratch + sums_of(lane, width, c)
            at = ints[sums + classes_of(width, c) + x]
            low[lane] = load(&ints[sums + x * room])
            if room > 4:
                high[lane] = load(&ints[sums + x * room + 4])
            for t in range(c if above > 0 else 0, 2 * c):
                both = all_of(ints[pairs + 4 * t + lane])
                low[lane] = mix(low[lane], load_pairs(&mixes[at + 2 * room * t]), both)
                if room > 4:
                    high[lane] = mix(high[lane], load_pairs(&mixes[at + 2 * room * t + 8]), both)
            change[lane] = load(&ints[sums + width * room + x * c])
            around[lane] = pairs_at(
                &shorts[rows + lane * ROWS * stride + N * stride + (x + 1) * c],
                &shorts[rows + lane * ROWS * stride + MIDDLE * stride + (x + 2) * c],
            )
            inner[lane] = load_pairs(&mixes[at + 4 * c * room])
            if c > 3:
                more[lane] = load_pairs(&mixes[at + 4 * c * room + 8])
        else:
            low[lane] = low[place]
            if room > 4:
                high[lane] = high[place]
            change[lane] = change[place]
            around[lane] = around[place]
            inner[lane] = inner[place]
            if c > 3:
                more[lane] = more[place]
    turn(change, pixel.change)
    turn(around, pixel.around)
    if c > 1:
        turn(inner, pixel.inner)
    if c > 3:
        turn(more, &pixel.inner[4])
    turn(low, inner)
    if room > 4:
        turn(high, more)
    for k in range(c):
        t = 2 * (c - 1 - k)
        if t < 4:
            pixel.predicted[k], pixel.foreseen[k] = inner[t], inner[t + 1]
        else:
            pixel.predicted[k], pixel.foreseen[k] = more[t - 4], more[t - 3]
        pixel.left[k] = load(&ints[pairs + 4 * (c + k)])


cdef inline void start_pixels(
    Py_ssize_t c, Pixel* pixel, Py_ssize_t x, int above, const short[::1] mixes,
    const short[::1] shorts, Py_ssize_t rows, Py_ssize_t stride, const int[::1] ints,
    Py_ssize_t scratch, Py_ssize_t width, Py_ssize_t lanes,
) noexcept nogil:
    """As `start_pixel`, for any number of channels."""
    if c == 3:
        start_pixel(
            <uchar>3, pixel, x, above, mixes, shorts, rows, stride, ints, scratch, width, lanes
        )
    else:
        start_pixel(
            <int>c, pixel, x, above, mixes, shorts, rows, stride, ints, scratch, width, lanes
        )


cdef inline quad expect(Layer* layer, Pixel* pixel, Py_ssize_t k, quad* energy) noexcept nogil:
    """Return the predicted values in sixteenths; `energy` becomes the expected errors."""
    cdef Py_ssize_t j
    cdef quad predicted = pixel.predicted[k]
    cdef quad foreseen = pixel.foreseen[k]
    cdef quad change = subtract(low_of(pixel.left[k]), low_of(pixel.around[k]))
    for j in range(k):
        predicted = mix(predicted, pixel.pairs[j], pixel.inner[k * (k - 1) // 2 + j])
        foreseen = mix(foreseen, pixel.pairs[j], layer.inner[k * (k - 1) // 2 + j])
    pixel.gradient = down(add(pixel.change[k], size_of(change)), layer.coarse)
    foreseen = mix(foreseen, pixel.gradient, layer.steep[k])
    energy[0] = clamp_to(down(foreseen, 8), layer.energy_top)
    return clamp_to(down(predicted, 8), layer.top)


cdef inline quad place(
    Layer* layer, Pixel* pixel, Py_ssize_t k, quad predicted, quad* least
) noexcept nogil:
    """Return where in the range of the layer values are expected, with the margin (spec 9.3.7).

    `least` becomes the least values of the range, centred.
    """
    least[0] = subtract(down(pixel.around[k], 16), layer.below)
    predicted = subtract(predicted, up(add(least[0], layer.middle), 4))
    return clamp_to(add(predicted, layer.margin), layer.reach)


cdef inline void keep(
    Layer* layer, Pixel* pixel, Py_ssize_t k, quad value, quad predicted, int[::1] ints,
    Py_ssize_t pairs,
) noexcept nogil:
    """Keep centred values and their errors; `pairs` is where those of this channel are."""
    cdef quad error = subtract(up(add(value, layer.middle), 4), predicted)
    error = clamp_to(down(size_of(error), layer.coarse), layer.energy_top)
    pixel.pairs[k] = pair(value, error)
    store(&ints[pairs], pixel.pairs[k])
