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

/* That of tfldbg/loops.py; one more whenever a function or its arguments change. */
#define VERSION 1

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

/* Values of a tensor: real units, or codes of one scale and zero point. */
typedef struct {
    char type; /* as in Python's struct: f, b, B or h */
    int32_t zero;
    float scale;
} Stored;

#define CONVERT(NAME, TYPE)                                                                        \
    CLONED static void NAME(const TYPE *restrict codes, Py_ssize_t count, int32_t zero,            \
                            float scale, float *restrict out)                                      \
    {                                                                                              \
        for (Py_ssize_t i = 0; i < count; i++)                                                     \
            out[i] = (float)((int32_t)codes[i] - zero) * scale;                                    \
    }
CONVERT(convert_i8, int8_t)
CONVERT(convert_u8, uint8_t)
CONVERT(convert_i16, int16_t)

static size_t size_of(char type) { return type == 'f' ? 4 : type == 'h' ? 2 : 1; }

/* Return `count` values in real units, in `room` if they are codes. */
static const float *real_values(const Stored *stored, const char *values, Py_ssize_t count,
                                float *room)
{
    switch (stored->type) {
    case 'b':
        convert_i8((const int8_t *)values, count, stored->zero, stored->scale, room);
        return room;
    case 'B':
        convert_u8((const uint8_t *)values, count, stored->zero, stored->scale, room);
        return room;
    case 'h':
        convert_i16((const int16_t *)values, count, stored->zero, stored->scale, room);
        return room;
    default:
        return (const float *)values;
    }
}

/* The sums and maxima of the differences of two tensors, in arrays of the caller. */
typedef struct {
    PyObject_HEAD
    Py_ssize_t channels, width;
    float half;
    Range range;
    Stored test, reference;
    Py_buffer sums, maxima, counts, peaks;
    char *memory;
    Lanes lanes;
    float *overall, *rooms[2];
} Comparison;

/* Add rows, which are converted in groups that fit into the nearest cache. */
static void add_to(Comparison *self, const char *test, const char *reference, Py_ssize_t rows,
                   Py_ssize_t width)
{
    Lanes *const lanes = &self->lanes;
    double *const s = lanes->sums;
    const Py_ssize_t w = lanes->width;
    const int codes = self->test.type != 'f' || self->reference.type != 'f';
    const Py_ssize_t group = codes ? GROUP : rows;
    while (rows > 0) {
        const Py_ssize_t some = rows < group ? rows : group, count = some * width;
        const float *t = real_values(&self->test, test, count, self->rooms[0]);
        const float *r = real_values(&self->reference, reference, count, self->rooms[1]);
        add_rows(t, r, some, width, self->half, s, s + w, s + 2 * w, s + 3 * w, s + 4 * w,
                 s + 5 * w, s + 6 * w, lanes->largest, lanes->magnitude, lanes->differing,
                 lanes->saturated, self->range);
        test += count * (Py_ssize_t)size_of(self->test.type);
        reference += count * (Py_ssize_t)size_of(self->reference.type);
        rows -= some;
    }
}

/* Compare one sample; the lanes are empty before, but for sums and magnitudes. */
static void compare_sample(Comparison *self, const char *test, const char *reference,
                           Py_ssize_t elements)
{
    const Py_ssize_t width = self->width, wide = elements / width, done = wide * width;
    add_to(self, test, reference, wide, width);
    add_to(self, test + done * (Py_ssize_t)size_of(self->test.type),
           reference + done * (Py_ssize_t)size_of(self->reference.type),
           (elements - done) / self->channels, self->channels);
}

static int has_size(const Py_buffer *buffer, Py_ssize_t count, size_t each)
{
    return buffer->len == count * (Py_ssize_t)each;
}

/* Give the lanes their memory, for tensors of at least so many rows. */
static int make_lanes(Comparison *self, Py_ssize_t rows)
{
    Py_ssize_t several = (WIDE + self->channels - 1) / self->channels;
    if (several > rows)
        several = rows;
    const Py_ssize_t width = several * self->channels;
    if (self->memory != NULL && width == self->width)
        return 1;
    const size_t each = SUMS * sizeof(double) + 4 * sizeof(float) + 2 * sizeof(int32_t);
    const size_t rooms = 2 * GROUP * sizeof(float);
    free(self->memory);
    self->memory = malloc((size_t)width * (each + rooms));
    if (self->memory == NULL) {
        PyErr_NoMemory();
        return 0;
    }
    self->width = width;
    double *const s = (double *)self->memory;
    float *const magnitude = (float *)(s + SUMS * width), *const largest = magnitude + width;
    int32_t *const counts = (int32_t *)(largest + width);
    self->lanes = (Lanes){s, largest, magnitude, counts, counts + width, width};
    self->overall = (float *)(counts + 2 * width);
    self->rooms[0] = self->overall + width;
    self->rooms[1] = self->rooms[0] + GROUP * width;
    return 1;
}

/* Add the lanes of all samples to the caller's arrays; return 0 if a value is not finite. */
static int keep_sums(Comparison *self)
{
    const Py_ssize_t width = self->width, channels = self->channels;
    const double *const s = self->lanes.sums;
    double *const total = self->sums.buf, *const most = self->maxima.buf;
    /* A difference is finite where both values are, float32 overflow apart; so is its square. */
    for (Py_ssize_t lane = 0; lane < width; lane++)
        if (!isfinite(s[2 * width + lane]) || !isfinite(s[4 * width + lane]))
            return 0;
    for (Py_ssize_t lane = 0; lane < width; lane++) {
        const Py_ssize_t channel = lane % channels;
        double *const size = most + channel, *const far = most + channels + channel;
        const double overall = self->overall[lane], magnitude = self->lanes.magnitude[lane];
        *size = overall > *size ? overall : *size;
        *far = magnitude > *far ? magnitude : *far;
        for (int k = 0; k < SUMS; k++)
            total[k * channels + channel] += s[k * width + lane];
    }
    return 1;
}

/* Keep the largest difference: that of sample 0, and the largest with its sample. */
static void keep_peak(double *peaks, double top, Py_ssize_t sample)
{
    if (sample == 0)
        peaks[0] = top;
    if (top > peaks[1] || (top == peaks[1] && (double)sample < peaks[2]))
        peaks[1] = top, peaks[2] = (double)sample;
}

static int compare_all(Comparison *self, const char *test, const char *reference,
                       Py_ssize_t samples, Py_ssize_t elements, Py_ssize_t first)
{
    const Py_ssize_t width = self->width;
    Lanes *const lanes = &self->lanes;
    double *const kept = self->peaks.buf;
    double peaks[3] = {kept[0], kept[1], kept[2]};
    int64_t differing = 0, saturated = 0, *const counts = self->counts.buf;
    memset(lanes->sums, 0, (size_t)width * SUMS * sizeof(double));
    memset(lanes->magnitude, 0, (size_t)width * sizeof(float));
    memset(self->overall, 0, (size_t)width * sizeof(float));
    for (Py_ssize_t sample = 0; sample < samples; sample++) {
        memset(lanes->largest, 0, (size_t)width * (sizeof(float) + 2 * sizeof(int32_t)));
        compare_sample(self, test, reference, elements);
        double top = 0;
        for (Py_ssize_t lane = 0; lane < width; lane++) {
            const float largest = lanes->largest[lane];
            differing += lanes->differing[lane], saturated += lanes->saturated[lane];
            top = largest > top ? largest : top;
            self->overall[lane] = largest > self->overall[lane] ? largest : self->overall[lane];
        }
        keep_peak(peaks, top, first + sample);
        test += elements * (Py_ssize_t)size_of(self->test.type);
        reference += elements * (Py_ssize_t)size_of(self->reference.type);
    }
    if (!keep_sums(self))
        return 0;
    memcpy(kept, peaks, sizeof(peaks));
    counts[0] += samples * (elements / self->channels);
    counts[1] += saturated, counts[2] += differing;
    return 1;
}

static int has_type(const Py_buffer *buffer, char type)
{
    const char *format = buffer->format == NULL ? "B" : buffer->format;
    return format[0] == type && format[1] == 0;
}

static PyObject *comparison_add(PyObject *object, PyObject *const *args, Py_ssize_t given)
{
    Comparison *const self = (Comparison *)object;
    Py_buffer test, reference;
    if (given != 4) {
        PyErr_SetString(PyExc_TypeError, "expected test, reference, samples, first");
        return NULL;
    }
    const Py_ssize_t samples = PyLong_AsSsize_t(args[2]), first = PyLong_AsSsize_t(args[3]);
    if (PyErr_Occurred() || PyObject_GetBuffer(args[0], &test, PyBUF_FORMAT | PyBUF_C_CONTIGUOUS))
        return NULL;
    if (PyObject_GetBuffer(args[1], &reference, PyBUF_FORMAT | PyBUF_C_CONTIGUOUS)) {
        PyBuffer_Release(&test);
        return NULL;
    }
    PyObject *result = NULL;
    const Py_ssize_t count = test.len / (Py_ssize_t)size_of(self->test.type);
    const Py_ssize_t elements = samples > 0 ? count / samples : 0;
    if (!has_type(&test, self->test.type) || !has_type(&reference, self->reference.type))
        PyErr_SetString(PyExc_ValueError, "the types do not fit");
    else if (samples < 1 || elements < 1 || elements % self->channels || first < 0 ||
             !has_size(&test, samples * elements, size_of(self->test.type)) ||
             !has_size(&reference, samples * elements, size_of(self->reference.type)))
        PyErr_SetString(PyExc_ValueError, "the sizes do not fit");
    else if (make_lanes(self, elements / self->channels)) {
        int finite;
        Py_BEGIN_ALLOW_THREADS
        finite = compare_all(self, test.buf, reference.buf, samples, elements, first);
        Py_END_ALLOW_THREADS
        result = PyBool_FromLong(finite);
    }
    PyBuffer_Release(&test);
    PyBuffer_Release(&reference);
    return result;
}

static void comparison_free(PyObject *object)
{
    Comparison *const self = (Comparison *)object;
    PyBuffer_Release(&self->sums);
    PyBuffer_Release(&self->maxima);
    PyBuffer_Release(&self->counts);
    PyBuffer_Release(&self->peaks);
    free(self->memory);
    Py_TYPE(object)->tp_free(object);
}

static PyObject *comparison_new(PyTypeObject *type, PyObject *args, PyObject *named)
{
    (void)named;
    Comparison *const self = (Comparison *)type->tp_alloc(type, 0);
    int types[2];
    if (self == NULL)
        return NULL;
    if (!PyArg_ParseTuple(args, "nf(ffff)(Cfi)(Cfi)w*w*w*w*", &self->channels, &self->half,
                          &self->range.low, &self->range.high, &self->range.below,
                          &self->range.above, &types[0], &self->test.scale, &self->test.zero,
                          &types[1], &self->reference.scale, &self->reference.zero, &self->sums,
                          &self->maxima, &self->counts, &self->peaks)) {
        Py_DECREF(self);
        return NULL;
    }
    self->test.type = (char)types[0], self->reference.type = (char)types[1];
    if (self->channels < 1 || !has_size(&self->sums, SUMS * self->channels, sizeof(double)) ||
        !has_size(&self->maxima, 2 * self->channels, sizeof(double)) ||
        !has_size(&self->counts, 3, sizeof(int64_t)) ||
        !has_size(&self->peaks, 3, sizeof(double)) || strchr("fbBh", self->test.type) == NULL ||
        strchr("fbBh", self->reference.type) == NULL) {
        PyErr_SetString(PyExc_ValueError, "the sizes do not fit");
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

static PyMethodDef comparison_methods[] = {
    {"add", (PyCFunction)(void (*)(void))comparison_add, METH_FASTCALL,
     "Add samples of both tensors; return False and change nothing if a value is not finite."},
    {NULL, NULL, 0, NULL},
};

static PyTypeObject comparison_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "tfldbg._loops.Comparison",
    .tp_basicsize = sizeof(Comparison),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_doc = "See tfldbg.loops.TensorComparison.",
    .tp_new = comparison_new,
    .tp_dealloc = comparison_free,
    .tp_methods = comparison_methods,
};

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
            convert_i16(codes.buf, count, zero, scale, out.buf);
        else if (strcmp(type, "int8") == 0)
            convert_i8(codes.buf, count, zero, scale, out.buf);
        else
            convert_u8(codes.buf, count, zero, scale, out.buf);
        Py_END_ALLOW_THREADS
        result = Py_NewRef(Py_None);
    } else {
        PyErr_SetString(PyExc_ValueError, "the sizes do not fit");
    }
    PyBuffer_Release(&codes);
    PyBuffer_Release(&out);
    return result;
}

/* Return the bits of the nearest float16, ties to even. */
static inline uint16_t half_of(float value)
{
    uint32_t bits, small;
    memcpy(&bits, &value, sizeof(bits));
    const uint16_t sign = (uint16_t)(bits >> 16 & 0x8000);
    bits &= 0x7fffffff;
    /* Below 2^-14 float16 has fixed steps, to which adding 0.5 rounds float32. */
    float sum;
    memcpy(&sum, &bits, sizeof(sum));
    sum += 0.5f;
    memcpy(&small, &sum, sizeof(small));
    small -= 0x3f000000;
    const uint32_t normal = (bits + 0xfff + (bits >> 13 & 1) - 0x38000000) >> 13;
    uint32_t half = bits < 0x38800000 ? small : normal;
    half = bits >= 0x477ff000 ? 0x7c00 : half; /* rounds to infinity */
    half = bits > 0x7f800000 ? 0x7e00 : half;
    return (uint16_t)(sign | half);
}

/* 1.5 * 2^13: float32 has steps of 1/1024 there, to which adding and subtracting it rounds. */
#define STEPS 12288.0f

#define ERRORS(NAME, TYPE)                                                                         \
    CLONED static void NAME(const TYPE *restrict codes, const float *restrict reference,           \
                            Py_ssize_t count, int32_t zero, float per_unit,                        \
                            uint16_t *restrict out)                                                \
    {                                                                                              \
        for (Py_ssize_t i = 0; i < count; i++) {                                                   \
            const float error = (float)((int32_t)codes[i] - zero) - reference[i] * per_unit;       \
            out[i] = half_of((error + STEPS) - STEPS);                                             \
        }                                                                                          \
    }
ERRORS(errors_i8, int8_t)
ERRORS(errors_u8, uint8_t)

static PyObject *errors(PyObject *self, PyObject *args)
{
    Py_buffer codes, reference, out;
    const char *type;
    float per_unit;
    int zero;
    PyObject *result = NULL;
    (void)self;
    if (!PyArg_ParseTuple(args, "y*sy*fiw*", &codes, &type, &reference, &per_unit, &zero, &out))
        return NULL;
    const Py_ssize_t count = codes.len;
    if (has_size(&reference, count, sizeof(float)) && has_size(&out, count, sizeof(uint16_t))) {
        Py_BEGIN_ALLOW_THREADS
        if (strcmp(type, "int8") == 0)
            errors_i8(codes.buf, reference.buf, count, zero, per_unit, out.buf);
        else
            errors_u8(codes.buf, reference.buf, count, zero, per_unit, out.buf);
        Py_END_ALLOW_THREADS
        result = Py_NewRef(Py_None);
    } else {
        PyErr_SetString(PyExc_ValueError, "the sizes do not fit");
    }
    PyBuffer_Release(&codes);
    PyBuffer_Release(&reference);
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
    {"clamp", clamp, METH_VARARGS, "Write clamped values; count those beyond limits."},
    {"count", count, METH_VARARGS, "Count bytes."},
    {"quarters", quarters, METH_VARARGS, "Count differences in quarters of a step."},
    {"largest", largest, METH_VARARGS, "Return the largest difference."},
    {"dequantize", dequantize, METH_VARARGS, "Write (codes - zero point) * scale."},
    {"errors", errors, METH_VARARGS, "Write differences in steps of the codes, as float16."},
    {"keep_memory", keep_memory, METH_NOARGS, "Do not give freed memory back to the system."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "_loops", "See tfldbg.loops.", -1, methods, NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__loops(void)
{
    PyObject *const made = PyModule_Create(&module);
    if (made != NULL && (PyModule_AddType(made, &comparison_type) < 0 ||
                         PyModule_AddIntConstant(made, "VERSION", VERSION) < 0)) {
        Py_DECREF(made);
        return NULL;
    }
    return made;
}
