# What a block sees of the blocks left of it and above: their sizes, profiles and edges (spec A.4).
#
# Rows of cells of 4x4 pixels lie in rings of 16: a superblock and the one above it.

from dsqformat.kernels.block_context cimport SPAN, clear, expect


cdef inline void predict_dc(
    const int[::1] edges, Py_ssize_t plane, int size, Py_ssize_t cell_y, Py_ssize_t cell_x,
    Py_ssize_t cells, Py_ssize_t bottom, bint nb_left, bint nb_upper, int* out
) noexcept nogil:
    """Fill out[0:4]: prediction in 1/64, context, edge of the left and of the upper block."""
    cdef Py_ssize_t span = 1 << size
    cdef Py_ssize_t i
    cdef int left = 0
    cdef int upper = 0
    for i in range(4):
        out[i] = 0
    out[1] = 5
    if nb_left:
        for i in range(span):
            left += edges[((plane * 16 + ((cell_y + i) & 15)) * cells) + cell_x - 1]
        left = (left >> size) << (size + 2)
        out[0] = left
        out[1] = 0
    if nb_upper:
        for i in range(span):
            upper += edges[bottom + ((plane * 16 + ((cell_y - 1) & 15)) * cells) + cell_x + i]
        upper = (upper >> size) << (size + 2)
        out[0] = upper
        out[1] = 0
    if nb_left and nb_upper:
        out[0] = (left + upper) >> 1
        i = left - upper if left >= upper else upper - left
        out[1] = (i >= 128) + (i >= 256) + (i >= 512) + (i >= 1024)
    out[2] = left
    out[3] = upper


cdef inline int dc_rounding(int layer, int shift) noexcept nogil:
    """Return what is added to a DC code before `shift` bits, those after `layer`, are cut off."""
    cdef int further
    cdef int rounding = 0
    for further in range(layer + 1, layer + shift + 1):
        rounding += (further & 1) << (layer + shift - further)
    return rounding


cdef inline int dc_leaning(int ahead, bint none) noexcept nogil:
    """Return how much the neighbours speak for the larger of two DC codes, 0 to 7, or 8.

    `ahead`: their prediction less the middle of the two, in 1/64; `none`: there are none.
    """
    if none:
        return 8
    return (
        (ahead >= -192) + (ahead >= -96) + (ahead >= -32) + (ahead >= 0) + (ahead > 32)
        + (ahead > 96) + (ahead > 192)
    )


cdef inline void close_edges(
    int[::1] edges, Py_ssize_t plane, int size, Py_ssize_t cell_y, Py_ssize_t cell_x,
    Py_ssize_t cells, Py_ssize_t bottom, int right_edge, int lower_edge
) noexcept nogil:
    cdef Py_ssize_t i
    cdef Py_ssize_t span = 1 << size
    for i in range(span):
        edges[((plane * 16 + ((cell_y + i) & 15)) * cells) + cell_x + span - 1] = right_edge
        edges[bottom + ((plane * 16 + ((cell_y + span - 1) & 15)) * cells) + cell_x + i] = (
            lower_edge
        )


cdef inline void neighbours(
    const unsigned char[::1] sizes, Py_ssize_t cell_y, Py_ssize_t cell_x, Py_ssize_t cells,
    Py_ssize_t* out
) noexcept nogil:
    """Fill out[0:2]: the cells where the left and the upper block begin."""
    cdef int z
    out[0] = 0
    out[1] = 0
    if cell_x > 0:
        z = sizes[(cell_y & 15) * cells + cell_x - 1]
        out[0] = (((cell_y >> z) << z) & 15) * cells + (((cell_x - 1) >> z) << z)
    if cell_y > 0:
        z = sizes[((cell_y - 1) & 15) * cells + cell_x]
        out[1] = ((((cell_y - 1) >> z) << z) & 15) * cells + ((cell_x >> z) << z)


cdef inline void mark_size(
    unsigned char[::1] sizes, Py_ssize_t cell_y, Py_ssize_t cell_x, Py_ssize_t cells, int size
) noexcept nogil:
    cdef Py_ssize_t i
    cdef Py_ssize_t span = 1 << size
    for i in range(span):
        sizes[((cell_y + i) & 15) * cells + cell_x + span - 1] = <unsigned char>size
        sizes[((cell_y + span - 1) & 15) * cells + cell_x + i] = <unsigned char>size


cdef inline Py_ssize_t start_block(
    short[::1] shorts, Py_ssize_t begin, Py_ssize_t* pair, Py_ssize_t plane, int size,
    Py_ssize_t cell_y, Py_ssize_t cell_x, Py_ssize_t cells, bint lit
) noexcept nogil:
    """Prepare the accumulator and the empty profile of a plane; return the profile's place."""
    cdef Py_ssize_t left = 4 * SPAN
    cdef Py_ssize_t upper = left
    if cell_x > 0:
        left = begin + (plane * 16 * cells + pair[0]) * 64
        upper = left
    if cell_y > 0:
        upper = begin + (plane * 16 * cells + pair[1]) * 64
        if cell_x == 0:
            left = upper
    cdef Py_ssize_t profile = begin + ((plane * 16 + (cell_y & 15)) * cells + cell_x) * 64
    expect(shorts, left, upper, size, SPAN * (2 + ((plane - 1) & 1)) if lit else 0)
    clear(shorts, profile, 64)
    return profile
