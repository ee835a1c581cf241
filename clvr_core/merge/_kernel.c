/* The contract clvr-f32-1 in one pass, for bf16 in and bf16 out. formula.py lists the four implementations.
   Optional: engine.py uses it where it was built and gives the right bits.
   Compile it without fused multiply-add (-ffp-contract=off), because each operation is rounded by itself. */
#include <Python.h>
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && !defined(__clang__)
#define FOR_EACH_CPU __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define FOR_EACH_CPU
#endif

#define CHUNK 4096 /* elements at a time, so that `bad` and the counter of the loop stay in 32 bits */

static inline float load(uint16_t half)
{
    uint32_t bits = (uint32_t)half << 16;
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

/* Round to nearest even. A value that is not finite sets *bad, and the caller refuses the merge. */
static inline uint16_t rounded(float value, uint32_t *bad)
{
    uint32_t bits;
    memcpy(&bits, &value, 4);
    bits = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    *bad |= (uint32_t)((bits & 0x7f80) == 0x7f80);
    return (uint16_t)bits;
}

#define LOOP(delta)                                        \
    for (int i = 0; i < count; i++) {                      \
        float t = load(base[i]);                           \
        out[i] = rounded(t + (delta), &bad);               \
    }                                                      \
    return bad

FOR_EACH_CPU static uint32_t none(uint16_t *restrict out, const uint16_t *restrict base, const float *restrict low, int count)
{
    uint32_t bad = 0;
    if (low) {
        LOOP(low[i]);
    }
    for (int i = 0; i < count; i++)
        out[i] = rounded(load(base[i]), &bad);
    return bad;
}

FOR_EACH_CPU static uint32_t one(uint16_t *restrict out, const uint16_t *restrict base, const uint16_t *restrict first, float a,
                                 const float *restrict low, int count)
{
    uint32_t bad = 0;
    if (low) {
        LOOP((load(first[i]) - t) * a + low[i]);
    }
    LOOP((load(first[i]) - t) * a);
}

FOR_EACH_CPU static uint32_t two(uint16_t *restrict out, const uint16_t *restrict base, const uint16_t *restrict first,
                                 const uint16_t *restrict second, float a, float b, const float *restrict low, int count)
{
    uint32_t bad = 0;
    if (low) {
        LOOP(((load(first[i]) - t) * a + (load(second[i]) - t) * b) + low[i]);
    }
    LOOP((load(first[i]) - t) * a + (load(second[i]) - t) * b);
}

static PyObject *merge(PyObject *module, PyObject *args)
{
    (void)module;
    Py_buffer out, base, first = {0}, second = {0}, low = {0};
    float a, b;
    Py_ssize_t count;
    uint32_t bad = 0;
    if (!PyArg_ParseTuple(args, "w*y*z*z*ffz*n", &out, &base, &first, &second, &a, &b, &low, &count))
        return NULL;
    int fits = count >= 0 && out.len >= 2 * count && base.len >= 2 * count && (!first.buf || first.len >= 2 * count) &&
               (!second.buf || (first.buf && second.len >= 2 * count)) && (!low.buf || low.len >= 4 * count);
    if (fits) {
        Py_BEGIN_ALLOW_THREADS
        for (Py_ssize_t at = 0; at < count; at += CHUNK) {
            int some = (int)(count - at < CHUNK ? count - at : CHUNK);
            uint16_t *to = (uint16_t *)out.buf + at;
            const uint16_t *from = (const uint16_t *)base.buf + at;
            const float *more = low.buf ? (const float *)low.buf + at : NULL;
            if (second.buf)
                bad |= two(to, from, (const uint16_t *)first.buf + at, (const uint16_t *)second.buf + at, a, b, more, some);
            else if (first.buf)
                bad |= one(to, from, (const uint16_t *)first.buf + at, a, more, some);
            else
                bad |= none(to, from, more, some);
        }
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&out);
    PyBuffer_Release(&base);
    if (first.obj)
        PyBuffer_Release(&first);
    if (second.obj)
        PyBuffer_Release(&second);
    if (low.obj)
        PyBuffer_Release(&low);
    if (!fits) {
        PyErr_SetString(PyExc_ValueError, "a buffer is shorter than count");
        return NULL;
    }
    return PyBool_FromLong(!bad);
}

static PyMethodDef methods[] = {
    {"merge", merge, METH_VARARGS,
     "merge(out, base, first, second, a, b, low, count) -> bool: count bf16 elements, low fp32; False if one is not finite."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_kernel", NULL, 0, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__kernel(void) { return PyModule_Create(&definition); }
