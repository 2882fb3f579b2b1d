# Four integers at a time, for the loops of `rans` that compilers do not find by themselves: four
# sums of one pixel, or one number of each of four streams.
#
# On x86-64 these are instructions that every such processor has, elsewhere loops that compilers can
# vectorize. Both give the same numbers; nothing here may overflow 32 bits.

cdef extern from *:
    """
    #if defined(__SSE2__) || defined(_M_X64)
    #include <emmintrin.h>
    typedef __m128i dsq_quad;
    static CYTHON_INLINE dsq_quad dsq_all(int value) { return _mm_set1_epi32(value); }
    static CYTHON_INLINE dsq_quad dsq_load(const int *from) {
        return _mm_loadu_si128((const __m128i *)from);
    }
    static CYTHON_INLINE void dsq_store(int *to, dsq_quad a) {
        _mm_storeu_si128((__m128i *)to, a);
    }
    static CYTHON_INLINE dsq_quad dsq_join(int a, int b, int c, int d) {
        return _mm_set_epi32(d, c, b, a);
    }
    static CYTHON_INLINE dsq_quad dsq_pairs(const short *low, const short *high) {
        return _mm_unpacklo_epi16(
            _mm_loadl_epi64((const __m128i *)low), _mm_loadl_epi64((const __m128i *)high)
        );
    }
    static CYTHON_INLINE dsq_quad dsq_pair(dsq_quad low, dsq_quad high) {
        const __m128i first = _mm_srli_epi32(_mm_slli_epi32(low, 16), 16);
        return _mm_or_si128(first, _mm_slli_epi32(high, 16));
    }
    static CYTHON_INLINE dsq_quad dsq_low(dsq_quad a) {
        return _mm_srai_epi32(_mm_slli_epi32(a, 16), 16);
    }
    static CYTHON_INLINE dsq_quad dsq_add(dsq_quad a, dsq_quad b) { return _mm_add_epi32(a, b); }
    static CYTHON_INLINE dsq_quad dsq_subtract(dsq_quad a, dsq_quad b) {
        return _mm_sub_epi32(a, b);
    }
    static CYTHON_INLINE dsq_quad dsq_down(dsq_quad a, int bits) {
        return _mm_sra_epi32(a, _mm_cvtsi32_si128(bits));
    }
    static CYTHON_INLINE dsq_quad dsq_up(dsq_quad a, int bits) {
        return _mm_sll_epi32(a, _mm_cvtsi32_si128(bits));
    }
    static CYTHON_INLINE dsq_quad dsq_size(dsq_quad a) {
        const __m128i sign = _mm_srai_epi32(a, 31);
        return _mm_sub_epi32(_mm_xor_si128(a, sign), sign);
    }
    static CYTHON_INLINE dsq_quad dsq_clamp(dsq_quad a, dsq_quad top) {
        const __m128i over = _mm_cmpgt_epi32(a, top);
        a = _mm_andnot_si128(_mm_srai_epi32(a, 31), a);
        return _mm_or_si128(_mm_andnot_si128(over, a), _mm_and_si128(over, top));
    }
    static CYTHON_INLINE dsq_quad dsq_mix(dsq_quad sums, dsq_quad a, dsq_quad b) {
        return _mm_add_epi32(sums, _mm_madd_epi16(a, b));
    }
    #if defined(__AVX2__)
    #include <immintrin.h>
    typedef __m256i dsq_wide;
    static CYTHON_INLINE dsq_wide dsq_none(void) { return _mm256_setzero_si256(); }
    static CYTHON_INLINE dsq_quad dsq_fold(dsq_wide sums) {
        return _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256(sums, 1));
    }
    static CYTHON_INLINE dsq_wide dsq_multiply(
        dsq_wide sums, const short *a, const short *b, int count
    ) {
        int i;
        for (i = 0; i + 16 <= count; i += 16) {
            const __m256i left = _mm256_loadu_si256((const __m256i *)(a + i));
            const __m256i right = _mm256_loadu_si256((const __m256i *)(b + i));
            sums = _mm256_add_epi32(sums, _mm256_madd_epi16(left, right));
        }
        if (i < count) {
            const __m128i left = _mm_loadu_si128((const __m128i *)(a + i));
            const __m128i right = _mm_loadu_si128((const __m128i *)(b + i));
            const __m256i none = _mm256_setzero_si256();
            const __m128i sum = _mm_madd_epi16(left, right);
            sums = _mm256_add_epi32(sums, _mm256_inserti128_si256(none, sum, 0));
        }
        return sums;
    }
    #else
    typedef __m128i dsq_wide;
    static CYTHON_INLINE dsq_wide dsq_none(void) { return _mm_setzero_si128(); }
    static CYTHON_INLINE dsq_quad dsq_fold(dsq_wide sums) { return sums; }
    static CYTHON_INLINE dsq_wide dsq_multiply(
        dsq_wide sums, const short *a, const short *b, int count
    ) {
        int i;
        for (i = 0; i < count; i += 8) {
            const __m128i left = _mm_loadu_si128((const __m128i *)(a + i));
            const __m128i right = _mm_loadu_si128((const __m128i *)(b + i));
            sums = _mm_add_epi32(sums, _mm_madd_epi16(left, right));
        }
        return sums;
    }
    #endif
    static CYTHON_INLINE void dsq_turn(const dsq_quad *rows, dsq_quad *columns) {
        const __m128i a = _mm_unpacklo_epi32(rows[0], rows[1]);
        const __m128i b = _mm_unpackhi_epi32(rows[0], rows[1]);
        const __m128i c = _mm_unpacklo_epi32(rows[2], rows[3]);
        const __m128i d = _mm_unpackhi_epi32(rows[2], rows[3]);
        columns[0] = _mm_unpacklo_epi64(a, c);
        columns[1] = _mm_unpackhi_epi64(a, c);
        columns[2] = _mm_unpacklo_epi64(b, d);
        columns[3] = _mm_unpackhi_epi64(b, d);
    }
    #else
    typedef struct { int at[4]; } dsq_quad;
    #define DSQ_EACH(value) \\
        { dsq_quad r; int i; for (i = 0; i < 4; i++) r.at[i] = (value); return r; }
    static CYTHON_INLINE int dsq_half(int a) { return (a & 65535) - ((a & 32768) << 1); }
    static CYTHON_INLINE dsq_quad dsq_all(int value) DSQ_EACH(value)
    static CYTHON_INLINE dsq_quad dsq_load(const int *from) DSQ_EACH(from[i])
    static CYTHON_INLINE void dsq_store(int *to, dsq_quad a) { memcpy(to, a.at, sizeof(a)); }
    static CYTHON_INLINE dsq_quad dsq_join(int a, int b, int c, int d) {
        const dsq_quad r = {{a, b, c, d}};
        return r;
    }
    static CYTHON_INLINE dsq_quad dsq_pairs(const short *low, const short *high)
        DSQ_EACH((low[i] & 65535) | (int)((unsigned)high[i] << 16))
    static CYTHON_INLINE dsq_quad dsq_pair(dsq_quad low, dsq_quad high)
        DSQ_EACH((low.at[i] & 65535) | (int)((unsigned)high.at[i] << 16))
    static CYTHON_INLINE dsq_quad dsq_low(dsq_quad a) DSQ_EACH(dsq_half(a.at[i]))
    static CYTHON_INLINE dsq_quad dsq_add(dsq_quad a, dsq_quad b) DSQ_EACH(a.at[i] + b.at[i])
    static CYTHON_INLINE dsq_quad dsq_subtract(dsq_quad a, dsq_quad b) DSQ_EACH(a.at[i] - b.at[i])
    static CYTHON_INLINE dsq_quad dsq_down(dsq_quad a, int bits) DSQ_EACH(a.at[i] >> bits)
    static CYTHON_INLINE dsq_quad dsq_up(dsq_quad a, int bits)
        DSQ_EACH((int)((unsigned)a.at[i] << bits))
    static CYTHON_INLINE dsq_quad dsq_size(dsq_quad a) DSQ_EACH(a.at[i] < 0 ? -a.at[i] : a.at[i])
    static CYTHON_INLINE dsq_quad dsq_clamp(dsq_quad a, dsq_quad top)
        DSQ_EACH(a.at[i] > top.at[i] ? top.at[i] : a.at[i] < 0 ? 0 : a.at[i])
    static CYTHON_INLINE dsq_quad dsq_mix(dsq_quad sums, dsq_quad a, dsq_quad b)
        DSQ_EACH(
            sums.at[i] + dsq_half(a.at[i]) * dsq_half(b.at[i]) + (a.at[i] >> 16) * (b.at[i] >> 16)
        )
    typedef int dsq_wide;
    static CYTHON_INLINE dsq_wide dsq_none(void) { return 0; }
    static CYTHON_INLINE dsq_quad dsq_fold(dsq_wide sums) { return dsq_join(sums, 0, 0, 0); }
    static CYTHON_INLINE dsq_wide dsq_multiply(
        dsq_wide sums, const short *a, const short *b, int count
    ) {
        int i;
        for (i = 0; i < count; i++) sums += (int)a[i] * (int)b[i];
        return sums;
    }
    static CYTHON_INLINE void dsq_turn(const dsq_quad *rows, dsq_quad *columns) {
        int i, j;
        for (i = 0; i < 4; i++) for (j = 0; j < 4; j++) columns[j].at[i] = rows[i].at[j];
    }
    #endif
    static CYTHON_INLINE unsigned dsq_word(const unsigned char *from) {
    #if defined(__GNUC__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
        unsigned short word;
        memcpy(&word, from, sizeof(word));
        return __builtin_bswap16(word);
    #else
        return (unsigned)from[0] << 8 | from[1];
    #endif
    }
    static CYTHON_INLINE dsq_quad dsq_load_pairs(const short *from) {
        return dsq_load((const int *)from);
    }
    """
    ctypedef struct quad "dsq_quad":
        pass
    quad all_of "dsq_all"(int value) nogil
    quad load "dsq_load"(const int *from_) nogil
    quad load_pairs "dsq_load_pairs"(const short *from_) nogil
    void store "dsq_store"(int *to, quad a) nogil
    quad join "dsq_join"(int a, int b, int c, int d) nogil
    # Pairs are two 16-bit numbers with sign in one integer, the second in the upper half.
    quad pairs_at "dsq_pairs"(const short *low, const short *high) nogil
    quad pair "dsq_pair"(quad low, quad high) nogil
    quad low_of "dsq_low"(quad pairs) nogil
    quad add "dsq_add"(quad a, quad b) nogil
    quad subtract "dsq_subtract"(quad a, quad b) nogil
    quad down "dsq_down"(quad a, int bits) nogil
    quad up "dsq_up"(quad a, int bits) nogil
    quad size_of "dsq_size"(quad a) nogil
    # To 0 at least, `top` at most.
    quad clamp_to "dsq_clamp"(quad a, quad top) nogil
    # Add the products of the lower and of the upper halves of pairs.
    quad mix "dsq_mix"(quad sums, quad a, quad b) nogil
    # Sums of products; of what `fold` returns only the sum over all four is meant.
    ctypedef struct wide "dsq_wide":
        pass
    wide none "dsq_none"() nogil
    # Add `count` products, a multiple of 8.
    wide multiply "dsq_multiply"(wide sums, const short *a, const short *b, int count) nogil
    quad fold "dsq_fold"(wide sums) nogil
    # Four rows of four become four columns.
    void turn "dsq_turn"(const quad *rows, quad *columns) nogil
    # Two bytes, the more significant first.
    unsigned int word_at "dsq_word"(const unsigned char *from_) nogil
