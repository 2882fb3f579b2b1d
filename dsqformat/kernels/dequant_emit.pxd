# From the codes of one tile to what is written: floats, pictures of 0 to 255, codes (spec 10.3).
#
# `gains` and `shifts` repeat the channels of a sample; value 0 of a tile has number `phase` of them.

from dsqformat.kernels.dequant_codes cimport Code

cdef enum:
    # What to write: floats, pictures of 0 to 255, or the codes themselves in one or two bytes.
    FLOAT32 = 0
    LEVELS = 1
    OCTETS = 2
    SHORTS = 3


cdef inline void emit_scalar(
    const Code[::1] codes, Py_ssize_t start, Py_ssize_t count, int missing, int zero_point,
    float gain, float shift, float[::1] out, Py_ssize_t first
) noexcept nogil:
    """Write (u' - Z) * gain + shift, each operation rounded on its own."""
    cdef Py_ssize_t i
    cdef float step = 1 << missing
    cdef float middle = 0.5 * ((1 << missing) - 1) - zero_point
    if missing == 0:
        # Subtracting integers is cheaper than subtracting floats, and as exact.
        for i in range(count):
            out[first + i] = <float>(<int>codes[start + i] - zero_point) * gain + shift
    else:
        for i in range(count):
            out[first + i] = (<float>codes[start + i] * step + middle) * gain + shift


cdef inline void emit_rows(
    const Code[::1] codes, Py_ssize_t start, Py_ssize_t count, int missing, int zero_point,
    const float[::1] gains, const float[::1] shifts, Py_ssize_t phase,
    float[::1] out, Py_ssize_t first
) noexcept nogil:
    """As `emit_scalar` for several channels."""
    cdef Py_ssize_t i
    cdef Py_ssize_t take
    cdef float step = 1 << missing
    cdef float middle = 0.5 * ((1 << missing) - 1) - zero_point
    while count > 0:
        take = min(gains.shape[0] - phase, count)
        for i in range(take):
            out[first + i] = (
                (<float>codes[start + i] * step + middle) * gains[phase + i] + shifts[phase + i]
            )
        start += take
        first += take
        count -= take
        phase = 0


cdef inline void emit_levels(
    const Code[::1] codes, Py_ssize_t start, Py_ssize_t count, int missing, int zero_point,
    const float[::1] gains, const float[::1] shifts, Py_ssize_t phase, float[::1] levels,
    unsigned char[::1] out, Py_ssize_t first
) noexcept nogil:
    """Write min(255, max(0, rint(fl(x * 255)))) of the values x; `levels` is scratch."""
    cdef Py_ssize_t i
    cdef Py_ssize_t take
    cdef float level
    cdef float step = 1 << missing
    cdef float middle = 0.5 * ((1 << missing) - 1) - zero_point
    # Named, because literals would make doubles of them.
    cdef float least = 0
    cdef float most = 255
    # Added to a number of 0 to 255, 2^23 leaves no room for a fraction: it rounds half to even.
    cdef float whole = 8388608.0
    while count > 0:
        take = min(gains.shape[0] - phase, count)
        # One step per loop: a comparison and what follows it would be compiled to branches.
        for i in range(take):
            level = (
                (<float>codes[start + i] * step + middle) * gains[phase + i] + shifts[phase + i]
            ) * most
            levels[i] = level if level > least else least
        for i in range(take):
            level = levels[i]
            levels[i] = level if level < most else most
        for i in range(take):
            out[first + i] = <int>((levels[i] + whole) - whole)
        start += take
        first += take
        count -= take
        phase = 0


cdef inline void emit(
    int output, const Code[::1] codes, Py_ssize_t start, Py_ssize_t count, int missing,
    int zero_point, const float[::1] gains, const float[::1] shifts, Py_ssize_t phase,
    float[::1] levels, float[::1] floats, unsigned char[::1] octets, unsigned short[::1] shorts,
    Py_ssize_t first
) noexcept nogil:
    """Turn codes into the kind of values that `output` names."""
    cdef Py_ssize_t i
    if output == FLOAT32 and gains.shape[0] == 1:
        emit_scalar(codes, start, count, missing, zero_point, gains[0], shifts[0], floats, first)
    elif output == FLOAT32:
        emit_rows(codes, start, count, missing, zero_point, gains, shifts, phase, floats, first)
    elif output == LEVELS:
        emit_levels(
            codes, start, count, missing, zero_point, gains, shifts, phase, levels, octets, first
        )
    elif output == OCTETS:
        for i in range(count):
            octets[first + i] = <unsigned char>codes[start + i]
    else:
        for i in range(count):
            shorts[first + i] = codes[start + i]


cdef inline void repeat_channels(
    const float[:, ::1] values, Py_ssize_t sample, float[::1] out
) noexcept nogil:
    """Fill `out` with the channels of one sample, again and again."""
    cdef Py_ssize_t i
    cdef Py_ssize_t filled = values.shape[1]
    cdef Py_ssize_t take
    cdef bint same = True
    for i in range(filled):
        same = same and out[i] == values[sample, i]
        out[i] = values[sample, i]
    if same:
        return  # as in the sample before
    while filled < out.shape[0]:
        take = min(filled, out.shape[0] - filled)
        for i in range(take):
            out[filled + i] = out[i]
        filled += take
