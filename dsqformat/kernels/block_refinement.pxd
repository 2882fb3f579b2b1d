# A refinement layer of one plane of one block: one more bit for its codes (spec A.4.2).

from dsqformat.kernels.block_context cimport (
    BIT_FIRST, CLASSES, CONTEXTS, DC_BIT_FIRST, DC_LEANINGS, REFINEMENT_CONTEXTS, STRIDE, cross,
    push, spread
)
from dsqformat.kernels.block_neighbours cimport close_edges, dc_leaning, predict_dc
from dsqformat.kernels.block_state cimport FAULT, find_symbol, read_flag, refill


cdef inline int read_refinement(
    const unsigned char[::1] data, long long[::1] status, Py_ssize_t layer,
    const unsigned short[::1] tables, short[::1] shorts, int[::1] edges,
    const short[::1] places, const short[::1] bands, const unsigned char[::1] rows,
    const unsigned char[::1] columns, const unsigned char[::1] levels, const int[::1] weights,
    unsigned short[::1] where, int[::1] values, Py_ssize_t mine, Py_ssize_t spare,
    Py_ssize_t count, Py_ssize_t plane, Py_ssize_t edge_plane, int size, Py_ssize_t cell_y,
    Py_ssize_t cell_x, Py_ssize_t cells, Py_ssize_t bottom, Py_ssize_t profile
) noexcept nogil:
    """Double the coefficients of a block, add one bit each and the new ones; return their count.

    `where` and `values` are replaced; the accumulator is ready, the profile empty. `edge_plane`
    is the place of this layer and plane in `edges`.
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
    cdef int[4] dc_state
    cdef int dc = 2 * values[mine] - <int>(layer & 1)
    predict_dc(
        edges, edge_plane, size, cell_y, cell_x, cells, bottom, cell_x > 0, cell_y > 0, dc_state
    )
    d = dc_leaning(dc_state[0] - 64 * dc - 32, dc_state[1] == 5)
    dc += read_flag(
        data, tables,
        tables[map_ + DC_BIT_FIRST + (size * 2 + chroma) * DC_LEANINGS + d], status, slot
    )
    values[mine] = dc
    cdef int right_edge = dc * 64
    cdef int lower_edge = right_edge
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
        a = (a ^ -sign) + sign
        where[spare + total] = <unsigned short>(k - first)
        values[spare + total] = a
        if v == 0:
            right_edge += a * weights[(size << 5) + u]
        if u == 0:
            lower_edge += a * weights[(size << 5) + v]
        total += 1
        k += 1
    status[slot] = <long long>x
    status[slot + 1] = at
    for i in range(total):
        where[mine + 1 + i] = where[spare + i]
        values[mine + 1 + i] = values[spare + i]
    close_edges(
        edges, edge_plane, size, cell_y, cell_x, cells, bottom,
        right_edge >> (size + 2), lower_edge >> (size + 2)
    )
    return <int>total
