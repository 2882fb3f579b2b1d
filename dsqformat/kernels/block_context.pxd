# Contexts from the neighbourhood of a coefficient (spec A.5): shared by decoder and encoder.
#
# A .pxd, because inline functions of one compiled module can be used by another only from there.

cdef enum:
    STRIDE = 34
    SPAN = 1232  # one accumulator: 36 rows of 34, a few to spare
    # Contexts of layer 0 and of the others.
    CLASSES = 91  # bands x levels
    DC_FIRST = 2912
    SIGN_FIRST = 2960
    FLAG_FIRST = 2972
    CONTEXTS = 2976
    BIT_FIRST = 1456
    DC_BIT_FIRST = 1462
    DC_LEANINGS = 9
    REFINEMENT_CONTEXTS = 1534


cdef inline void expect(
    short[::1] shorts, Py_ssize_t left, Py_ssize_t upper, int size, Py_ssize_t extra
) noexcept nogil:
    """Start the accumulator of a block: profiles of its neighbours and, at `extra`, other planes.

    `left` and `upper` are places of profiles in `shorts`; `extra` 0 means none.
    """
    cdef Py_ssize_t v
    cdef Py_ssize_t u
    cdef Py_ssize_t row
    if size == 1:
        for v in range(8):
            for u in range(8):
                shorts[v * STRIDE + u] = shorts[left + v * 8 + u] + shorts[upper + v * 8 + u]
    elif size == 2:
        for v in range(8):
            row = 2 * v * STRIDE
            for u in range(8):
                shorts[row + 2 * u] = shorts[left + v * 8 + u] + shorts[upper + v * 8 + u]
                shorts[row + 2 * u + 1] = shorts[row + 2 * u]
            for u in range(16):
                shorts[row + STRIDE + u] = shorts[row + u]
    elif size == 3:
        for v in range(8):
            row = 4 * v * STRIDE
            for u in range(8):
                shorts[row + 4 * u] = shorts[left + v * 8 + u] + shorts[upper + v * 8 + u]
                shorts[row + 4 * u + 1] = shorts[row + 4 * u]
                shorts[row + 4 * u + 2] = shorts[row + 4 * u]
                shorts[row + 4 * u + 3] = shorts[row + 4 * u]
            for u in range(32):
                shorts[row + STRIDE + u] = shorts[row + u]
                shorts[row + 2 * STRIDE + u] = shorts[row + u]
                shorts[row + 3 * STRIDE + u] = shorts[row + u]
    else:
        for v in range(4):
            for u in range(4):
                row = v * 16 + 2 * u
                shorts[v * STRIDE + u] = shorts[left + row] + shorts[upper + row]
    if extra > 0:
        for v in range(4 << size):
            row = v * STRIDE
            for u in range(4 << size):
                shorts[row + u] += shorts[SPAN + row + u] + shorts[extra + row + u]


cdef inline void push(
    short[::1] shorts, Py_ssize_t place, int a, int chroma
) noexcept nogil:
    """Raise what is expected of the positions after one with magnitude a (at most 63)."""
    cdef int h = (5 * a + 1) >> 1 if chroma == 0 else 2 * a
    cdef int d = a if chroma == 0 else 2 * a
    shorts[place + 1] += <short>(h)
    shorts[place + STRIDE] += <short>(h)
    shorts[place + STRIDE + 1] += <short>(d)
    shorts[place + 2] += <short>(a)
    shorts[place + 2 * STRIDE] += <short>(a)


cdef inline void spread(
    short[::1] shorts, Py_ssize_t profile, int size, Py_ssize_t v, Py_ssize_t u, int a, int weight
) noexcept nogil:
    """Add magnitude a (at most 63) at (v, u) to the 8x8 profile that later blocks will see."""
    cdef Py_ssize_t i
    cdef Py_ssize_t j
    cdef Py_ssize_t k
    cdef int shift
    cdef int half
    if size == 0:
        for i in range(2 * v, 2 * v + 2):
            for j in range(2 * u, 2 * u + 2):
                k = profile + 8 * i + j
                shorts[k] += <short>(weight * a)
                if j > 0:
                    shorts[k - 1] += <short>(2 * a)
                if i > 0:
                    shorts[k - 8] += <short>(2 * a)
        return
    shift = size - 1
    half = (1 << shift) >> 1
    v >>= shift
    u >>= shift
    k = profile + 8 * v + u
    shorts[k] += <short>((weight * a + half) >> shift)
    if u > 0:
        shorts[k - 1] += <short>((2 * a + half) >> shift)
    if v > 0:
        shorts[k - 8] += <short>((2 * a + half) >> shift)


cdef inline void cross(
    short[::1] shorts, Py_ssize_t place, Py_ssize_t v, Py_ssize_t u, int a, Py_ssize_t plane
) noexcept nogil:
    """Raise what the later planes of this block expect: [1] for all of them, [2], [3] the next."""
    cdef Py_ssize_t mine = SPAN * (2 + (plane & 1)) + place
    if plane > 0:
        shorts[mine] += <short>(7 * a)
        return
    shorts[mine] += <short>(a)
    shorts[SPAN + place] += <short>(2 * a)
    if u > 0:
        shorts[SPAN + place - 1] += <short>(a)
    if v > 0:
        shorts[SPAN + place - STRIDE] += <short>(a)


cdef inline void clear(
    short[::1] shorts, Py_ssize_t first, Py_ssize_t count
) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(first, first + count):
        shorts[i] = 0


cdef inline int gradient_class(
    int g
) noexcept nogil:
    return (g >= -96) + (g >= -32) + (g >= 0) + (g > 32) + (g > 96)

