/* The contract clvr-f32-1 in one pass, for every dtype that a merge reads and writes, and the measures of the deltas.
   formula.py lists the implementations. Optional: native.py loads it where it was built and gives the right bits.

   A plain library without Python: native.py calls it by ctypes, so one build serves every Python, and a compiler alone
   makes it. Compile it without fused multiply-add (-ffp-contract=off), because each operation is rounded by itself. */
#if !defined(_WIN32)
#define _XOPEN_SOURCE 700 /* for pread */
#define _FILE_OFFSET_BITS 64
#include <errno.h>
#include <unistd.h>
#endif
#include <stdint.h>
#include <string.h>

#define VERSION 4 /* of the structs below; native.py uses no library of another one */
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

/* A row of a tensor in a file; native.py packs both structs. */
struct source {
    int64_t start; /* byte of the first element */
    int32_t file, kind;
    float scale, strength;
};
struct tensor {
    int64_t count;
    int32_t inputs, out_kind, ties, unused;
    struct source sources[ROWS];
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

/* The upper half is the code. */
INLINE uint32_t rounded_to_bf16(float value)
{
    uint32_t bits = bits_of(value);
    return bits + 0x7fff + ((bits >> 16) & 1);
}

#define TOO_LARGE 0x7f7f8000u /* the smallest size that becomes infinite in bf16; above it is what is not finite */

/* All four round to nearest even. What is not finite afterwards, or was not before, is seen in the result. */
INLINE uint16_t to_bf16(float value)
{
    return (uint16_t)(rounded_to_bf16(value) >> 16);
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
            bad |= (uint32_t)((bits_of(from[i]) & 0x7fffffff) >= TOO_LARGE);
            codes[i] = to_bf16(from[i]);
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
    uint32_t top = 0;
    for (int i = 0; i < count; i++) {
        float from = from_bf16(base[i]), sum = (from_bf16(one[i]) - from) * first;
        if (both)
            sum += (from_bf16(two[i]) - from) * second;
        float merged = from + sum;
        uint32_t size = bits_of(merged) & 0x7fffffff;
        top = size > top ? size : top;
        out[i] = to_bf16(merged);
    }
    return top >= TOO_LARGE;
}

/* The commonest job: one or two bf16 checkpoints into a bf16 base. The operations are those of merge_chunk in their order,
   but nothing is stored between them. */
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
           && !job->ties && !job->merged;
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
#define SUMS PAIR(ROWS, 0)

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

/* The sums of `measure` where merge_plain merges and each delta is a side of its own, of CHUNK elements. Nothing but
   the output is stored between the operations; each of the LANES sums takes every LANES-th element. Returns what `store` does. */
INLINE uint32_t measure_plain(const struct job *job, int both, int64_t at)
{
    const uint16_t *restrict base = (const uint16_t *)job->rows[0] + at, *restrict one = (const uint16_t *)job->rows[1] + at;
    const uint16_t *restrict two = (const uint16_t *)job->rows[both ? 2 : 1] + at;
    uint16_t codes[CHUNK]; /* and not the output itself, which a compiler cannot tell from the inputs */
    float first = job->strengths[1], second = job->strengths[2], totals[6 * LANES];
    uint32_t top = 0, size_x = 0, size_y = 0, changed = 0, opposed = 0;
    double *sums = job->sums;
    for (int i = 0; i < LANES; i++) {
        float t0 = 0, t1 = 0, t2 = 0, t3 = 0, t4 = 0, t5 = 0;
#define STEP(part)                                                                                 \
    {                                                                                              \
        int k = i + (part) * LANES;                                                                \
        float from = from_bf16(base[k]), x = from_bf16(one[k]) - from, a = x * first, sum = a;     \
        float y = 0, b = 0;                                                                        \
        if (both) {                                                                                \
            y = from_bf16(two[k]) - from;                                                          \
            b = y * second;                                                                        \
            sum += b;                                                                              \
        }                                                                                          \
        float merged = from + sum;                                                                 \
        uint32_t rounded = rounded_to_bf16(merged), size = bits_of(merged) & 0x7fffffff;           \
        float error = value_of(rounded & 0xffff0000u) - merged;                                    \
        top = size > top ? size : top;                                                             \
        codes[k] = (uint16_t)(rounded >> 16);                                                      \
        t0 += from * from;                                                                         \
        t1 += x * x;                                                                               \
        t2 += error * a;                                                                           \
        size = bits_of(x) & 0x7fffffff;                                                            \
        size_x = size > size_x ? size : size_x;                                                    \
        if (both) {                                                                                \
            t3 += y * y;                                                                           \
            t4 += error * b;                                                                       \
            t5 += a * b;                                                                           \
            size = bits_of(y) & 0x7fffffff;                                                        \
            size_y = size > size_y ? size : size_y;                                                \
            uint32_t moved = (uint32_t)((a != 0) & (b != 0)), apart = (bits_of(a) ^ bits_of(b)) >> 31;\
            changed += moved;                                                                      \
            opposed += moved & apart;                                                              \
        }                                                                                          \
    }
        STEP(0) STEP(1) STEP(2) STEP(3) STEP(4) STEP(5) STEP(6) STEP(7)
        totals[i] = t0;
        totals[i + LANES] = t1;
        totals[i + 2 * LANES] = t2;
        totals[i + 3 * LANES] = t3;
        totals[i + 4 * LANES] = t4;
        totals[i + 5 * LANES] = t5;
    }
    memcpy((uint16_t *)job->out + at, codes, sizeof codes);
    for (int half = LANES / 2; half; half /= 2)
        for (int number = 0; number < 6; number++)
            for (int i = 0; i < half; i++)
                totals[number * LANES + i] += totals[number * LANES + i + half];
    const uint32_t sizes[2] = {size_x, size_y};
    sums[0] += totals[0];
    for (int term = 0; term < (both ? 2 : 1); term++) {
        float squares = totals[(1 + 2 * term) * LANES], strength = term ? second : first;
        sums[TERM(term)] += squares;
        sums[TERM(term) + 1] += totals[(2 + 2 * term) * LANES];
        sums[SIDE(job->sides[term])] += (double)strength * strength * squares;
    }
    if (both) {
        int low = job->sides[0] < job->sides[1] ? 0 : 1, pair = PAIR(job->sides[low], job->sides[1 - low]);
        sums[pair] += totals[5 * LANES];
        sums[pair + 1] += changed;
        sums[pair + 2] += changed - opposed;
    }
    for (int term = 0; term < (both ? 2 : 1); term++) {
        const uint16_t *other = term ? two : one;
        if (value_of(sizes[term]) > sums[TERM(term) + 2]) {
            int i = 0;
            while ((bits_of(from_bf16(other[i]) - from_bf16(base[i])) & 0x7fffffff) != sizes[term])
                i++;
            sums[TERM(term) + 2] = value_of(sizes[term]);
            sums[TERM(term) + 3] = (double)(at + i);
        }
    }
    return top >= TOO_LARGE;
}

FOR_EACH_CPU static uint32_t measure_bf16(const struct job *job, int64_t at)
{
    return job->inputs == 3 ? measure_plain(job, 1, at) : measure_plain(job, 0, at);
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
    int plain = is_plain_bf16(job), apart = job->inputs < 3 || job->sides[0] != job->sides[1];
    for (int64_t at = 0; at < job->count; at += CHUNK) {
        int count = (int)(job->count - at < CHUNK ? job->count - at : CHUNK);
        if (plain && !job->sums) {
            bad |= merge_bf16(job, at, count);
            continue;
        }
        if (plain && apart && count == CHUNK) {
            bad |= measure_bf16(job, at);
            continue;
        }
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

/* Returns 1 if this library reads files itself. */
EXPORT int32_t clvr_reads(void)
{
#if defined(_WIN32)
    return 0; /* a descriptor belongs to the C library that opened it, which may be another one there */
#else
    return 1;
#endif
}

/* Returns whether all the bytes were there. */
static int read_at(int file, void *to, int64_t size, int64_t start)
{
#if defined(_WIN32)
    (void)file, (void)to, (void)size, (void)start;
    return 0;
#else
    while (size > 0) {
        ssize_t got = pread(file, to, (size_t)size, (off_t)start);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return 0;
        to = (char *)to + got;
        start += got;
        size -= got;
    }
    return 1;
#endif
}

static int64_t size_of(int kind) { return kind == F32 ? 4 : kind == F8_E4M3 ? 1 : 2; }

/* The job for elements of a tensor that are read to `memory`, which has room for `room` fp32 elements of each row. */
static struct job job_for(const struct tensor *tensor, char *memory, int64_t room, void *out)
{
    struct job job = {.out = out, .inputs = tensor->inputs, .copy = -1, .ties = tensor->ties, .out_scale = 1.0f};
    job.out_kind = tensor->out_kind;
    for (int row = 0; row < tensor->inputs; row++) {
        const struct source *source = &tensor->sources[row];
        job.rows[row] = memory;
        memory += room * size_of(source->kind);
        job.kinds[row] = source->kind, job.scales[row] = source->scale, job.strengths[row] = source->strength;
        if (row)
            job.sides[row - 1] = row - 1; /* each delta is a side of its own */
    }
    return job;
}

/* Reads `count` elements of each row, from element `from` on, to the places of the job's rows from element `to` on. */
static int read_rows(const struct job *job, const struct tensor *tensor, int64_t from, int64_t count, int64_t to)
{
    for (int row = 0; row < tensor->inputs; row++) {
        int64_t size = size_of(job->kinds[row]), start = tensor->sources[row].start + from * size;
        if (!read_at(tensor->sources[row].file, (char *)job->rows[row] + to * size, count * size, start))
            return 0;
    }
    return 1;
}

/* Reads a tensor, merges it and stores it in `out`, `piece` elements at a time. Returns 1, 0 if a value is not finite, or -1
   if a file could not be read. memory: for `piece` elements of each row. */
EXPORT int32_t clvr_merge_files(const struct tensor *tensor, void *out, void *memory, int64_t piece)
{
    struct job job = job_for(tensor, memory, piece, out);
    for (int64_t at = 0; at < tensor->count; at += piece) {
        job.count = tensor->count - at < piece ? tensor->count - at : piece;
        job.out = (char *)out + at * size_of(tensor->out_kind);
        if (!read_rows(&job, tensor, at, job.count, 0))
            return -1;
        if (!clvr_merge(&job))
            return 0;
    }
    return 1;
}

/* Reads a sample of each of `many` tensors, merges and measures it: `slices` times `slice` elements, or the whole of a
   smaller one. native.py says where they are. sums: for each tensor, of SUMS places, zeros. found: for each tensor -1 if a
   file could not be read, 0 if a value is not finite, else 1 and, for each row after the first, bit `row` if its bytes
   equal those of the base. memory, out: for the sample of ROWS rows, and of one, in fp32. */
EXPORT void clvr_sample(const struct tensor *tensors, int64_t many, int64_t slice, int64_t slices, double *sums,
                        int32_t *found, void *memory, void *out)
{
    for (int64_t number = 0; number < many; number++, tensors++, sums += SUMS) {
        int64_t all = tensors->count, room = slice * slices;
        struct job job = job_for(tensors, memory, room, out);
        int there = 1;
        job.count = all < room ? all : room;
        job.sums = sums;
        if (all <= room)
            there = read_rows(&job, tensors, 0, all, 0);
        else
            for (int64_t place = 0; place < slices; place++)
                there = there && read_rows(&job, tensors, place * (all - slice) / (slices - 1), slice, place * slice);
        found[number] = there ? clvr_merge(&job) : -1;
        for (int row = 1; row < job.inputs && found[number] > 0; row++)
            if (job.kinds[row] == job.kinds[0] && job.scales[row] == job.scales[0]
                && !memcmp(job.rows[row], job.rows[0], (size_t)(job.count * size_of(job.kinds[0]))))
                found[number] |= 1 << row;
    }
}

/* A module of Python by its file name, which Python's build asks for; it is never imported. */
EXPORT void *PyInit__kernel(void) { return 0; }
