# From codes to pixels: dequantization, inverse transform and channels (spec A.9).
#
# Sums of products stay below 2^24, so that they are exact in binary32 and vectorize with the least
# instruction set of the platform.

cdef enum:
    LEVELS = 13
    PIXEL_LIMIT = 7167


cdef inline void transform_rows(
    const float[::1] basis, Py_ssize_t mine, float[::1] temp, short[::1] pixels, Py_ssize_t at,
    Py_ssize_t row, int size, Py_ssize_t T, Py_ssize_t used
) noexcept nogil:
    """Second stage: rows of the block from `used` columns of frequencies; empties `temp`."""
    cdef Py_ssize_t n
    cdef Py_ssize_t m
    cdef Py_ssize_t u
    cdef float c
    cdef int shift = 9 - size
    cdef int round_ = 1 << (8 - size)
    cdef float limit = <float>(65535 >> size)
    cdef int value
    cdef float[32] sums
    for n in range(used * T):
        # Rounded as integers: an arithmetic shift, also of what is negative.
        value = (<int>temp[n] + 32) >> 6
        c = <float>value
        c = limit if c > limit else c
        temp[n] = -limit if c < -limit else c
    for n in range(T):
        c = temp[n] * 64
        for m in range(T):
            sums[m] = c
        for u in range(1, used):
            c = temp[u * T + n]
            for m in range(T):
                sums[m] += c * basis[mine + u * 32 + m]
        for m in range(T):
            value = (<int>sums[m] + round_) >> shift
            value = value if value < PIXEL_LIMIT else PIXEL_LIMIT
            pixels[at + n * row + m] = <short>(value if value > -PIXEL_LIMIT else -PIXEL_LIMIT)
    for n in range(used * T):
        temp[n] = 0


cdef inline int dequantize(
    int a, int offset, long long step, int size
) noexcept nogil:
    """Return the coefficient of a code; the offset is added to its magnitude (spec A.9.1)."""
    cdef int shift = 5 + 2 * size
    cdef long long half = <long long>1 << (shift - 1)
    cdef long long limit = 65535 >> size
    if a >= 0:
        return <int>min(limit, ((<long long>a * 16 + offset) * step + half) >> shift)
    return -<int>min(limit, ((<long long>-a * 16 + offset) * step + half) >> shift)


cdef inline int dequantize_dc(
    int a, int offset, long long step, int size
) noexcept nogil:
    """Return the coefficient of a DC: a floor, its middle lies above it whatever its sign."""
    cdef int shift = 5 + 2 * size
    cdef long long half = <long long>1 << (shift - 1)
    cdef long long limit = 65535 >> size
    cdef long long c = (<long long>a * 16 + offset) * step
    c = -((-c + half) >> shift) if c < 0 else (c + half) >> shift
    return <int>min(limit, max(-limit, c))


cdef inline void store_block(
    const unsigned short[::1] where, const int[::1] values, Py_ssize_t mine, Py_ssize_t count,
    const unsigned char[::1] rows, const unsigned char[::1] columns, const short[::1] bands,
    const long long[:, ::1] band_steps, Py_ssize_t sample, const int[::1] offsets,
    float[::1] out, Py_ssize_t at, Py_ssize_t width, int size, int chroma
) noexcept nogil:
    """Dequantize a block into `out`, which is zeros, rows `width` values apart."""
    cdef Py_ssize_t i
    cdef Py_ssize_t n
    cdef int a
    out[at] = dequantize_dc(
        values[mine], offsets[6], band_steps[sample, chroma * 8 + 7], size
    )
    for i in range(count):
        n = (<Py_ssize_t>size << 10) + where[mine + 1 + i]
        a = values[mine + 1 + i]
        out[at + rows[n] * width + columns[n]] = dequantize(
            a, offsets[chroma * 3 + min(a if a >= 0 else -a, 3) - 1],
            band_steps[sample, chroma * 8 + bands[n] // LEVELS], size
        )


cdef inline void inverse_block(
    const unsigned short[::1] where, const int[::1] values, Py_ssize_t mine, Py_ssize_t count,
    const unsigned char[::1] rows, const unsigned char[::1] columns, const short[::1] bands,
    const long long[:, ::1] band_steps, Py_ssize_t sample, const int[::1] offsets,
    const float[::1] basis, float[::1] temp, short[::1] pixels, Py_ssize_t at,
    Py_ssize_t width, int size, int chroma
) noexcept nogil:
    """Dequantize a block and write its values, with 4 bits of fraction, to `pixels`."""
    cdef Py_ssize_t T = <Py_ssize_t>4 << size
    cdef int limit = 65535 >> size
    cdef int a
    cdef int c
    cdef float f
    cdef Py_ssize_t i
    cdef Py_ssize_t n
    cdef Py_ssize_t m
    cdef Py_ssize_t u
    cdef Py_ssize_t v
    cdef Py_ssize_t used = 0
    c = dequantize_dc(values[mine], offsets[6], band_steps[sample, chroma * 8 + 7], size)
    if count == 0:
        c = min(limit, max(-limit, (64 * c + 32) >> 6))
        c = (64 * c + (1 << (8 - size))) >> (9 - size)
        c = min(PIXEL_LIMIT, max(-PIXEL_LIMIT, c))
        for n in range(T):
            for m in range(T):
                pixels[at + n * width + m] = <short>c
        return
    f = <float>(64 * c)
    for n in range(T):
        temp[n] = f
    for i in range(count):
        n = (<Py_ssize_t>size << 10) + where[mine + 1 + i]
        v = rows[n]
        u = columns[n]
        a = values[mine + 1 + i]
        f = <float>dequantize(
            a, offsets[chroma * 3 + min(a if a >= 0 else -a, 3) - 1],
            band_steps[sample, chroma * 8 + bands[n] // LEVELS], size
        )
        if u > used:
            used = u
        m = (<Py_ssize_t>size << 10) + v * 32
        if size == 1:
            for n in range(8):
                temp[u * 8 + n] += f * basis[m + n]
        else:
            for n in range(T):
                temp[u * T + n] += f * basis[m + n]
    # Loops of known length vectorize best.
    if size == 1:
        transform_rows(basis, 1024, temp, pixels, at, width, 1, 8, used + 1)
    elif size == 2:
        transform_rows(basis, 2048, temp, pixels, at, width, 2, 16, used + 1)
    elif size == 3:
        transform_rows(basis, 3072, temp, pixels, at, width, 3, 32, used + 1)
    else:
        transform_rows(basis, 0, temp, pixels, at, width, 0, 4, used + 1)


cdef inline void write_channels(
    const short[::1] pixels, Py_ssize_t strip, Py_ssize_t row, Py_ssize_t height,
    Py_ssize_t width, Py_ssize_t planes, bint rgb, const int[::1] shifts, bint as_floats,
    unsigned char[::1] octets, float[::1] floats, Py_ssize_t at, int[::1] line
) noexcept nogil:
    """Turn rows of planes into interleaved channels: bytes, or binary32 with 1 for 255."""
    cdef Py_ssize_t y
    cdef Py_ssize_t i
    cdef Py_ssize_t c
    cdef Py_ssize_t p
    cdef Py_ssize_t o
    cdef int a
    cdef int b
    cdef int d
    cdef int top = 255 << 14
    for y in range(height):
        p = y * row
        if rgb:
            for i in range(width):
                a = 591 * pixels[p + i]
                b = 724 * pixels[p + strip + i]
                d = 418 * pixels[p + 2 * strip + i]
                line[i] = a + b - d + shifts[0]
                line[width + i] = a + 2 * d + shifts[1]
                line[2 * width + i] = a - b - d + shifts[2]
        for c in range(3 if rgb else 0, planes):
            for i in range(width):
                line[c * width + i] = 1024 * pixels[p + c * strip + i] + shifts[c]
        o = at + y * width * planes
        if as_floats:
            for c in range(planes):
                for i in range(width):
                    a = line[c * width + i]
                    a = a if a > 0 else 0
                    a = a if a < top else top
                    floats[o + i * planes + c] = <float>a / 4177920.0
            continue
        for i in range(width * planes):
            a = (line[i] + 8192) >> 14
            a = a if a > 0 else 0
            line[i] = a if a < 255 else 255
        if planes == 3:
            for i in range(width):
                octets[o + 3 * i] = <unsigned char>line[i]
                octets[o + 3 * i + 1] = <unsigned char>line[width + i]
                octets[o + 3 * i + 2] = <unsigned char>line[2 * width + i]
        else:
            for c in range(planes):
                for i in range(width):
                    octets[o + i * planes + c] = <unsigned char>line[c * width + i]
