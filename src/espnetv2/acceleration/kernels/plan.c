/* A whole network in one call: a list of operations on activations laid out (N, C/L, H, W, L), L lanes to a vector.
 *
 * All threads go through the list together and meet after every operation. Batch normalisation is folded into weights and
 * shifts beforehand; every operation ends with its own residual and activation, so nothing is written only to be read again
 * by the next elementwise step.
 */
#include <math.h>

#include "band.h"
#include "plane.h"

#define PIXELS 6
#define ROWS BAND_ROWS
#define CHUNK_TILES 8

#include <omp.h>

/* Rows and columns of "resize up, shift, average back" for the three shifts of a 3x3 convolution, along one axis. */
typedef struct {
    int32_t taps;
    const int32_t *first;
    const float *weight; /* (outputs, taps, 3) */
} Composite;

typedef struct {
    int32_t kind, height, width; /* 0 plain, 1 enlarging, 2 reducing with its inner size */
    Composite rows, columns;     /* of kind 1 */
    Band rows_in, columns_in, rows_out, columns_out;
    int64_t inner; /* of kind 2: where the inner planes are */
} PlanStage;

typedef struct {
    int32_t kind, n;
    int32_t h, w, oh, ow;
    int32_t in_blocks;             /* blocks of the whole input */
    int32_t out_blocks, out_first, count; /* the same of the output, and how many to make */
    int32_t res_blocks, res_first;
    int32_t stride, branches, classes;
    int64_t input, output, residual, other; /* floats into the arena; -1: none */
    const float *weight, *scale, *shift, *slope;
    const int32_t *table;
    const void *extra, *extra2;
} Op;

typedef struct {
    float *arena;
    const float *image;
    int64_t image_strides[4]; /* in floats: N, C, H, W */
    void *answer;
    int thread, threads;
    vec *scratch;
} Run;

enum { IMAGE, IMAGE_POOL, AVERAGE, POINTWISE, PYRAMID, CONVOLVE, MEAN, GATE, FUSE, INNER, STAGES, LOGITS, CLASSES, VECTOR };

INLINE vec *block_of(const Run *r, int64_t at, int blocks, int n, int b, int h, int w) {
    return (vec *)(r->arena + at) + ((size_t)n * blocks + b) * h * w;
}

INLINE vec lanes_of(const float *p, int block, float otherwise) { return p ? load(p + block * LANES) : spread(otherwise); }

INLINE vec activated(vec z, vec slope) { return choose(z > 0, z, z * slope); }

/* This thread's share of `count` pieces of work. */
INLINE void share(const Run *r, int64_t count, int64_t *from, int64_t *to) {
    *from = count * r->thread / r->threads;
    *to = count * (r->thread + 1) / r->threads;
}

INLINE void image_tile(
    const float *rows, int width, const float *w0, const float *w1, int lanes, int pixels, vec *out0, vec *out1,
    const vec *shift, const vec *slope
) {
    vec sum[PIXELS][2];
    for (int i = 0; i < pixels; i++) {
        sum[i][0] = shift[0];
        sum[i][1] = shift[1];
    }
    for (int line = 0; line < 9; line++)
        for (int t = 0; t < 3; t++) {
            const float *row = rows + line * width + t;
            vec first = load(w0 + (line * 3 + t) * lanes), second = load(w1 + (line * 3 + t) * lanes);
            for (int i = 0; i < pixels; i++) {
                vec value = spread(row[2 * i]);
                sum[i][0] += value * first;
                sum[i][1] += value * second;
            }
        }
    for (int i = 0; i < pixels; i++) {
        out0[i] = activated(sum[i][0], slope[0]);
        out1[i] = activated(sum[i][1], slope[1]);
    }
}

/* 3x3 convolution with stride 2 of the image, any strides in memory. weight is (27, lanes). */
static void image_convolution(const Run *r, const Op *o) {
    int64_t from, to, sc = r->image_strides[1], sh = r->image_strides[2], sw = r->image_strides[3];
    int lanes = o->count * LANES, width = o->w + 2;
    float *rows = (float *)r->scratch; /* nine padded rows: channel, line */
    share(r, (int64_t)o->n * o->oh, &from, &to);
    for (int64_t task = from; task < to; task++) {
        int n = (int)(task / o->oh), y = (int)(task % o->oh);
        for (int c = 0; c < 3; c++)
            for (int t = 0; t < 3; t++) {
                float *row = rows + (c * 3 + t) * width;
                int iy = 2 * y + t - 1;
                row[0] = row[width - 1] = 0;
                if (iy < 0 || iy >= o->h) memset(row, 0, width * sizeof(float));
                else {
                    const float *line = r->image + n * r->image_strides[0] + c * sc + iy * sh;
                    if (sw == 1) memcpy(row + 1, line, o->w * sizeof(float));
                    else for (int x = 0; x < o->w; x++) row[x + 1] = line[x * sw];
                }
            }
        for (int b = 0; b < o->count; b += 2) {
            int second = b + 1 < o->count ? b + 1 : b;
            vec *out0 = block_of(r, o->output, o->out_blocks, n, b, o->oh, o->ow) + (size_t)y * o->ow;
            vec *out1 = block_of(r, o->output, o->out_blocks, n, second, o->oh, o->ow) + (size_t)y * o->ow;
            const float *w0 = o->weight + b * LANES, *w1 = o->weight + second * LANES;
            vec shift[2] = {lanes_of(o->shift, b, 0), lanes_of(o->shift, second, 0)};
            vec slope[2] = {lanes_of(o->slope, b, 1), lanes_of(o->slope, second, 1)};
            int x = 0;
            for (; x + PIXELS <= o->ow; x += PIXELS) image_tile(rows + 2 * x, width, w0, w1, lanes, PIXELS, out0 + x, out1 + x, shift, slope);
            for (; x < o->ow; x++) image_tile(rows + 2 * x, width, w0, w1, lanes, 1, out0 + x, out1 + x, shift, slope);
        }
    }
}

static void image_pool(const Run *r, const Op *o) {
    int64_t from, to;
    share(r, (int64_t)o->n * o->oh, &from, &to);
    for (int64_t task = from; task < to; task++) {
        int n = (int)(task / o->oh), y = (int)(task % o->oh);
        vec *out = block_of(r, o->output, o->out_blocks, n, 0, o->oh, o->ow) + (size_t)y * o->ow;
        for (int c = 0; c < 3; c++) {
            float *sums = (float *)r->scratch + 1;
            memset(sums - 1, 0, (o->w + 3) * sizeof(float));
            for (int t = -1; t <= 1; t++) {
                int iy = 2 * y + t;
                if (iy < 0 || iy >= o->h) continue;
                const float *line = r->image + n * r->image_strides[0] + c * r->image_strides[1] + iy * r->image_strides[2];
                int64_t step = r->image_strides[3];
                if (step == 1) for (int x = 0; x < o->w; x++) sums[x] += line[x];
                else for (int x = 0; x < o->w; x++) sums[x] += line[x * step];
            }
            for (int x = 0; x < o->ow; x++)
                ((float *)(out + x))[c] = (sums[2 * x - 1] + sums[2 * x] + sums[2 * x + 1]) * (1.0f / 9);
        }
        for (int x = 0; x < o->ow; x++)
            for (int i = 3; i < LANES; i++) ((float *)(out + x))[i] = 0;
    }
}

/* 3x3 average pooling with stride 2, zeros counted; then residual and activation. */
static void average(const Run *r, const Op *o) {
    int64_t from, to;
    vec ninth = spread(1.0f / 9);
    share(r, (int64_t)o->n * o->count * o->oh, &from, &to);
    for (int64_t task = from; task < to; task++) {
        int y = (int)(task % o->oh), b = (int)(task / o->oh % o->count), n = (int)(task / o->oh / o->count);
        const vec *in = block_of(r, o->input, o->in_blocks, n, b, o->h, o->w);
        vec *out = block_of(r, o->output, o->out_blocks, n, o->out_first + b, o->oh, o->ow) + (size_t)y * o->ow;
        const vec *res = o->residual < 0 ? 0
            : block_of(r, o->residual, o->res_blocks, n, o->res_first + b, o->oh, o->ow) + (size_t)y * o->ow;
        vec slope = lanes_of(o->slope, b, 1);
        int top = 2 * y > 0 ? 2 * y - 1 : 0, bottom = 2 * y + 1 < o->h ? 2 * y + 1 : o->h - 1;
        for (int x = 0; x < o->ow; x++) {
            int left = 2 * x > 0 ? 2 * x - 1 : 0, right = 2 * x + 1 < o->w ? 2 * x + 1 : o->w - 1;
            vec sum = {0};
            for (int iy = top; iy <= bottom; iy++)
                for (int ix = left; ix <= right; ix++) sum += in[(size_t)iy * o->w + ix];
            sum *= ninth;
            if (res) sum += res[x];
            out[x] = activated(sum, slope);
        }
    }
}

INLINE void pointwise_tile(
    const vec *in, size_t plane, const float *w0, const float *w1, int k0, int k1, int pixels, int vectors,
    vec *out0, vec *out1, const vec *res0, const vec *res1, const vec *shift, const vec *slope
) {
    vec sum[PIXELS][2];
    for (int i = 0; i < pixels; i++) {
        sum[i][0] = shift[0];
        if (vectors > 1) sum[i][1] = shift[1];
    }
    const float *lanes = (const float *)in;
#define STEP(k, from)                                                                                                  \
    {                                                                                                                  \
        vec first = load(w0 + (size_t)((k) - k0) * LANES), second = vectors > 1 ? load(w1 + (size_t)((k) - k0) * LANES) : first; \
        for (int i = 0; i < pixels; i++) {                                                                             \
            vec value = spread((from)[i * LANES]);                                                                      \
            sum[i][0] += value * first;                                                                                \
            if (vectors > 1) sum[i][1] += value * second;                                                              \
        }                                                                                                              \
    }
    int k = k0;
    /* Within a block the input's lanes follow one another. */
    for (; k < k1 && k % LANES; k++) STEP(k, lanes + (size_t)(k / LANES) * plane * LANES + k % LANES)
    for (; k + LANES <= k1; k += LANES) {
        const float *from = lanes + (size_t)(k / LANES) * plane * LANES;
        /* Unrolled by hand, which the compiler keeps in registers. */
#define STEPS(j) STEP(k + j, from + j) STEP(k + j + 1, from + j + 1) STEP(k + j + 2, from + j + 2) STEP(k + j + 3, from + j + 3)
        STEPS(0) STEPS(4)
#if LANES == 16
        STEPS(8) STEPS(12)
#endif
    }
    for (; k < k1; k++) STEP(k, lanes + (size_t)(k / LANES) * plane * LANES + k % LANES)
    for (int i = 0; i < pixels; i++) {
        vec z = sum[i][0];
        if (res0) z += res0[i];
        out0[i] = activated(z, slope[0]);
        if (vectors > 1) {
            z = sum[i][1];
            if (res1) z += res1[i];
            out1[i] = activated(z, slope[1]);
        }
    }
}

/* Grouped 1x1 convolution. table holds, for every block made, the lanes [from, to) that it reads and where its weights are. */
static void pointwise(const Run *r, const Op *o) {
    int64_t from, to, plane = (int64_t)o->h * o->w, tiles = (plane + PIXELS - 1) / PIXELS;
    int64_t chunks = (tiles + CHUNK_TILES - 1) / CHUNK_TILES, chunk = (tiles + chunks - 1) / chunks;
    /* Where there are few pixels, the outputs are shared out as well. */
    int parts = o->n * chunks < 4 * r->threads ? (o->count + 3) / 4 : 1, per = parts > 1 ? 4 : o->count;
    share(r, o->n * chunks * parts, &from, &to);
    for (int64_t piece = from; piece < to; piece++) {
        int64_t task = piece % (o->n * chunks);
        int begin = (int)(piece / (o->n * chunks)) * per, end = smaller(begin + per, o->count);
        int n = (int)(task / chunks);
        int64_t start = task % chunks * chunk * PIXELS, stop = start + chunk * PIXELS < plane ? start + chunk * PIXELS : plane;
        const vec *in = block_of(r, o->input, o->in_blocks, n, 0, o->h, o->w);
        for (int b = begin; b < end;) {
            const int32_t *t = o->table + 3 * b;
            int vectors = b + 1 < end && t[0] == t[3] && t[1] == t[4] ? 2 : 1;
            const float *w0 = o->weight + t[2], *w1 = vectors > 1 ? o->weight + t[5] : w0;
            vec shift[2] = {lanes_of(o->shift, b, 0), lanes_of(o->shift, b + vectors - 1, 0)};
            vec slope[2] = {lanes_of(o->slope, b, 1), lanes_of(o->slope, b + vectors - 1, 1)};
            vec *out0 = block_of(r, o->output, o->out_blocks, n, o->out_first + b, o->h, o->w);
            const vec *res0 = o->residual < 0 ? 0 : block_of(r, o->residual, o->res_blocks, n, o->res_first + b, o->h, o->w);
            vec *out1 = out0 + plane;
            const vec *res1 = res0 ? res0 + plane : 0;
            int64_t p = start;
#define TILE(pixels, vectors)                                                                                             \
    pointwise_tile(in + p, plane, w0, w1, t[0], t[1], pixels, vectors, out0 + p, out1 + p, res0 ? res0 + p : 0,           \
                   res1 ? res1 + p : 0, shift, slope)
            if (vectors > 1) {
                for (; p + PIXELS <= stop; p += PIXELS) TILE(PIXELS, 2);
                for (; p < stop; p++) TILE(1, 2);
            } else {
                for (; p + PIXELS <= stop; p += PIXELS) TILE(PIXELS, 1);
                for (; p < stop; p++) TILE(1, 1);
            }
            b += vectors;
        }
    }
}

/* Copy rows [top, top + count) of a plane with a border of `pad` columns; rows outside are zero. */
INLINE void window(vec *to, const vec *plane, int h, int w, int top, int count, int pad) {
    int width = w + 2 * pad;
    for (int i = 0; i < count; i++) {
        vec *row = to + (size_t)i * width;
        int y = top + i;
        if (y < 0 || y >= h) {
            memset(row, 0, width * sizeof(vec));
            continue;
        }
        memset(row, 0, pad * sizeof(vec));
        memcpy(row + pad, plane + (size_t)y * w, w * sizeof(vec));
        memset(row + pad + w, 0, pad * sizeof(vec));
    }
}

/* Depthwise convolutions at several dilations, summed hierarchically, scaled, shifted, activated. weight is (K, blocks, 9, L). */
static void pyramid(const Run *r, const Op *o) {
    int64_t from, to;
    int pad = 1, bands = (o->oh + ROWS - 1) / ROWS;
    for (int k = 0; k < o->branches; k++) pad = o->table[k] > pad ? o->table[k] : pad;
    int width = o->w + 2 * pad;
    vec *row = r->scratch, *plane = r->scratch + o->ow;
    share(r, (int64_t)o->n * o->count * bands, &from, &to);
    for (int64_t task = from; task < to; task++) {
        int band = (int)(task % bands), b = (int)(task / bands % o->count), n = (int)(task / bands / o->count);
        int first = band * ROWS, last = smaller(first + ROWS, o->oh);
        const vec *in = block_of(r, o->input, o->in_blocks, n, b, o->h, o->w);
        window(plane, in, o->h, o->w, first * o->stride - pad, (last - first - 1) * o->stride + 1 + 2 * pad, pad);
        for (int y = first; y < last; y++)
            for (int k = 0; k < o->branches; k++) {
                vec taps[9];
                int made = k * o->count + b;
                for (int t = 0; t < 9; t++) taps[t] = load(o->weight + ((size_t)made * 9 + t) * LANES);
                convolve(row, plane, width, pad, y - first, o->stride, o->table[k], o->ow, taps, k > 0);
                vec scale = lanes_of(o->scale, made, 1), shift = lanes_of(o->shift, made, 0), slope = lanes_of(o->slope, made, 1);
                vec *out = block_of(r, o->output, o->out_blocks, n, o->out_first + made, o->oh, o->ow) + (size_t)y * o->ow;
                for (int x = 0; x < o->ow; x++) out[x] = activated(row[x] * scale + shift, slope);
            }
    }
}

/* `made` outputs of a vector of groups, from `ins` inputs per group; planes hold an input of as many groups. */
INLINE void groups_tile(
    const vec *rows, size_t line, size_t plane, const float *weight, int ins, int made, int pixels, vec *out, size_t out_plane,
    const vec *shift, const vec *slope
) {
    vec sum[3][4];
    for (int j = 0; j < made; j++)
        for (int i = 0; i < pixels; i++) sum[j][i] = shift[j];
    for (int k = 0; k < ins; k++)
        for (int t = 0; t < 9; t++) {
            const vec *from = rows + k * plane + t / 3 * line + t % 3;
            for (int j = 0; j < made; j++) {
                vec w = load(weight + (((size_t)j * ins + k) * 9 + t) * LANES);
                for (int i = 0; i < pixels; i++) sum[j][i] += w * from[i];
            }
        }
    for (int j = 0; j < made; j++)
        for (int i = 0; i < pixels; i++) out[j * out_plane + i] = activated(sum[j][i], slope[j]);
}

/* Grouped 3x3 convolution with stride 1, a lane for each group.
 *
 * table holds the lane of every input, (group vectors, inputs per group, L), -1 for none. Of the output, block j * vectors + v
 * holds output j of the groups in vector v. branches is the inputs per group, classes the outputs per group.
 */
static void convolution(const Run *r, const Op *o) {
    int64_t from, to, plane = (int64_t)o->h * o->w;
    int width = o->w + 2, ins = o->branches, outs = o->classes, vectors = o->count / outs, bands = (o->oh + ROWS - 1) / ROWS;
    size_t size = (size_t)(ROWS + 2) * width;
    share(r, (int64_t)o->n * vectors * bands, &from, &to);
    for (int64_t task = from; task < to; task++) {
        int band = (int)(task % bands), v = (int)(task / bands % vectors), n = (int)(task / bands / vectors);
        int first = band * ROWS, last = smaller(first + ROWS, o->oh);
        const float *in = (const float *)block_of(r, o->input, o->in_blocks, n, 0, o->h, o->w);
        for (int k = 0; k < ins; k++) {
            const int32_t *lanes = o->table + (v * ins + k) * LANES;
            const float *source[LANES];
            int straight = lanes[0] % LANES == 0;
            for (int i = 0; i < LANES; i++) {
                source[i] = lanes[i] < 0 ? 0 : in + lanes[i] / LANES * plane * LANES + lanes[i] % LANES;
                straight = straight && lanes[i] == lanes[0] + i;
            }
            vec *to_plane = r->scratch + k * size;
            for (int i = 0; i < last - first + 2; i++) {
                vec *row = to_plane + (size_t)i * width;
                int y = first + i - 1;
                row[0] = row[width - 1] = (vec){0};
                if (y < 0 || y >= o->h) {
                    memset(row, 0, width * sizeof(vec));
                } else if (straight) {
                    memcpy(row + 1, source[0] + (size_t)y * o->w * LANES, o->w * sizeof(vec));
                } else {
                    for (int j = 0; j < LANES; j++) {
                        float *lane = (float *)(row + 1) + j;
                        if (!source[j]) for (int x = 0; x < o->w; x++) lane[x * LANES] = 0;
                        else for (int x = 0; x < o->w; x++) lane[x * LANES] = source[j][((size_t)y * o->w + x) * LANES];
                    }
                }
            }
        }
        for (int y = first; y < last; y++)
            for (int j = 0; j < outs; j += 3) {
                int made = smaller(3, outs - j);
                vec shift[3] = {{0}}, slope[3] = {{0}};
                for (int i = 0; i < made; i++) {
                    shift[i] = lanes_of(o->shift, (j + i) * vectors + v, 0);
                    slope[i] = lanes_of(o->slope, (j + i) * vectors + v, 1);
                }
                const float *weight = o->weight + ((size_t)v * outs + j) * ins * 9 * LANES;
                vec *out = block_of(r, o->output, o->out_blocks, n, j * vectors + v, o->oh, o->ow) + (size_t)y * o->ow;
                const vec *rows = r->scratch + (size_t)(y - first) * width;
                int x = 0;
#define GROUPS(made, pixels) groups_tile(rows + x, width, size, weight, ins, made, pixels, out + x, vectors * plane, shift, slope)
                for (; x + 4 <= o->ow; x += 4) {
                    if (made == 3) GROUPS(3, 4);
                    else if (made == 2) GROUPS(2, 4);
                    else GROUPS(1, 4);
                }
                for (; x < o->ow; x++) GROUPS(made, 1);
            }
    }
}

/* Mean of every plane: a map of one pixel. */
static void mean(const Run *r, const Op *o) {
    int64_t from, to, plane = (int64_t)o->h * o->w;
    share(r, (int64_t)o->n * o->count, &from, &to);
    for (int64_t task = from; task < to; task++) {
        int b = (int)(task % o->count), n = (int)(task / o->count);
        const vec *in = block_of(r, o->input, o->in_blocks, n, b, o->h, o->w);
        vec total = {0};
        for (int64_t row = 0; row < o->h; row++) { /* row by row, which rounds less */
            vec part[4] = {{0}};
            int x = 0;
            for (; x + 4 <= o->w; x += 4)
                for (int i = 0; i < 4; i++) part[i] += in[row * o->w + x + i];
            for (; x < o->w; x++) part[0] += in[row * o->w + x];
            total += (part[0] + part[1]) + (part[2] + part[3]);
        }
        *block_of(r, o->output, o->out_blocks, n, b, 1, 1) = total / (float)plane;
    }
}

/* sigmoid(W m + shift) of the means. weight is (lanes in, lanes out). */
static void gate(const Run *r, const Op *o) {
    int64_t from, to;
    share(r, (int64_t)o->n * o->count, &from, &to);
    for (int64_t task = from; task < to; task++) {
        int b = (int)(task % o->count), n = (int)(task / o->count);
        const float *in = (const float *)block_of(r, o->input, o->in_blocks, n, 0, 1, 1);
        vec sum = lanes_of(o->shift, b, 0);
        for (int k = 0; k < o->in_blocks * LANES; k++)
            sum += spread(in[k]) * load(o->weight + ((size_t)k * o->count + b) * LANES);
        for (int i = 0; i < LANES; i++) sum[i] = 1 / (1 + expf(-sum[i]));
        *block_of(r, o->output, o->out_blocks, n, b, 1, 1) = sum;
    }
}

/* out = prelu(scale * (skip * gate + resized) + shift): input is the map to resize, residual the skip, other the gate. */
static void fuse(const Run *r, const Op *o) {
    int64_t from, to;
    const Band *rows = o->extra, *columns = o->extra2;
    vec *line = r->scratch;
    share(r, (int64_t)o->n * o->count * o->oh, &from, &to);
    for (int64_t task = from; task < to; task++) {
        int y = (int)(task % o->oh), b = (int)(task / o->oh % o->count), n = (int)(task / o->oh / o->count);
        const vec *in = block_of(r, o->input, o->in_blocks, n, b, o->h, o->w);
        const vec *skip = block_of(r, o->residual, o->res_blocks, n, b, o->oh, o->ow) + (size_t)y * o->ow;
        vec *out = block_of(r, o->output, o->out_blocks, n, b, o->oh, o->ow) + (size_t)y * o->ow;
        vec scale = lanes_of(o->scale, b, 1), shift = lanes_of(o->shift, b, 0), slope = lanes_of(o->slope, b, 1);
        vec by = *block_of(r, o->other, o->count, n, b, 1, 1) * scale;
        band_column(line, in, o->w, o->w, rows, y);
        for (int x = 0; x < o->ow; x++) {
            const vec *at = line + columns->first[x];
            const float *weight = columns->weight + (size_t)x * columns->taps;
            vec value = spread(weight[0]) * at[0];
            for (int t = 1; t < columns->taps; t++) value += spread(weight[t]) * at[t];
            out[x] = activated(skip[x] * by + (value * scale + shift), slope);
        }
    }
}

/* Pooled and convolved planes of the stages that reduce. weight is (S, blocks, 9, L). */
static void inner_planes(const Run *r, const Op *o) {
    int64_t from, to;
    const PlanStage *stages = o->extra;
    share(r, (int64_t)o->n * o->count * o->branches, &from, &to);
    for (int64_t task = from; task < to; task++) {
        int s = (int)(task % o->branches), b = (int)(task / o->branches % o->count), n = (int)(task / o->branches / o->count);
        const PlanStage *g = stages + s;
        if (g->kind != 2) continue;
        const vec *in = block_of(r, o->input, o->in_blocks, n, b, o->h, o->w);
        int width = g->width + 2;
        vec *row = r->scratch, *plane = r->scratch + o->w, taps[9];
        memset(plane, 0, (size_t)(g->height + 2) * width * sizeof(vec));
        for (int y = 0; y < g->height; y++) {
            band_column(row, in, o->w, o->w, &g->rows_in, y);
            band_row(plane + (size_t)(y + 1) * width + 1, row, &g->columns_in);
        }
        for (int t = 0; t < 9; t++) taps[t] = load(o->weight + (((size_t)s * o->count + b) * 9 + t) * LANES);
        vec *out = block_of(r, g->inner, o->count, n, b, g->height, g->width);
        for (int y = 0; y < g->height; y++) convolve(out + (size_t)y * g->width, plane, width, 1, y, 1, 1, g->width, taps, 0);
    }
}

/* One row of a stage that enlarges: three vertical sums, mixed by the taps, then three horizontal ones. */
INLINE void enlarging_row(vec *out, vec *mixed, const PlanStage *g, const vec *in, int w, int y, const vec *taps) {
    const Composite *rows = &g->rows, *columns = &g->columns;
    const vec *from = in + (size_t)rows->first[y] * w;
    const float *vertical = rows->weight + (size_t)y * rows->taps * 3;
    for (int x = 0; x < w; x++) {
        vec a = {0}, b = {0}, c = {0};
        for (int t = 0; t < rows->taps; t++) {
            vec value = from[(size_t)t * w + x];
            a += spread(vertical[3 * t]) * value;
            b += spread(vertical[3 * t + 1]) * value;
            c += spread(vertical[3 * t + 2]) * value;
        }
        mixed[3 * x] = taps[0] * a + taps[3] * b + taps[6] * c;
        mixed[3 * x + 1] = taps[1] * a + taps[4] * b + taps[7] * c;
        mixed[3 * x + 2] = taps[2] * a + taps[5] * b + taps[8] * c;
    }
    for (int x = 0; x < w; x++) {
        const vec *at = mixed + 3 * columns->first[x];
        const float *weight = columns->weight + (size_t)x * columns->taps * 3;
        vec first = {0}, second = {0}, third = {0};
        for (int t = 0; t < columns->taps; t++) {
            first += spread(weight[3 * t]) * at[3 * t];
            second += spread(weight[3 * t + 1]) * at[3 * t + 1];
            third += spread(weight[3 * t + 2]) * at[3 * t + 2];
        }
        out[x] = first + second + third;
    }
}

/* The stages of a pyramid pooling, normalised and activated, and their merge by a 3x3 convolution per channel.
 *
 * weight is (S, blocks, 9, L), scale/shift/slope (S, blocks, L); the merge's weights come after the stages' in each. */
static void stages_and_merge(const Run *r, const Op *o) {
    int64_t from, to;
    const PlanStage *stages = o->extra;
    int count = o->branches, width = o->w + 2, bands = (o->h + 2 * ROWS - 1) / (2 * ROWS);
    vec *rings = r->scratch, *mixed = rings + (size_t)count * 3 * width, *line = mixed + 3 * (size_t)o->w;
    share(r, (int64_t)o->n * o->count * bands, &from, &to);
    for (int64_t task = from; task < to; task++) {
        int band = (int)(task % bands), b = (int)(task / bands % o->count), n = (int)(task / bands / o->count);
        int first = band * 2 * ROWS, last = smaller(first + 2 * ROWS, o->h);
        const vec *in = block_of(r, o->input, o->in_blocks, n, b, o->h, o->w);
        vec *out = block_of(r, o->output, o->out_blocks, n, b, o->h, o->w);
        vec merge_shift = lanes_of(o->shift, count * o->count + b, 0), merge_slope = lanes_of(o->slope, count * o->count + b, 1);
        for (int y = first - 1; y <= last; y++) {
            for (int s = 0; s < count; s++) {
                const PlanStage *g = stages + s;
                vec *ring = rings + ((size_t)s * 3 + (y + 3) % 3) * width, *row = ring + 1, taps[9];
                ring[0] = ring[width - 1] = (vec){0};
                if (y < 0 || y >= o->h) {
                    memset(row, 0, o->w * sizeof(vec));
                    continue;
                }
                int made = s * o->count + b;
                for (int t = 0; t < 9; t++) taps[t] = load(o->weight + ((size_t)made * 9 + t) * LANES);
                if (g->kind == 0) {
                    /* Three padded input rows, then the plain convolution. */
                    window(mixed, in, o->h, o->w, y - 1, 3, 1);
                    convolve_row(row, mixed, mixed + width, mixed + 2 * width, taps, o->w, 1, 1, 0);
                } else if (g->kind == 1) {
                    enlarging_row(row, mixed, g, in, o->w, y, taps);
                } else {
                    const vec *inner = block_of(r, g->inner, o->count, n, b, g->height, g->width);
                    band_column(line, inner, g->width, g->width, &g->rows_out, y);
                    band_row(row, line, &g->columns_out);
                }
                vec scale = lanes_of(o->scale, made, 1), shift = lanes_of(o->shift, made, 0), slope = lanes_of(o->slope, made, 1);
                for (int x = 0; x < o->w; x++) row[x] = activated(row[x] * scale + shift, slope);
            }
            if (y <= first) continue;
            int middle = y - 1;
            vec *to_row = out + (size_t)middle * o->w;
            for (int s = 0; s < count; s++) {
                vec taps[9];
                int made = (count + s) * o->count + b;
                for (int t = 0; t < 9; t++) taps[t] = load(o->weight + ((size_t)made * 9 + t) * LANES);
                const vec *ring = rings + (size_t)s * 3 * width;
                convolve_row(to_row, ring + (size_t)((middle + 2) % 3) * width, ring + (size_t)(middle % 3) * width,
                             ring + (size_t)((middle + 1) % 3) * width, taps, o->w, 1, 1, s > 0);
            }
            for (int x = 0; x < o->w; x++) to_row[x] = activated(to_row[x] + merge_shift, merge_slope);
        }
    }
}

/* Resize to the answer's size as float (N, classes, H, W). */
static void logits(const Run *r, const Op *o) {
    int64_t from, to;
    const Band *rows = o->extra, *columns = o->extra2;
    float *answer = r->answer;
    vec *line = r->scratch;
    share(r, (int64_t)o->n * o->in_blocks * o->oh, &from, &to);
    for (int64_t task = from; task < to; task++) {
        int y = (int)(task % o->oh), b = (int)(task / o->oh % o->in_blocks), n = (int)(task / o->oh / o->in_blocks);
        int lanes = smaller(LANES, o->classes - b * LANES);
        band_column(line, block_of(r, o->input, o->in_blocks, n, b, o->h, o->w), o->w, o->w, rows, y);
        float *out = answer + (((size_t)n * o->classes + b * LANES) * o->oh + y) * o->ow;
        size_t step = (size_t)o->oh * o->ow;
        for (int x = 0; x < o->ow; x++) {
            const vec *at = line + columns->first[x];
            const float *weight = columns->weight + (size_t)x * columns->taps;
            vec value = spread(weight[0]) * at[0];
            for (int t = 1; t < columns->taps; t++) value += spread(weight[t]) * at[t];
            for (int i = 0; i < lanes; i++) out[i * step + x] = value[i];
        }
    }
}

#if defined(__clang__) || __GNUC__ >= 12
#define SHUFFLED(v, type, ...) __builtin_shufflevector(v, v, __VA_ARGS__)
#else
#define SHUFFLED(v, type, ...) __builtin_shuffle(v, (type){__VA_ARGS__})
#endif

INLINE vec_int choose_int(vec_int where, vec_int a, vec_int b) { return (where & a) | (~where & b); }

/* Resize and keep the class with the largest logit, as bytes (N, H, W). `stride` is how many classes can win. */
static void classes(const Run *r, const Op *o) {
    int64_t from, to;
    const Band *rows = o->extra, *columns = o->extra2;
    int blocks = o->in_blocks, winners = o->stride;
    uint8_t *answer = r->answer;
    vec *line = r->scratch;
    vec_int index;
    for (int i = 0; i < LANES; i++) index[i] = i;
    share(r, (int64_t)o->n * o->oh, &from, &to);
    for (int64_t task = from; task < to; task++) {
        int y = (int)(task % o->oh), n = (int)(task / o->oh);
        int used = (winners + LANES - 1) / LANES;
        for (int b = 0; b < used; b++)
            band_column(line + (size_t)b * o->w, block_of(r, o->input, blocks, n, b, o->h, o->w), o->w, o->w, rows, y);
        vec_int in_last = index < winners - (used - 1) * LANES;
        for (int x = 0; x < o->ow; x++) {
            const float *weight = columns->weight + (size_t)x * columns->taps;
            vec best = {0};
            vec_int which = {0};
            for (int b = 0; b < used; b++) {
                const vec *at = line + (size_t)b * o->w + columns->first[x];
                vec value = spread(weight[0]) * at[0];
                for (int t = 1; t < columns->taps; t++) value += spread(weight[t]) * at[t];
                if (b == used - 1) value = choose(in_last, value, spread(-INFINITY));
                if (b == 0) {
                    best = value;
                    which = index;
                } else {
                    vec_int more = value > best;
                    best = choose(more, value, best);
                    which = choose_int(more, index + b * LANES, which);
                }
            }
            /* Halve until one is left; of equals the smaller class stays. */
#define HALVE(...)                                                                          \
    {                                                                                       \
        vec other = SHUFFLED(best, vec_int, __VA_ARGS__);                                        \
        vec_int others = SHUFFLED(which, vec_int, __VA_ARGS__);                                     \
        vec_int more = (other > best) | ((other == best) & (others < which));                   \
        best = choose(more, other, best);                                                   \
        which = choose_int(more, others, which);                                          \
    }
#if LANES == 16
            HALVE(8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7)
            HALVE(4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11)
            HALVE(2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13)
            HALVE(1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14)
#else
            HALVE(4, 5, 6, 7, 0, 1, 2, 3)
            HALVE(2, 3, 0, 1, 6, 7, 4, 5)
            HALVE(1, 0, 3, 2, 5, 4, 7, 6)
#endif
            answer[((size_t)n * o->oh + y) * o->ow + x] = (uint8_t)which[0];
        }
    }
}

/* Lanes of a map of one pixel as the answer, float (N, classes). */
static void vector(const Run *r, const Op *o) {
    if (r->thread) return;
    for (int n = 0; n < o->n; n++)
        memcpy((float *)r->answer + (size_t)n * o->classes, block_of(r, o->input, o->in_blocks, n, 0, 1, 1), o->classes * sizeof(float));
}

static void perform(const Run *r, const Op *o) {
    switch (o->kind) {
        case IMAGE: image_convolution(r, o); break;
        case IMAGE_POOL: image_pool(r, o); break;
        case AVERAGE: average(r, o); break;
        case POINTWISE: pointwise(r, o); break;
        case PYRAMID: pyramid(r, o); break;
        case CONVOLVE: convolution(r, o); break;
        case MEAN: mean(r, o); break;
        case GATE: gate(r, o); break;
        case FUSE: fuse(r, o); break;
        case INNER: inner_planes(r, o); break;
        case STAGES: stages_and_merge(r, o); break;
        case LOGITS: logits(r, o); break;
        case CLASSES: classes(r, o); break;
        case VECTOR: vector(r, o); break;
    }
}

/* scratch holds `scratch_size` vectors for each thread; times, if not null, receives the seconds of every operation. */
void espnetv2_plan(
    const Op *ops, int count, float *arena, const float *image, const int64_t *image_strides, void *answer,
    float *scratch, int64_t scratch_size, double *times, int threads
) {
#pragma omp parallel num_threads(threads)
    {
        Run r = {.arena = arena, .image = image, .answer = answer, .thread = omp_get_thread_num(), .threads = omp_get_num_threads()};
        memcpy(r.image_strides, image_strides, sizeof r.image_strides);
        r.scratch = (vec *)scratch + scratch_size * r.thread;
        for (int i = 0; i < count; i++) {
            double start = times ? omp_get_wtime() : 0;
            perform(&r, ops + i);
#pragma omp barrier
            if (times && r.thread == 0) times[i] = omp_get_wtime() - start;
        }
    }
}

int espnetv2_lanes(void) { return LANES; }
