# Codes of one tile: joining layers, and what tells whether they are legal (spec 9, 9.2).

ctypedef unsigned char uchar
ctypedef unsigned short ushort

# The same loops over codes of one and of two bytes.
ctypedef fused Code:
    uchar
    ushort


cdef inline void append(
    Code[::1] codes, const unsigned char[::1] part, Py_ssize_t start, int width, Py_ssize_t count
) noexcept nogil:
    """Append `width` bits of `part` to `codes`."""
    cdef Py_ssize_t i
    # A product, because compilers vectorize it on bytes and not a shift by a variable.
    cdef Code factor = 1 << width
    if width == 2:
        for i in range(count):
            codes[i] = (codes[i] << 2) | part[start + i]
    else:
        for i in range(count):
            codes[i] = codes[i] * factor + part[start + i]


cdef inline void widen(
    const unsigned char[::1] codes, const Code[::1] part, Py_ssize_t start, int width,
    Py_ssize_t count, unsigned short[::1] out
) noexcept nogil:
    """Append `width` bits of `part` to `codes` where one byte no longer holds both."""
    cdef Py_ssize_t i
    cdef unsigned short factor = 1 << width
    for i in range(count):
        out[i] = (<unsigned short>codes[i] * factor + <unsigned short>part[start + i]) & 0xFFFF


cdef inline int highest(
    const Code[::1] codes, Py_ssize_t start, Py_ssize_t count
) noexcept nogil:
    cdef Py_ssize_t i
    cdef Code top = 0
    for i in range(count):
        top = codes[start + i] if codes[start + i] > top else top
    return top


cdef inline int any_bits(
    const Code[::1] values, Py_ssize_t start, Py_ssize_t count
) noexcept nogil:
    """Return the union of the bits of all values."""
    cdef Py_ssize_t i
    cdef Code bits = 0
    for i in range(count):
        bits = bits | values[start + i]
    return bits


cdef inline Py_ssize_t bytes_of(bint packed, Py_ssize_t count, int width) noexcept nogil:
    """Return the bytes that `count` values of one layer take (spec 9)."""
    if packed:
        return (count * width + 7) >> 3
    if width == 0:
        return 0
    return count if width <= 8 else 2 * count


cdef inline int spare_bits(
    const unsigned char[::1] data, Py_ssize_t start, Py_ssize_t count, int width
) noexcept nogil:
    """Return the spare high bits of the last byte, which must be zero (spec 9.1)."""
    cdef int bits = (count * width) & 7
    if bits == 0:
        return 0
    return data[start + ((count * width) >> 3)] >> bits
