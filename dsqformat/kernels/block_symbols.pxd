# From values to symbols (spec A.4.1): what the encoder's search and its output share.


cdef inline int log2_floor(
    int value
) noexcept nogil:
    cdef int n = 0
    while value > 1:
        value >>= 1
        n += 1
    return n


cdef inline int dc_token(
    int value, int* extra
) noexcept nogil:
    """Return the token of a DC residual in zigzag; extra: its number of raw bits."""
    cdef int n
    extra[0] = 0
    if value < 8:
        return value
    n = log2_floor(value)
    extra[0] = n - 1
    return 8 + 2 * (n - 3) + ((value >> (n - 1)) & 1)


cdef inline int ac_symbol(
    int a, int* extra
) noexcept nogil:
    """Return the symbol of a magnitude; extra: its number of raw bits."""
    cdef int n
    extra[0] = 0
    if a == 0:
        return 0
    if a <= 12:
        return a + 1
    n = log2_floor(a - 9)
    extra[0] = n
    return 12 + n
