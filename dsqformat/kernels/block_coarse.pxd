# Layer 0 of one plane of one block: from a stream to codes (spec A.4.1).

from dsqformat.kernels.block_context cimport (
    CLASSES, DC_FIRST, SIGN_FIRST, cross, gradient_class, push, spread
)
from dsqformat.kernels.block_neighbours cimport close_edges, predict_dc
from dsqformat.kernels.block_state cimport FAULT, find_symbol, read_flag, refill


cdef inline int read_coarse(
    const unsigned char[::1] data, long long[::1] status, const unsigned short[::1] tables,
    short[::1] shorts, int[::1] edges, const short[::1] places, const short[::1] bands,
    const unsigned char[::1] rows, const unsigned char[::1] columns,
    const unsigned char[::1] levels, const int[::1] weights, unsigned short[::1] where,
    int[::1] values, Py_ssize_t mine, Py_ssize_t plane, int size, Py_ssize_t cell_y,
    Py_ssize_t cell_x, Py_ssize_t cells, Py_ssize_t bottom, Py_ssize_t profile, bint nb_left,
    bint nb_upper
) noexcept nogil:
    """Decode DC and AC of layer 0; return the number of coefficients that are not 0, DC apart.

    `cells` is the length of a row of cells in `edges`, `bottom` where the lower edges begin.
    The accumulator is ready; the profile at `profile` is empty.
    """
    cdef unsigned long long x = <unsigned long long>status[0]
    cdef Py_ssize_t at = status[1]
    cdef Py_ssize_t end = status[2]
    cdef int chroma = 1 if plane > 0 else 0
    cdef int[4] dc_state
    predict_dc(edges, plane, size, cell_y, cell_x, cells, bottom, nb_left, nb_upper, dc_state)
    # DC: a token, and for a large one raw bits.
    cdef int symbol = 0
    cdef int bits
    x = find_symbol(tables, tables[DC_FIRST + (size * 2 + chroma) * 6 + dc_state[1]], x, &symbol)
    refill(data, end, &x, &at)
    if symbol == 31:
        symbol = <int>(x & 31)
        x >>= 5
        refill(data, end, &x, &at)
    if symbol >= 8:
        bits = 2 + ((symbol - 8) >> 1)
        symbol = (2 | (symbol & 1)) << bits | <int>(x & ((1 << bits) - 1))
        x >>= bits
        refill(data, end, &x, &at)
    cdef int dc = ((dc_state[0] + 32) >> 6) + ((symbol >> 1) ^ -(symbol & 1))
    dc = min(32767, max(-32767, dc))
    cdef int g1 = -((dc * 64 - dc_state[2]) * 3) >> 3 if nb_left else 0
    cdef int g2 = -((dc * 64 - dc_state[3]) * 3) >> 3 if nb_upper else 0
    # AC.
    cdef Py_ssize_t base = (
        ((size * 2 + chroma) * 2 + (0 if nb_left or nb_upper else 1)) * 2 * CLASSES
    )
    cdef Py_ssize_t first = <Py_ssize_t>size << 10
    cdef Py_ssize_t stop = first + (<Py_ssize_t>16 << (2 * size))
    cdef Py_ssize_t k = first + 1
    cdef Py_ssize_t place
    cdef Py_ssize_t table
    cdef Py_ssize_t open_ = CLASSES
    cdef int prev = 0
    cdef int m
    cdef int a
    cdef int clipped
    cdef Py_ssize_t count = 0
    cdef unsigned int low
    cdef unsigned int f1
    cdef unsigned int f2
    cdef Py_ssize_t v
    cdef Py_ssize_t u
    cdef int right_edge = dc * 64
    cdef int lower_edge = right_edge
    cdef int g = g1
    cdef int weight = 5 if chroma else 6
    cdef int sign
    while k < stop:
        place = places[k]
        m = shorts[place] + prev
        if k - first < 3:
            g = g1 if k - first == 1 else g2
            m += min(64, (g if g >= 0 else -g) >> 3)
        table = tables[base + open_ + bands[k] + levels[m & 8191]]
        low = <unsigned int>(x & 4095)
        f1 = tables[table + 1]
        if low < f1:
            x = f1 * (x >> 12) + low
            refill(data, end, &x, &at)
            prev = 0
            open_ = 0
            k += 1
            continue
        f2 = tables[table + 2]
        if low < f2:
            x = (f2 - f1) * (x >> 12) + low - f1
            refill(data, end, &x, &at)
            break
        symbol = 2
        x = find_symbol(tables, table, x, &symbol)
        refill(data, end, &x, &at)
        if symbol > 12:
            if symbol == 31:
                symbol = <int>(x & 31)
                x >>= 5
                refill(data, end, &x, &at)
                if symbol == 1:
                    break
                if symbol == 0:
                    prev = 0
                    open_ = 0
                    k += 1
                    continue
            if symbol > 26:
                status[FAULT] = 1
                break
            a = symbol - 1
            if symbol >= 14:
                bits = symbol - 12
                a = (1 << bits | <int>(x & ((1 << bits) - 1))) + 9
                x >>= bits
                refill(data, end, &x, &at)
                a = min(a, 32767)
        else:
            a = symbol - 1
        if k - first < 3:
            status[0] = <long long>x
            status[1] = at
            sign = read_flag(
                data, tables, tables[SIGN_FIRST + chroma * 6 + gradient_class(g)], status, 0
            )
            x = <unsigned long long>status[0]
            at = status[1]
        else:
            sign = <int>(x & 1)
            x >>= 1
            refill(data, end, &x, &at)
        clipped = a if a < 63 else 63
        v = rows[k]
        u = columns[k]
        push(shorts, place, clipped, chroma)
        spread(shorts, profile, size, v, u, clipped, weight)
        cross(shorts, place, v, u, clipped, plane)
        prev = clipped << (1 if chroma else 2)
        open_ = CLASSES
        a = (a ^ -sign) + sign
        count += 1
        where[mine + count] = <unsigned short>(k - first)
        values[mine + count] = a
        if v == 0:
            right_edge += a * weights[(size << 5) + u]
        if u == 0:
            lower_edge += a * weights[(size << 5) + v]
        k += 1
    status[0] = <long long>x
    status[1] = at
    close_edges(
        edges, plane, size, cell_y, cell_x, cells, bottom,
        right_edge >> (size + 2), lower_edge >> (size + 2)
    )
    values[mine] = dc
    return <int>count
