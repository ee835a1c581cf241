/* The contract clvr-f32-1 in one pass, for every dtype that a merge reads and writes, and the measures of the deltas.
   formula.py lists the implementations. Optional: native.py loads it where it was built and gives the right bits.

   A plain library without Python: native.py calls it by ctypes, so one build serves every Python, and a compiler alone
   makes it. Compile it without fused multiply-add (-ffp-contract=off), because each operation is rounded by itself. */
#include <stdint.h>
#include <string.h>

#define VERSION 3 /* of the struct below; native.py uses no library of another one */
#define ROWS 8
#define CHUNK 512 /* elements at a time: their fp32 values stay in the first-level cache */
#define LANES (CHUNK / 8)

#if defined(_MSC_VER)
#define EXPORT __declspec(dllexport)
#define INLINE static __forceinline
#define restrict __restrict
#else
#define EXPORT __attribute__((visibility("default")))
#define INLINE static inline __attribute__((always_inline))
#endif
#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && !defined(__clang__)
#define FOR_EACH_CPU __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define FOR_EACH_CPU
#endif

enum { F32, BF16, F16, F8_E4M3 };

/* native.py has the same struct, Job, and says what the fields are. */
struct job {
    const void *rows[ROWS];
    const float *low;
    void *out;
    float *merged;
    double *sums;
    int64_t count;
    int32_t kinds[ROWS];
    int32_t sides[ROWS + 1];
    float scales[ROWS];
    float strengths[ROWS];
    int32_t inputs, copy, ties, out_kind;
    float out_scale, peak;
};

INLINE uint32_t bits_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, 4);
    return bits;
}

INLINE float value_of(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

/* Without a branch, so that the loops around it are computed several elements at a time. */
INLINE uint32_t either(uint32_t choice, uint32_t left, uint32_t right)
{
    uint32_t mask = 0u - choice;
    return (left & mask) | (right & ~mask);
}

INLINE uint32_t not_finite(float value) { return (uint32_t)((bits_of(value) & 0x7f800000u) == 0x7f800000u); }

INLINE float from_bf16(uint16_t code) { return value_of((uint32_t)code << 16); }

INLINE float from_f16(uint16_t code)
{
    uint32_t sign = (uint32_t)(code & 0x8000) << 16, size = (uint32_t)(code & 0x7fff) << 13;
    uint32_t normal = size + (112u << 23);
    uint32_t small = bits_of(value_of(size + (113u << 23)) - value_of(113u << 23)); /* subnormal: exact */
    uint32_t special = either(size >= (31u << 23), 0x7f800000u, 0);
    return value_of(either(size < (1u << 23), small, normal) | special | sign);
}

INLINE float from_e4m3(uint8_t code)
{
    uint32_t size = code & 0x7f;
    uint32_t normal = (size << 20) + (120u << 23), small = bits_of((float)(int32_t)size * 0.001953125f);
    uint32_t special = either(size == 0x7f, 0x7fc00000u, 0);
    return value_of(either(size < 8, small, normal) | special | (uint32_t)(code & 0x80) << 24);
}

/* All four round to nearest even. What is not finite afterwards, or was not before, is seen in the result. */
INLINE uint16_t to_bf16(float value)
{
    uint32_t bits = bits_of(value);
    return (uint16_t)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

INLINE uint16_t to_f16(float value)
{
    uint32_t bits = bits_of(value), size = bits & 0x7fffffff;
    uint32_t normal = (size + 0xfff + ((size >> 13) & 1) - (112u << 23)) >> 13;
    uint32_t small = bits_of(value_of(size) + 0.5f) - bits_of(0.5f); /* 0.5 has steps of the smallest fp16 */
    uint32_t code = either(size < 0x38800000u, small, either(size >= 0x47800000u, 0x7c00u, normal));
    return (uint16_t)(code | (bits >> 16 & 0x8000));
}

INLINE uint8_t to_e4m3(float value, float scale)
{
    float scaled = value / scale;
    uint32_t sign = bits_of(scaled) >> 24 & 0x80, size = bits_of(scaled) & 0x7fffffff;
    size = either(size < 0x43e00000u, size, 0x43e00000u); /* 448 */
    uint32_t normal = ((size + ((size >> 20) & 1) + 0x7ffff) >> 20) - (120u << 3);
    uint32_t small = bits_of(value_of(size) * 512.0f + 8388608.0f) & 0xff; /* 2^23 has steps of 1 */
    return (uint8_t)(either(size < 0x3c800000u, small, normal) | sign);
}

/* Does BODY for each element, with its number i and its value. */
#define EACH(TYPE, FROM, BODY)                                             \
    {                                                                      \
        const TYPE *codes = (const TYPE *)from + at;                       \
        for (int i = 0; i < count; i++) {                                  \
            float value = FROM(codes[i]) * scale; /* by 1: the same bits */ \
            BODY;                                                          \
        }                                                                  \
    }
#define EACH_VALUE(BODY)                \
    if (kind == BF16)                   \
        EACH(uint16_t, from_bf16, BODY) \
    else if (kind == F16)               \
        EACH(uint16_t, from_f16, BODY)  \
    else if (kind == F8_E4M3)           \
        EACH(uint8_t, from_e4m3, BODY)  \
    else                                \
        EACH(float, , BODY)

INLINE void load(float *restrict to, const void *from, int kind, float scale, int64_t at, int count)
{
    EACH_VALUE(to[i] = value)
}

/* Adds the scaled delta of a row to `sum`, or puts it there for the first row, and writes the delta to `delta`. */
INLINE void add(float *restrict sum, float *restrict delta, const float *restrict base, int first, float strength,
                const void *from, int kind, float scale, int64_t at, int count)
{
    if (first)
        EACH_VALUE(float other = value - base[i]; delta[i] = other; sum[i] = other * strength)
    else
        EACH_VALUE(float other = value - base[i]; delta[i] = other; sum[i] += other * strength)
}

/* Returns whether a value is not finite, before or after it was rounded. */
INLINE uint32_t store(void *to, const float *restrict from, int kind, float scale, int64_t at, int count)
{
    uint32_t bad = 0;
    if (kind == BF16) {
        uint16_t *codes = (uint16_t *)to + at;
        for (int i = 0; i < count; i++) {
            uint16_t code = to_bf16(from[i]);
            bad |= (uint32_t)((code & 0x7f80) == 0x7f80) | not_finite(from[i]);
            codes[i] = code;
        }
    } else if (kind == F16) {
        uint16_t *codes = (uint16_t *)to + at;
        for (int i = 0; i < count; i++) {
            uint16_t code = to_f16(from[i]);
            bad |= (uint32_t)((code & 0x7c00) == 0x7c00); /* what is not finite becomes infinite */
            codes[i] = code;
        }
    } else {
        for (int i = 0; i < count; i++)
            bad |= not_finite(from[i]);
        if (kind == F8_E4M3)
            for (int i = 0; i < count; i++)
                ((uint8_t *)to)[at + i] = to_e4m3(from[i], scale);
        else if (kind == F32)
            memcpy((float *)to + at, from, 4 * (size_t)count);
    }
    return bad;
}

/* Returns what `store` does. both: there is a second checkpoint. */
INLINE uint32_t merge_plain(const struct job *job, int both, int64_t at, int count)
{
    const uint16_t *restrict base = (const uint16_t *)job->rows[0] + at, *restrict one = (const uint16_t *)job->rows[1] + at;
    const uint16_t *restrict two = (const uint16_t *)job->rows[both ? 2 : 1] + at;
    uint16_t *restrict out = (uint16_t *)job->out + at;
    float first = job->strengths[1], second = job->strengths[2];
    uint32_t bad = 0;
    for (int i = 0; i < count; i++) {
        float from = from_bf16(base[i]), sum = (from_bf16(one[i]) - from) * first;
        if (both)
            sum += (from_bf16(two[i]) - from) * second;
        float merged = from + sum;
        uint16_t code = to_bf16(merged);
        bad |= (uint32_t)((code & 0x7f80) == 0x7f80) | not_finite(merged);
        out[i] = code;
    }
    return bad;
}

/* The commonest job: one or two bf16 checkpoints into a bf16 base, and nothing to measure. The operations are those of
   merge_chunk in their order, but nothing is stored between them. */
FOR_EACH_CPU static uint32_t merge_bf16(const struct job *job, int64_t at, int count)
{
    return job->inputs == 3 ? merge_plain(job, 1, at, count) : merge_plain(job, 0, at, count);
}

INLINE int is_plain_bf16(const struct job *job)
{
    for (int row = 0; row < job->inputs; row++)
        if (job->kinds[row] != BF16)
            return 0;
    return (job->inputs == 2 || job->inputs == 3) && job->out && job->out_kind == BF16 && job->copy < 0 && !job->low
           && !job->ties && !job->merged && !job->sums;
}

/* At most CHUNK elements, so that sums in fp32 are near enough. Each of the LANES sums has eight products at once: as a sum
   that goes through all elements, compilers fetch them one by one. */
INLINE double dot(const float *restrict left, const float *restrict right, int count)
{
    float lanes[LANES] = {0};
#define PRODUCT(part) left[i + (part) * LANES] * right[i + (part) * LANES]
    if (count == CHUNK)
        for (int i = 0; i < LANES; i++)
            lanes[i] = ((PRODUCT(0) + PRODUCT(1)) + (PRODUCT(2) + PRODUCT(3)))
                       + ((PRODUCT(4) + PRODUCT(5)) + (PRODUCT(6) + PRODUCT(7)));
    else
        for (int i = 0; i < count; i++)
            lanes[i % LANES] += left[i] * right[i];
    for (int half = LANES / 2; half; half /= 2)
        for (int i = 0; i < half; i++)
            lanes[i] += lanes[i + half];
    return lanes[0];
}

INLINE float largest(const float *restrict values, int count)
{
    uint32_t size = 0; /* the bits of sizes are in the order of the sizes */
    for (int i = 0; i < count; i++) {
        uint32_t bits = bits_of(values[i]) & 0x7fffffff;
        size = bits > size ? bits : size;
    }
    return value_of(size);
}

/* sums: base^2; for each term delta^2, error * scaled delta, largest |delta| and its place; for each side its square; for
   each two sides their product, the elements that both change, and those that they change alike. */
#define TERM(number) (1 + 4 * (number))
#define SIDE(number) (1 + 4 * (ROWS + 1) + (number))
#define PAIR(one, two) (1 + 4 * (ROWS + 1) + ROWS + 3 * ((one) * ROWS + (two)))

FOR_EACH_CPU static void measure(const struct job *job, float x[ROWS][CHUNK], const float *restrict base,
                                 const float *restrict merged, int64_t at, int count)
{
    float stored[CHUNK], scaled[CHUNK], side[ROWS][CHUNK];
    uint32_t used = 0;
    double *sums = job->sums;
    load(stored, job->out, job->out_kind, job->out_kind == F8_E4M3 ? job->out_scale : 1.0f, at, count);
    for (int i = 0; i < count; i++)
        stored[i] -= merged[i];
    sums[0] += dot(base, base, count);
    for (int term = 1; term <= job->inputs; term++) {
        const float *delta = term < job->inputs ? x[term] : job->low ? job->low + at : NULL;
        float strength = term < job->inputs ? job->strengths[term] : 1.0f;
        if (!delta)
            continue;
        int place = term < job->inputs ? term - 1 : ROWS, to = job->sides[place];
        for (int i = 0; i < count; i++)
            scaled[i] = delta[i] * strength;
        sums[TERM(place)] += dot(delta, delta, count);
        sums[TERM(place) + 1] += dot(stored, scaled, count);
        float size = largest(delta, count);
        if (size > sums[TERM(place) + 2]) {
            int i = 0;
            while (value_of(bits_of(delta[i]) & 0x7fffffff) != size)
                i++;
            sums[TERM(place) + 2] = size;
            sums[TERM(place) + 3] = (double)(at + i);
        }
        if (used >> to & 1) {
            for (int i = 0; i < count; i++)
                side[to][i] += scaled[i];
        } else {
            memcpy(side[to], scaled, 4 * (size_t)count);
            used |= 1u << to;
        }
    }
    for (int one = 0; one < ROWS; one++) {
        if (!(used >> one & 1))
            continue;
        sums[SIDE(one)] += dot(side[one], side[one], count);
        for (int two = one + 1; two < ROWS; two++) {
            if (!(used >> two & 1))
                continue;
            const float *left = side[one], *right = side[two];
            int32_t both = 0, alike = 0;
            for (int i = 0; i < count; i++) {
                both += (left[i] != 0) & (right[i] != 0);
                alike += ((left[i] > 0) & (right[i] > 0)) | ((left[i] < 0) & (right[i] < 0));
            }
            sums[PAIR(one, two)] += dot(left, right, count);
            sums[PAIR(one, two) + 1] += both;
            sums[PAIR(one, two) + 2] += alike;
        }
    }
}

/* Replaces the sum of the scaled deltas by the sum of those that have its sign. `low` counts as the last delta. */
INLINE void elect(const struct job *job, float x[ROWS][CHUNK], float *restrict sum, const float *restrict low, int count)
{
    float all[CHUNK];
    for (int i = 0; i < count; i++)
        all[i] = job->inputs == 1 ? low[i] : low ? sum[i] + low[i] : sum[i];
    for (int i = 0; i < count; i++)
        sum[i] = 0;
    for (int row = 1; row <= job->inputs; row++) {
        const float *delta = row < job->inputs ? x[row] : low;
        float strength = row < job->inputs ? job->strengths[row] : 1.0f;
        for (int i = 0; delta && i < count; i++) {
            float term = delta[i] * strength;
            sum[i] += value_of(either(((term > 0) & (all[i] > 0)) | ((term < 0) & (all[i] < 0)), bits_of(term), 0));
        }
    }
}

FOR_EACH_CPU static uint32_t merge_chunk(const struct job *job, float x[ROWS][CHUNK], float *restrict merged, int64_t at,
                                         int count)
{
    const float *low = job->low ? job->low + at : NULL;
    float sum[CHUNK], *restrict base = x[0];
    load(base, job->rows[0], job->kinds[0], job->scales[0], at, count);
    for (int row = 1; row < job->inputs; row++)
        add(sum, x[row], base, row == 1, job->strengths[row], job->rows[row], job->kinds[row], job->scales[row], at, count);
    if (job->ties && job->copy < 0 && (job->inputs > 1 || low))
        elect(job, x, sum, low, count);
    else if (job->inputs > 1 && low)
        for (int i = 0; i < count; i++)
            sum[i] += low[i];
    if (job->copy > 0)
        load(merged, job->rows[job->copy], job->kinds[job->copy], job->scales[job->copy], at, count);
    else if (job->copy == 0 || (job->inputs == 1 && !low))
        memcpy(merged, base, 4 * (size_t)count);
    else if (job->inputs == 1 && !job->ties)
        for (int i = 0; i < count; i++)
            merged[i] = base[i] + low[i];
    else
        for (int i = 0; i < count; i++)
            merged[i] = base[i] + sum[i];
    if (job->merged)
        memcpy(job->merged + at, merged, 4 * (size_t)count);
    return store(job->out, merged, job->out_kind, job->out_scale, at, count);
}

FOR_EACH_CPU static float peak_of(const float *restrict merged, int count) { return largest(merged, count); }

EXPORT int32_t clvr_version(void) { return VERSION; }

EXPORT int64_t clvr_size(void) { return (int64_t)sizeof(struct job); }

/* Returns 1, or 0 if a value is not finite. */
EXPORT int32_t clvr_merge(struct job *job)
{
    float x[ROWS][CHUNK], merged[CHUNK];
    uint32_t bad = 0;
    job->peak = 0;
    if (is_plain_bf16(job)) {
        for (int64_t at = 0; at < job->count; at += CHUNK)
            bad |= merge_bf16(job, at, (int)(job->count - at < CHUNK ? job->count - at : CHUNK));
        return !bad;
    }
    for (int64_t at = 0; at < job->count; at += CHUNK) {
        int count = (int)(job->count - at < CHUNK ? job->count - at : CHUNK);
        bad |= merge_chunk(job, x, merged, at, count);
        if (job->merged) {
            float size = peak_of(merged, count);
            job->peak = size > job->peak ? size : job->peak;
        }
        if (job->sums)
            measure(job, x, x[0], merged, at, count);
    }
    return !bad;
}

/* A module of Python by its file name, which Python's build asks for; it is never imported. */
EXPORT void *PyInit__kernel(void) { return 0; }
