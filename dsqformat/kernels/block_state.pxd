# Reading symbols from streams (spec A.8): the state of a coder and its tables.
#
# A .pxd, like all files beside it: inline functions of one compiled module can be used by another
# only from there, and each of them runs once per symbol or block.

cdef enum:
    # Slots of `status`: state, position and end of each of 4 layers, then a fault.
    FAULT = 12


cdef inline unsigned long long word_at(
    const unsigned char[::1] data, Py_ssize_t at
) noexcept nogil:
    cdef const unsigned char* byte = &data[at]
    return (
        <unsigned long long>byte[0]
        | <unsigned long long>byte[1] << 8
        | <unsigned long long>byte[2] << 16
        | <unsigned long long>byte[3] << 24
    )


cdef inline void refill(
    const unsigned char[::1] data, Py_ssize_t end, unsigned long long* x, Py_ssize_t* at
) noexcept nogil:
    """Take a word where the state is low and one is left."""
    if x[0] >> 31 == 0 and at[0] < end:
        x[0] = x[0] << 32 | word_at(data, at[0])
        at[0] += 4


cdef inline void open_stream(
    const unsigned char[::1] data, Py_ssize_t start, Py_ssize_t end, long long[::1] status,
    Py_ssize_t slot
) noexcept nogil:
    """Read the first bytes of a stream into a state: nbytes mod 4, then words."""
    cdef unsigned long long x = 0
    cdef Py_ssize_t at = start + ((end - start) & 3)
    cdef Py_ssize_t i
    for i in range(at - 1, start - 1, -1):
        x = x << 8 | data[i]
    while x >> 31 == 0 and at < end:
        x = x << 32 | word_at(data, at)
        at += 4
    status[slot] = <long long>x
    status[slot + 1] = at
    status[slot + 2] = end


cdef inline unsigned long long find_symbol(
    const unsigned short[::1] tables, Py_ssize_t table, unsigned long long x, int* symbol
) noexcept nogil:
    """Find the symbol at or above symbol[0] and return the state after it."""
    cdef unsigned int low = <unsigned int>(x & 4095)
    cdef Py_ssize_t k = symbol[0]
    # The last entry is 4096, above every remainder: the loop ends at 31.
    while low >= tables[table + k + 1]:
        k += 1
    cdef unsigned int start = tables[table + k]
    symbol[0] = <int>k
    return <unsigned long long>(tables[table + k + 1] - start) * (x >> 12) + low - start


cdef inline int read_flag(
    const unsigned char[::1] data, const unsigned short[::1] tables, Py_ssize_t table,
    long long[::1] status, Py_ssize_t slot
) noexcept nogil:
    """Decode one symbol of a flag, a sign or a bit: every symbol but 0 counts as 1."""
    cdef unsigned long long x = <unsigned long long>status[slot]
    cdef Py_ssize_t at = status[slot + 1]
    cdef unsigned int low = <unsigned int>(x & 4095)
    cdef unsigned int first = tables[table + 1]
    cdef unsigned int second = tables[table + 2]
    cdef int symbol = 1
    if low < first:
        symbol = 0
        x = first * (x >> 12) + low
    elif low < second:
        x = (second - first) * (x >> 12) + low - first
    else:
        symbol = 2
        x = find_symbol(tables, table, x, &symbol)
    refill(data, status[slot + 2], &x, &at)
    if symbol == 31:
        symbol = <int>(x & 31)
        x >>= 5
        refill(data, status[slot + 2], &x, &at)
    status[slot] = <long long>x
    status[slot + 1] = at
    return 1 if symbol > 0 else 0
