# One block of a picture with all its layers and planes: from streams to codes (spec A.3 and 4).

from dsqformat.kernels.block_coarse cimport read_coarse
from dsqformat.kernels.block_context cimport SPAN, STRIDE, clear
from dsqformat.kernels.block_neighbours cimport mark_size, neighbours, start_block
from dsqformat.kernels.block_refinement cimport read_refinement


cdef inline void read_leaf(
    const unsigned char[::1] data, long long[::1] status, const unsigned short[::1] tables,
    short[::1] shorts, int[::1] edges, unsigned char[::1] sizes, const short[::1] places,
    const short[::1] bands, const unsigned char[::1] rows, const unsigned char[::1] columns,
    const unsigned char[::1] levels, const int[::1] weights, unsigned short[::1] where,
    int[::1] values, int* counts, Py_ssize_t layers, Py_ssize_t planes, int size,
    Py_ssize_t cell_y, Py_ssize_t cell_x, Py_ssize_t cells
) noexcept nogil:
    """Decode the codes of a block; counts[p] becomes the number of those of plane p, DC apart.

    Codes of plane p and their scan positions stand in `values` and `where` from 1025 p + 1 on, its
    DC at values[1025 p].
    """
    cdef Py_ssize_t[2] pair
    cdef Py_ssize_t layer
    cdef Py_ssize_t plane
    cdef Py_ssize_t begin
    cdef Py_ssize_t profile
    cdef Py_ssize_t area = STRIDE * (4 << size)
    cdef bint lit  # some earlier plane of this block has coefficients
    cdef int dirty  # bits of the accumulators of planes that are not empty
    neighbours(sizes, cell_y, cell_x, cells, pair)
    mark_size(sizes, cell_y, cell_x, cells, size)
    for layer in range(layers):
        lit = False
        dirty = 0
        begin = 4 * SPAN + 64 + layer * planes * 16 * cells * 64
        for plane in range(planes):
            profile = start_block(shorts, begin, pair, plane, size, cell_y, cell_x, cells, lit)
            if plane > 1 and dirty & (1 << (plane & 1)):
                clear(shorts, SPAN * (2 + (plane & 1)), area)
                dirty &= ~(1 << (plane & 1))
            if layer == 0:
                counts[plane] = read_coarse(
                    data, status, tables, shorts, edges, places, bands, rows, columns, levels,
                    weights, where, values, plane * 1025, plane, size, cell_y, cell_x, cells,
                    planes * 16 * cells, profile, cell_x > 0, cell_y > 0
                )
            else:
                counts[plane] = read_refinement(
                    data, status, layer, tables, shorts, edges, places, bands, rows, columns,
                    levels, weights, where, values, plane * 1025, planes * 1025, counts[plane],
                    plane, 2 * planes * layer + plane, size, cell_y, cell_x, cells,
                    planes * 16 * cells, profile
                )
            if counts[plane] > 0:
                lit = True
                dirty |= 1 << (plane & 1)
        if lit:
            clear(shorts, SPAN, area)
            clear(shorts, 2 * SPAN, area)
            clear(shorts, 3 * SPAN, area)
