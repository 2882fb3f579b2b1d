# One layer of one tile: from packed bits to one or two bytes per value (spec 9.1).
#
# A .pxd, because inline functions of one module can be written in another file only there.
# `raw` and `pairs` are scratch, `out_words` is the memory of `out` as words: some loops write 8
# values at once.

cdef inline void halve(
    const unsigned char[::1] source, Py_ssize_t start, Py_ssize_t nbytes, int bits,
    unsigned char[::1] out
) noexcept nogil:
    """Split bytes of two values of `bits` bits into one byte per value."""
    cdef Py_ssize_t i
    # Constant shifts: compilers vectorize those on bytes, and not those by a variable.
    if bits == 4:
        for i in range(nbytes):
            out[2 * i] = source[start + i] & 15
            out[2 * i + 1] = source[start + i] >> 4
    elif bits == 2:
        for i in range(nbytes):
            out[2 * i] = source[start + i] & 3
            out[2 * i + 1] = source[start + i] >> 2
    else:
        for i in range(nbytes):
            out[2 * i] = source[start + i] & 1
            out[2 * i + 1] = source[start + i] >> 1


cdef inline void copy(
    const unsigned char[::1] source, Py_ssize_t start, Py_ssize_t nbytes, unsigned char[::1] out
) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(nbytes):
        out[i] = source[start + i]


cdef inline unsigned long long window(
    const unsigned char[::1] raw, Py_ssize_t start
) noexcept nogil:
    """Return 8 bytes as an integer."""
    # Compilers make this one load, but only where all addresses grow from one pointer.
    cdef const unsigned char* byte = &raw[start]
    return (
        <unsigned long long>byte[0]
        | <unsigned long long>byte[1] << 8
        | <unsigned long long>byte[2] << 16
        | <unsigned long long>byte[3] << 24
        | <unsigned long long>byte[4] << 32
        | <unsigned long long>byte[5] << 40
        | <unsigned long long>byte[6] << 48
        | <unsigned long long>byte[7] << 56
    )


cdef inline void spread_to_bytes(
    const unsigned char[::1] raw, int width, Py_ssize_t groups, unsigned long long[::1] out
) noexcept nogil:
    """Spread groups of 8 values of 3, 5, 6 or 7 bits to the 8 bytes of a word."""
    cdef Py_ssize_t group
    cdef unsigned long long bits
    cdef unsigned long long one = 1
    # Halves move apart, then quarters, then eighths: 3 steps for 8 values.
    cdef unsigned long long halves = (one << (4 * width)) - 1
    cdef unsigned long long quarters = (one << (2 * width)) - 1
    cdef unsigned long long eighths = (one << width) - 1
    quarters |= quarters << 32
    eighths |= eighths << 16
    eighths |= eighths << 32
    for group in range(groups):
        bits = window(raw, width * group)
        bits = (bits & halves) | ((bits & (halves << (4 * width))) << (32 - 4 * width))
        bits = (bits & quarters) | ((bits & (quarters << (2 * width))) << (16 - 2 * width))
        bits = (bits & eighths) | ((bits & (eighths << width)) << (8 - width))
        out[group] = bits


cdef inline void spread_to_shorts(
    const unsigned char[::1] raw, int width, Py_ssize_t groups, unsigned long long[::1] out
) noexcept nogil:
    """Spread groups of 8 values of 9 to 15 bits to the 8 two-byte integers of two words."""
    cdef Py_ssize_t group
    cdef unsigned long long first
    cdef unsigned long long second
    # 4 values are at most 60 bits, so that the 4 bits before the second 4 values still fit.
    cdef int odd = 4 * (width & 1)
    cdef unsigned long long one = 1
    cdef unsigned long long halves = (one << (2 * width)) - 1
    cdef unsigned long long quarters = (one << width) - 1
    quarters |= quarters << 32
    for group in range(groups):
        first = window(raw, width * group)
        second = window(raw, width * group + (width >> 1)) >> odd
        first = (first & halves) | ((first & (halves << (2 * width))) << (32 - 2 * width))
        second = (second & halves) | ((second & (halves << (2 * width))) << (32 - 2 * width))
        first = (first & quarters) | ((first & (quarters << width)) << (16 - width))
        second = (second & quarters) | ((second & (quarters << width)) << (16 - width))
        out[2 * group] = first
        out[2 * group + 1] = second


cdef inline void expand_to_bytes(
    const unsigned char[::1] data, Py_ssize_t start, int width, Py_ssize_t count,
    unsigned char[::1] raw, unsigned char[::1] out, unsigned long long[::1] out_words
) noexcept nogil:
    """Expand packed values of 1 to 8 bits."""
    cdef Py_ssize_t nbytes = (count * width + 7) >> 3
    if width == 8:
        copy(data, start, nbytes, out)
    elif width == 4:
        halve(data, start, nbytes, 4, out)
    elif width == 2:
        halve(data, start, nbytes, 4, raw)
        halve(raw, 0, 2 * nbytes, 2, out)
    elif width == 1:
        halve(data, start, nbytes, 4, out)
        halve(out, 0, 2 * nbytes, 2, raw)
        halve(raw, 0, 4 * nbytes, 1, out)
    else:
        copy(data, start, nbytes, raw)
        spread_to_bytes(raw, width, (count + 7) >> 3, out_words)


cdef inline void expand_to_shorts(
    const unsigned char[::1] data, Py_ssize_t start, int width, Py_ssize_t count,
    unsigned char[::1] raw, unsigned short[::1] out, unsigned long long[::1] out_words
) noexcept nogil:
    """Expand packed values of 9 to 16 bits; 16 is also the form of whole values."""
    cdef Py_ssize_t i
    if width == 16:
        for i in range(count):
            out[i] = <int>data[start + 2 * i] | <int>data[start + 2 * i + 1] << 8
    else:
        copy(data, start, (count * width + 7) >> 3, raw)
        spread_to_shorts(raw, width, (count + 7) >> 3, out_words)


cdef inline void expand_4_2(
    const unsigned char[::1] data0, Py_ssize_t start0,
    const unsigned char[::1] data1, Py_ssize_t start1,
    Py_ssize_t count, unsigned char[::1] pairs, unsigned char[::1] out
) noexcept nogil:
    """Expand packed layers of 4 and 2 bits, with which the default plan begins, as one."""
    cdef Py_ssize_t i
    halve(data1, start1, (count + 3) >> 2, 4, pairs)
    for i in range((count + 1) >> 1):
        out[2 * i] = ((data0[start0 + i] & 15) << 2) | (pairs[i] & 3)
        out[2 * i + 1] = ((data0[start0 + i] >> 2) & 60) | (pairs[i] >> 2)


cdef inline void expand_4_2_2(
    const unsigned char[::1] data0, Py_ssize_t start0,
    const unsigned char[::1] data1, Py_ssize_t start1,
    const unsigned char[::1] data2, Py_ssize_t start2,
    Py_ssize_t count, unsigned char[::1] pairs1, unsigned char[::1] pairs2, unsigned char[::1] out
) noexcept nogil:
    """Expand packed layers of 4, 2 and 2 bits, the default plan of 8 bits, as one."""
    cdef Py_ssize_t i
    halve(data1, start1, (count + 3) >> 2, 4, pairs1)
    halve(data2, start2, (count + 3) >> 2, 4, pairs2)
    for i in range((count + 1) >> 1):
        out[2 * i] = ((data0[start0 + i] & 15) << 4) | ((pairs1[i] & 3) << 2) | (pairs2[i] & 3)
        out[2 * i + 1] = (data0[start0 + i] & 0xF0) | (pairs1[i] & 12) | (pairs2[i] >> 2)
