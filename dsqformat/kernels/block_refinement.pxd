# A refinement layer of one plane of one block: one more bit for its codes (spec A.4.2).

from dsqformat.kernels.block_context cimport (
    BIT_FIRST, CLASSES, CONTEXTS, DC_BIT_FIRST, REFINEMENT_CONTEXTS, STRIDE, cross, push, spread
)
from dsqformat.kernels.block_state cimport FAULT, find_symbol, read_flag, refill


cdef inline int read_refinement(
    const unsigned char[::1] data, long long[::1] status, Py_ssize_t layer,
    const unsigned short[::1] tables, short[::1] shorts, const short[::1] places,
    const short[::1] bands, const unsigned char[::1] rows, const unsigned char[::1] columns,
    const unsigned char[::1] levels, unsigned short[::1] where, int[::1] values, Py_ssize_t mine,
    Py_ssize_t spare, Py_ssize_t count, Py_ssize_t plane, int size, Py_ssize_t profile
) noexcept nogil:
    """Double the coefficients of a block, add one bit each and the new ones; return their count.

    `where` and `values` are replaced; the accumulator is ready, the profile empty.
    """
    cdef Py_ssize_t slot = 3 * layer
    cdef Py_ssize_t map_ = CONTEXTS + (layer - 1) * REFINEMENT_CONTEXTS
    cdef int chroma = 1 if plane > 0 else 0
    cdef Py_ssize_t first = <Py_ssize_t>size << 10
    cdef Py_ssize_t stop = first + (<Py_ssize_t>16 << (2 * size))
    cdef Py_ssize_t base = map_ + (size * 2 + chroma) * 2 * CLASSES
    cdef int weight = 5 if chroma else 6
    cdef Py_ssize_t i
    cdef Py_ssize_t k
    cdef Py_ssize_t v
    cdef Py_ssize_t u
    cdef Py_ssize_t place
    cdef int a
    cdef int d
    values[mine] = 2 * values[mine] + read_flag(
        data, tables, tables[map_ + DC_BIT_FIRST + chroma], status, slot
    )
    # Both sides of every coefficient that is known already expect more.
    for i in range(count):
        k = first + where[mine + 1 + i]
        place = places[k]
        v = rows[k]
        u = columns[k]
        a = values[mine + 1 + i]
        a = 2 * (a if a >= 0 else -a)
        a = a if a < 63 else 63
        push(shorts, place, a, chroma)
        d = (5 * a + 1) >> 1 if chroma == 0 else 2 * a
        if u > 0:
            shorts[place - 1] += <short>d
            shorts[place + STRIDE - 1] += <short>a
        if v > 0:
            shorts[place - STRIDE] += <short>d
            shorts[place - STRIDE + 1] += <short>a
            if u > 0:
                shorts[place - STRIDE - 1] += <short>a
    cdef Py_ssize_t known = 0
    cdef Py_ssize_t next_ = first + where[mine + 1] if count > 0 else stop
    cdef Py_ssize_t total = 0
    cdef Py_ssize_t open_ = CLASSES
    cdef bint over = False
    cdef unsigned long long x = <unsigned long long>status[slot]
    cdef Py_ssize_t at = status[slot + 1]
    cdef Py_ssize_t end = status[slot + 2]
    cdef Py_ssize_t table
    cdef int symbol
    cdef int sign
    cdef unsigned int low
    cdef unsigned int f1
    k = first + 1
    while k < stop:
        if k == next_:
            a = values[mine + 1 + known]
            sign = 1 if a < 0 else 0
            a = a if a >= 0 else -a
            status[slot] = <long long>x
            status[slot + 1] = at
            symbol = read_flag(
                data, tables, tables[map_ + BIT_FIRST + chroma * 3 + min(a, 3) - 1], status, slot
            )
            x = <unsigned long long>status[slot]
            at = status[slot + 1]
            a = min(2 * a + symbol, 32767)
            known += 1
            next_ = first + where[mine + 1 + known] if known < count else stop
        elif over:
            # Nothing new any more: on to the next known one.
            k = next_
            continue
        else:
            place = places[k]
            table = tables[base + open_ + bands[k] + levels[shorts[place] & 8191]]
            low = <unsigned int>(x & 4095)
            f1 = tables[table + 1]
            if low < f1:
                x = f1 * (x >> 12) + low
                refill(data, end, &x, &at)
                open_ = 0
                k += 1
                continue
            symbol = 1
            x = find_symbol(tables, table, x, &symbol)
            refill(data, end, &x, &at)
            if symbol == 31:
                symbol = <int>(x & 31)
                x >>= 5
                refill(data, end, &x, &at)
            if symbol > 2:
                status[FAULT] = 1
                symbol = 1
            if symbol == 1:
                over = True
                continue
            if symbol == 0:
                open_ = 0
                k += 1
                continue
            a = 1
            sign = <int>(x & 1)
            x >>= 1
            refill(data, end, &x, &at)
            push(shorts, place, 1, chroma)
            open_ = CLASSES
        i = a if a < 63 else 63
        v = rows[k]
        u = columns[k]
        spread(shorts, profile, size, v, u, <int>i, weight)
        cross(shorts, places[k], v, u, <int>i, plane)
        where[spare + total] = <unsigned short>(k - first)
        values[spare + total] = (a ^ -sign) + sign
        total += 1
        k += 1
    status[slot] = <long long>x
    status[slot + 1] = at
    for i in range(total):
        where[mine + 1 + i] = where[spare + i]
        values[mine + 1 + i] = values[spare + i]
    return <int>total
