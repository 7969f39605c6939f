/* Loops over whole tensors for which NumPy needs a pass and a temporary array each step.
 *
 * What they compute, and what stands in for them where they are not compiled, is in
 * tfldbg/loops.py, which also sees to it that types and sizes fit; here they are checked again,
 * because a wrong one would be read beyond its end.  Other threads run meanwhile.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif

#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__) && defined(__GLIBC__)
#define CLONED __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define CLONED
#endif

/* Rows that are added up in float32 before they go to the float64 sums, which lie in memory. */
#define GROUP 8
/* Values side by side that pay for going through memory: several rows of a narrow tensor. */
#define WIDE 32
#define SUMS 7

/* What reference values are clamped to, and beyond what they count as saturated. */
typedef struct {
    float low, high, below, above;
} Range;

typedef struct {
    double *sums;
    float *largest, *magnitude;
    int32_t *differing, *saturated;
    Py_ssize_t width;
} Lanes;

/* Add `count` rows, at most GROUP, to the lanes; `count` is a constant wherever this is used. */
#define ADD_ROWS(count)                                                                            \
    for (Py_ssize_t lane = 0; lane < width; lane++) {                                              \
        float error_ = 0, size_ = 0, noise_ = 0, wanted_ = 0, power_ = 0, found_ = 0, dot_ = 0;    \
        float most = largest[lane], far = magnitude[lane];                                         \
        int32_t others = 0, beyond = 0;                                                            \
        for (Py_ssize_t k = 0; k < (count); k++) {                                                 \
            const float v = reference[lane + k * width], t = test[lane + k * width];               \
            /* Written so that NaN stays NaN. */                                                   \
            const float r = v < low ? low : v > high ? high : v;                                   \
            const float e = t - r, a = fabsf(e), m = fabsf(r);                                     \
            error_ += e, size_ += a, noise_ += e * e, wanted_ += r;                                \
            power_ += r * r, found_ += t * t, dot_ += r * t;                                       \
            most = a > most ? a : most;                                                            \
            far = m > far ? m : far;                                                               \
            others += a > half;                                                                    \
            beyond += (v < below) | (v > above);                                                   \
        }                                                                                          \
        error[lane] += error_, size[lane] += size_, noise[lane] += noise_;                         \
        wanted[lane] += wanted_, power[lane] += power_, found[lane] += found_, dot[lane] += dot_;  \
        largest[lane] = most, magnitude[lane] = far;                                               \
        differing[lane] += others, saturated[lane] += beyond;                                      \
    }

CLONED static void add_rows(const float *restrict test, const float *restrict reference,
                            Py_ssize_t rows, Py_ssize_t width, float half, double *restrict error,
                            double *restrict size, double *restrict noise, double *restrict wanted,
                            double *restrict power, double *restrict found,
                            double *restrict dot, float *restrict largest,
                            float *restrict magnitude, int32_t *restrict differing,
                            int32_t *restrict saturated, const Range range)
{
    const float low = range.low, high = range.high, below = range.below, above = range.above;
    const Py_ssize_t step = GROUP * width;
    for (; rows >= GROUP; rows -= GROUP, test += step, reference += step)
        ADD_ROWS(GROUP)
    for (; rows > 0; rows--, test += width, reference += width)
        ADD_ROWS(1)
}

static void add_to(Lanes *lanes, const float *test, const float *reference, Py_ssize_t rows,
                   Py_ssize_t width, float half, Range range)
{
    double *const s = lanes->sums;
    const Py_ssize_t w = lanes->width;
    add_rows(test, reference, rows, width, half, s, s + w, s + 2 * w, s + 3 * w, s + 4 * w,
             s + 5 * w, s + 6 * w, lanes->largest, lanes->magnitude, lanes->differing,
             lanes->saturated, range);
}

/* Compare one sample; `lanes` are empty before. */
static void compare_sample(Lanes *lanes, const float *test, const float *reference,
                           Py_ssize_t elements, Py_ssize_t channels, float half, Range range)
{
    const Py_ssize_t wide = elements / lanes->width, done = wide * lanes->width;
    add_to(lanes, test, reference, wide, lanes->width, half, range);
    add_to(lanes, test + done, reference + done, (elements - done) / channels, channels, half,
           range);
}

static int has_size(const Py_buffer *buffer, Py_ssize_t count, size_t each)
{
    return buffer->len == count * (Py_ssize_t)each;
}

static PyObject *compare(PyObject *self, PyObject *args)
{
    Py_buffer test, reference, sums, maxima, peaks;
    Py_ssize_t samples, channels;
    float half;
    Range range;
    (void)self;
    if (!PyArg_ParseTuple(args, "y*y*nnf(ffff)w*w*w*", &test, &reference, &samples, &channels,
                          &half, &range.low, &range.high, &range.below, &range.above, &sums,
                          &maxima, &peaks))
        return NULL;
    const Py_ssize_t count = test.len / (Py_ssize_t)sizeof(float);
    const Py_ssize_t elements = samples > 0 ? count / samples : 0;
    PyObject *result = NULL;
    char *memory = NULL;
    if (samples < 1 || channels < 1 || elements < 1 || elements % channels ||
        !has_size(&test, samples * elements, sizeof(float)) || reference.len != test.len ||
        !has_size(&sums, SUMS * channels, sizeof(double)) ||
        !has_size(&maxima, 2 * channels, sizeof(double)) ||
        !has_size(&peaks, samples, sizeof(double))) {
        PyErr_SetString(PyExc_ValueError, "the sizes do not fit");
        goto end;
    }
    const Py_ssize_t rows = elements / channels;
    Py_ssize_t several = (WIDE + channels - 1) / channels;
    if (several > rows)
        several = rows;
    const Py_ssize_t width = several * channels;
    const size_t each = SUMS * sizeof(double) + 3 * sizeof(float) + 2 * sizeof(int32_t);
    memory = calloc((size_t)width, each);
    if (memory == NULL) {
        PyErr_NoMemory();
        goto end;
    }
    double *const s = (double *)memory;
    float *const overall = (float *)(s + SUMS * width);
    float *const magnitude = overall + width, *const largest = magnitude + width;
    int32_t *const counts = (int32_t *)(largest + width);
    Lanes lanes = {s, largest, magnitude, counts, counts + width, width};
    long long differing = 0, saturated = 0;
    int finite = 1;
    Py_BEGIN_ALLOW_THREADS
    const float *t = test.buf, *r = reference.buf;
    double *const peak = peaks.buf, *const most = maxima.buf, *const total = sums.buf;
    for (Py_ssize_t sample = 0; sample < samples; sample++, t += elements, r += elements) {
        memset(largest, 0, (size_t)width * (sizeof(float) + 2 * sizeof(int32_t)));
        compare_sample(&lanes, t, r, elements, channels, half, range);
        double top = 0;
        for (Py_ssize_t lane = 0; lane < width; lane++) {
            differing += lanes.differing[lane], saturated += lanes.saturated[lane];
            top = largest[lane] > top ? largest[lane] : top;
            overall[lane] = largest[lane] > overall[lane] ? largest[lane] : overall[lane];
        }
        peak[sample] = top;
    }
    /* A difference is finite where both values are, float32 overflow apart; so is its square. */
    for (Py_ssize_t lane = 0; lane < width; lane++)
        finite = finite && isfinite(s[2 * width + lane]) && isfinite(s[4 * width + lane]);
    for (Py_ssize_t lane = 0; finite && lane < width; lane++) {
        const Py_ssize_t channel = lane % channels;
        double *const size = most + channel, *const far = most + channels + channel;
        *size = overall[lane] > *size ? overall[lane] : *size;
        *far = magnitude[lane] > *far ? magnitude[lane] : *far;
        for (int k = 0; k < SUMS; k++)
            total[k * channels + channel] += s[k * width + lane];
    }
    Py_END_ALLOW_THREADS
    result = finite ? Py_BuildValue("LL", differing, saturated) : Py_NewRef(Py_None);
end:
    free(memory);
    PyBuffer_Release(&test);
    PyBuffer_Release(&reference);
    PyBuffer_Release(&sums);
    PyBuffer_Release(&maxima);
    PyBuffer_Release(&peaks);
    return result;
}

CLONED static int64_t clamp_all(const float *restrict values, float *restrict out,
                                Py_ssize_t count, float low, float high, float below, float above)
{
    int64_t beyond = 0;
    for (Py_ssize_t i = 0; i < count; i++) {
        const float v = values[i];
        beyond += (v < below) | (v > above);
        /* Written so that NaN stays NaN. */
        out[i] = v < low ? low : v > high ? high : v;
    }
    return beyond;
}

static PyObject *clamp(PyObject *self, PyObject *args)
{
    Py_buffer values, out;
    float low, high, below, above;
    PyObject *result = NULL;
    (void)self;
    if (!PyArg_ParseTuple(args, "y*ffffw*", &values, &low, &high, &below, &above, &out))
        return NULL;
    const Py_ssize_t count = values.len / (Py_ssize_t)sizeof(float);
    if (has_size(&out, count, sizeof(float))) {
        int64_t beyond;
        Py_BEGIN_ALLOW_THREADS
        beyond = clamp_all(values.buf, out.buf, count, low, high, below, above);
        Py_END_ALLOW_THREADS
        result = PyLong_FromLongLong((long long)beyond);
    } else {
        PyErr_SetString(PyExc_ValueError, "the sizes do not fit");
    }
    PyBuffer_Release(&values);
    PyBuffer_Release(&out);
    return result;
}

/* Eight tables, because counts of one code right after each other wait for each other. */
static void count_bytes(const uint8_t *codes, Py_ssize_t count, int64_t *counts)
{
    while (count > 0) {
        uint32_t tables[8][256] = {{0}};
        const Py_ssize_t part = count < INT32_MAX ? count : INT32_MAX;
        Py_ssize_t i = 0;
        for (; i + 8 <= part; i += 8) {
            uint64_t word;
            memcpy(&word, codes + i, 8);
            for (int k = 0; k < 8; k++)
                tables[k][(word >> 8 * k) & 255]++;
        }
        for (; i < part; i++)
            tables[0][codes[i]]++;
        for (int k = 0; k < 8; k++)
            for (int code = 0; code < 256; code++)
                counts[code] += tables[k][code];
        codes += part, count -= part;
    }
}

static PyObject *count(PyObject *self, PyObject *args)
{
    Py_buffer codes, counts;
    PyObject *result = NULL;
    (void)self;
    if (!PyArg_ParseTuple(args, "y*w*", &codes, &counts))
        return NULL;
    if (has_size(&counts, 256, sizeof(int64_t))) {
        Py_BEGIN_ALLOW_THREADS
        count_bytes(codes.buf, codes.len, counts.buf);
        Py_END_ALLOW_THREADS
        result = Py_NewRef(Py_None);
    } else {
        PyErr_SetString(PyExc_ValueError, "the sizes do not fit");
    }
    PyBuffer_Release(&codes);
    PyBuffer_Release(&counts);
    return result;
}

/* Elements whose places are found together, before their counts are looked up. */
#define BLOCK 512
/* Tables that are counted in by turns, because counts of one place right after each other wait. */
#define TURNS 4

CLONED static void find_places(const float *restrict test, const float *restrict reference,
                               Py_ssize_t count, double quarters_of_one, double most,
                               int32_t *restrict places)
{
    for (Py_ssize_t i = 0; i < count; i++) {
        const double error = ((double)test[i] - (double)reference[i]) * quarters_of_one;
        const double size = fabs(error);
        const double quarters = ceil(size < most ? size : most);
        places[i] = (int32_t)((error < 0 ? -quarters : quarters) + most);
    }
}

/* Count errors in quarters of a step, rounded away from 0 and `most` at most, in `TURNS` tables. */
static void add_quarters(const float *test, const float *reference, Py_ssize_t count, double step,
                         Py_ssize_t most, int64_t *tables)
{
    int32_t places[BLOCK];
    const Py_ssize_t size = 2 * most + 1;
    for (Py_ssize_t start = 0; start < count; start += BLOCK) {
        const Py_ssize_t some = count - start < BLOCK ? count - start : BLOCK;
        find_places(test + start, reference + start, some, 4.0 / step, (double)most, places);
        for (Py_ssize_t i = 0; i < some; i++)
            tables[i % TURNS * size + places[i]]++;
    }
}

static PyObject *quarters(PyObject *self, PyObject *args)
{
    Py_buffer test, reference, counts;
    double step;
    PyObject *result = NULL;
    (void)self;
    if (!PyArg_ParseTuple(args, "y*y*dw*", &test, &reference, &step, &counts))
        return NULL;
    const Py_ssize_t count = test.len / (Py_ssize_t)sizeof(float);
    const Py_ssize_t places = counts.len / (Py_ssize_t)sizeof(int64_t);
    if (has_size(&test, count, sizeof(float)) && has_size(&reference, count, sizeof(float))
        && has_size(&counts, places, sizeof(int64_t)) && places % 2 == 1) {
        int64_t *const tables = calloc((size_t)(TURNS * places), sizeof(int64_t));
        if (tables == NULL) {
            PyErr_NoMemory();
        } else {
            int64_t *const all = counts.buf;
            Py_BEGIN_ALLOW_THREADS
            add_quarters(test.buf, reference.buf, count, step, places / 2, tables);
            for (Py_ssize_t i = 0; i < TURNS * places; i++)
                all[i % places] += tables[i];
            Py_END_ALLOW_THREADS
            free(tables);
            result = Py_NewRef(Py_None);
        }
    } else {
        PyErr_SetString(PyExc_ValueError, "the sizes do not fit");
    }
    PyBuffer_Release(&test);
    PyBuffer_Release(&reference);
    PyBuffer_Release(&counts);
    return result;
}

CLONED static float largest_of(const float *restrict test, const float *restrict reference,
                               Py_ssize_t count)
{
    float lanes[WIDE] = {0}, most = 0;
    Py_ssize_t i = 0;
    for (; i + WIDE <= count; i += WIDE)
        for (int k = 0; k < WIDE; k++) {
            const float size = fabsf(test[i + k] - reference[i + k]);
            lanes[k] = size > lanes[k] ? size : lanes[k]; /* not for NaN */
        }
    for (int k = 0; i < count; i++, k++) {
        const float size = fabsf(test[i] - reference[i]);
        lanes[k] = size > lanes[k] ? size : lanes[k];
    }
    for (int k = 0; k < WIDE; k++)
        most = lanes[k] > most ? lanes[k] : most;
    return most;
}

static PyObject *largest(PyObject *self, PyObject *args)
{
    Py_buffer test, reference;
    PyObject *result = NULL;
    (void)self;
    if (!PyArg_ParseTuple(args, "y*y*", &test, &reference))
        return NULL;
    const Py_ssize_t count = test.len / (Py_ssize_t)sizeof(float);
    if (has_size(&test, count, sizeof(float)) && reference.len == test.len) {
        float most;
        Py_BEGIN_ALLOW_THREADS
        most = largest_of(test.buf, reference.buf, count);
        Py_END_ALLOW_THREADS
        result = PyFloat_FromDouble(most);
    } else {
        PyErr_SetString(PyExc_ValueError, "the sizes do not fit");
    }
    PyBuffer_Release(&test);
    PyBuffer_Release(&reference);
    return result;
}

#define DEQUANTIZE(NAME, TYPE)                                                                     \
    CLONED static void NAME(const TYPE *restrict codes, Py_ssize_t count, int32_t zero,            \
                            float scale, float *restrict out)                                      \
    {                                                                                              \
        for (Py_ssize_t i = 0; i < count; i++)                                                     \
            out[i] = (float)((int32_t)codes[i] - zero) * scale;                                    \
    }
DEQUANTIZE(dequantize_i8, int8_t)
DEQUANTIZE(dequantize_u8, uint8_t)
DEQUANTIZE(dequantize_i16, int16_t)

static PyObject *dequantize(PyObject *self, PyObject *args)
{
    Py_buffer codes, out;
    const char *type;
    float scale;
    int zero;
    PyObject *result = NULL;
    (void)self;
    if (!PyArg_ParseTuple(args, "y*sfiw*", &codes, &type, &scale, &zero, &out))
        return NULL;
    const Py_ssize_t count = out.len / (Py_ssize_t)sizeof(float);
    const size_t each = strcmp(type, "int16") == 0 ? 2 : 1;
    if (has_size(&codes, count, each) && has_size(&out, count, sizeof(float))) {
        Py_BEGIN_ALLOW_THREADS
        if (each == 2)
            dequantize_i16(codes.buf, count, zero, scale, out.buf);
        else if (strcmp(type, "int8") == 0)
            dequantize_i8(codes.buf, count, zero, scale, out.buf);
        else
            dequantize_u8(codes.buf, count, zero, scale, out.buf);
        Py_END_ALLOW_THREADS
        result = Py_NewRef(Py_None);
    } else {
        PyErr_SetString(PyExc_ValueError, "the sizes do not fit");
    }
    PyBuffer_Release(&codes);
    PyBuffer_Release(&out);
    return result;
}

/* Freed memory stays with the process: every batch needs as much again, and pages that are given
 * back must be cleared by the system before they come again. */
static PyObject *keep_memory(PyObject *self, PyObject *args)
{
    (void)self, (void)args;
#ifdef __GLIBC__
    mallopt(M_MMAP_THRESHOLD, 32 << 20); /* the most that glibc takes */
    mallopt(M_TRIM_THRESHOLD, 2147483647);
#endif
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"compare", compare, METH_VARARGS, "Add the sums of the difference of two tensors."},
    {"clamp", clamp, METH_VARARGS, "Write clamped values; count those beyond limits."},
    {"count", count, METH_VARARGS, "Count bytes."},
    {"quarters", quarters, METH_VARARGS, "Count differences in quarters of a step."},
    {"largest", largest, METH_VARARGS, "Return the largest difference."},
    {"dequantize", dequantize, METH_VARARGS, "Write (codes - zero point) * scale."},
    {"keep_memory", keep_memory, METH_NOARGS, "Do not give freed memory back to the system."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "_loops", "See tfldbg.loops.", -1, methods, NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__loops(void) { return PyModule_Create(&module); }
