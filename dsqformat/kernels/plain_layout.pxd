cdef enum:
    NN = 0
    N = 1
    CURRENT = 2
    MIDDLE = 3
    S = 4
    SS = 5
    EN = 6
    ERRORS = 7
    ROWS = 8
    SLACK = 32
    WINDOW = 128
    CURRENT_TAPS = 16
    ENERGY = 26
    CLASSES = 8
    ENERGY_TOP = 4095
    LUT = 4096
    FIRST_LEVEL = 15
    LEVELS = 16
    SYMBOLS = 40
    DIRECT_BITS = 4
    NUMBERS = 7
    BUCKETS = 64
    LANES = 4

cdef extern from *:
    """
    /* Not unrolled, so that compilers see a sum they can vectorize, also within other loops. */
    static CYTHON_INLINE int dsq_dot(const short *a, const short *b, const int count) {
        int i, total = 0;
        #if defined(__GNUC__) && !defined(__clang__)
        #pragma GCC unroll 1
        #endif
        for (i = 0; i < count; i++) total += (int)a[i] * (int)b[i];
        return total;
    }
    static CYTHON_INLINE void dsq_copy(short *to, const short *from, const int count) {
        memcpy(to, from, count * sizeof(short));
    }
    """
    void dsq_copy(short *to, const short *from_, const int count) nogil
    int dsq_dot(const short *a, const short *b, const int count) nogil

cdef inline void copy(
    short[::1] shorts, Py_ssize_t source, Py_ssize_t target, const int count
) noexcept nogil:
    dsq_copy(&shorts[target], &shorts[source], count)

cdef inline int dot(
    short[::1] a, Py_ssize_t at, const short[::1] b, Py_ssize_t begin, const int count
) noexcept nogil:
    return dsq_dot(&a[at], &b[begin], count)
