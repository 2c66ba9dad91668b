/* The stages of an efficient pyramid pooling: depthwise 3x3 convolutions of one input, each seen at a scale of its own.
 *
 * A stage resizes the plane, convolves it and resizes it back. Rows flow through all three, so the inner plane, up to four
 * times as large as the input, exists three rows at a time. Resizing and pooling are banded maps of each axis.
 */
#include "band.h"
#include "plane.h"

typedef struct {
    int32_t plain, height, width; /* plain: no resizing; else the inner size */
    Band rows_in, columns_in;     /* input to inner, along each axis */
    Band rows_out, columns_out;   /* inner to output */
    Band columns_in_turned;       /* transposed */
    Band rows_out_turned, columns_out_turned;
} Stage;

typedef struct {
    vec *row;   /* of the input's width or of the inner one */
    vec *inner; /* three rows, padded by one pixel */
    vec *outer; /* three rows, padded by one pixel */
    vec *whole; /* inner plane after the convolution, or its gradient */
} Scratch;

static Scratch new_scratch(const Stage *stages, int count, int w) {
    int width = w;
    size_t plane = 1;
    for (int s = 0; s < count; s++) {
        if (stages[s].plain) continue;
        width = stages[s].width > width ? stages[s].width : width;
        size_t size = (size_t)stages[s].height * w;
        plane = size > plane ? size : plane;
    }
    Scratch made = {new_vectors(width + 2), new_vectors(3 * (size_t)(width + 2)), new_vectors(3 * (size_t)(width + 2)), new_vectors(plane)};
    return made;
}

static void free_scratch(Scratch s) {
    free(s.row);
    free(s.inner);
    free(s.outer);
    free(s.whole);
}

INLINE vec *ring(vec *rows, int width, int y) { return rows + (size_t)((y + 3) % 3) * (width + 2); }

/* Row y of the resized input, with its border, into its place among three; rows outside are zero. */
INLINE void inner_row(const Stage *g, const Scratch *m, const vec *plane, size_t step, int w, int y) {
    vec *to = ring(m->inner, g->width, y);
    memset(to, 0, (size_t)(g->width + 2) * sizeof(vec));
    if (y < 0 || y >= g->height) return;
    band_column(m->row, plane, step, w, &g->rows_in, y);
    band_row(to + 1, m->row, &g->columns_in);
}

static void forward(
    const Stage *g, const Scratch *m, const vec *plane, const vec *taps, float *y, int h, int w, int step, int lanes
) {
    size_t width = w + 2;
    const vec *inside = plane + width + 1;
    if (g->plain) {
        for (int oy = 0; oy < h; oy++) {
            convolve(m->row, plane, (int)width, 1, oy, 1, 1, w, taps, 0);
            write_row(y + (size_t)oy * w * step, m->row, w, step, lanes);
        }
        return;
    }
    inner_row(g, m, inside, width, w, -1);
    inner_row(g, m, inside, width, w, 0);
    /* After the convolution the rows go back to the input's width at once: that is never more than was there. */
    for (int iy = 0; iy < g->height; iy++) {
        inner_row(g, m, inside, width, w, iy + 1);
        vec *row = m->outer;
        convolve_row(row, ring(m->inner, g->width, iy - 1), ring(m->inner, g->width, iy), ring(m->inner, g->width, iy + 1),
                     taps, g->width, 1, 1, 0);
        band_row(m->whole + (size_t)iy * w, row, &g->columns_out);
    }
    for (int oy = 0; oy < h; oy++) {
        band_column(m->row, m->whole, w, w, &g->rows_out, oy);
        write_row(y + (size_t)oy * w * step, m->row, w, step, lanes);
    }
}

/* x (N, H, W, C) -> y (N, H, W, S*C); weights are (S, C, 9). */
void espnetv2_stages(
    const float *x, const float *weights, float *y, int n, int h, int w, int c, int count, const Stage *stages, int threads
) {
    int blocks = (c + LANES - 1) / LANES;
#pragma omp parallel num_threads(smaller(threads, n * blocks))
    {
        Scratch m = new_scratch(stages, count, w);
        vec *plane = new_vectors(padded(h, w, 1)), taps[9];
        memset(plane, 0, padded(h, w, 1) * sizeof(vec));
#pragma omp for schedule(static)
        for (int task = 0; task < n * blocks; task++) {
            int image = task / blocks, c0 = task % blocks * LANES, lanes = smaller(LANES, c - c0);
            read_plane(plane, x + (size_t)image * h * w * c + c0, h, w, c, lanes, 1, 0);
            for (int s = 0; s < count; s++) {
                read_weights(taps, weights + ((size_t)s * c + c0) * 9, lanes);
                forward(stages + s, &m, plane, taps, y + (size_t)image * h * w * c * count + s * c + c0, h, w, c * count, lanes);
            }
        }
        free(plane);
        free_scratch(m);
    }
}

INLINE void taps_of_row(vec *total, const vec *g, const vec *top, const vec *mid, const vec *low, int n) {
    vec sum[9] = {{0}};
    for (int x = 0; x < n; x++) {
        vec value = g[x];
        for (int t = 0; t < 3; t++) {
            sum[t] += value * top[x + t];
            sum[3 + t] += value * mid[x + t];
            sum[6 + t] += value * low[x + t];
        }
    }
    for (int t = 0; t < 9; t++) total[t] += sum[t];
}

/* Row y of the gradient at the convolution's result, with its border, into its place among three. */
INLINE void outer_row(const Stage *g, const Scratch *m, const vec *half, int w, int y) {
    vec *to = ring(m->outer, g->width, y);
    memset(to, 0, (size_t)(g->width + 2) * sizeof(vec));
    if (y >= 0 && y < g->height) band_row(to + 1, half + (size_t)y * w, &g->columns_out_turned);
}

/* grad and into are padded like plane. */
static void backward(
    const Stage *g, const Scratch *m, const vec *plane, const vec *grad, vec *into, const vec *taps, vec *total, int h, int w
) {
    size_t width = w + 2;
    const vec *inside = plane + width + 1;
    vec turned[9];
    for (int t = 0; t < 9; t++) turned[t] = taps[8 - t];
    if (g->plain) {
        for (int y = 0; y < h; y++) {
            const vec *row = plane + y * width;
            taps_of_row(total, grad + (y + 1) * width + 1, row, row + width, row + 2 * width, w);
            convolve(into + (y + 1) * width + 1, grad, (int)width, 1, y, 1, 1, w, turned, 1);
        }
        return;
    }
    for (int y = 0; y < g->height; y++)
        band_column(m->whole + (size_t)y * w, grad + width + 1, width, w, &g->rows_out_turned, y);
    for (int y = -1; y < 1; y++) {
        inner_row(g, m, inside, width, w, y);
        outer_row(g, m, m->whole, w, y);
    }
    for (int y = 0; y < g->height; y++) {
        inner_row(g, m, inside, width, w, y + 1);
        outer_row(g, m, m->whole, w, y + 1);
        const vec *above = ring(m->outer, g->width, y - 1), *here = ring(m->outer, g->width, y);
        const vec *below = ring(m->outer, g->width, y + 1);
        taps_of_row(total, here + 1, ring(m->inner, g->width, y - 1), ring(m->inner, g->width, y),
                    ring(m->inner, g->width, y + 1), g->width);
        /* The oldest inner row is not needed again, so its place serves for the gradient of row y. */
        vec *back = ring(m->inner, g->width, y - 1);
        convolve_row(back, above, here, below, turned, g->width, 1, 1, 0);
        band_row(m->row, back, &g->columns_in_turned);
        const float *weight = g->rows_in.weight + (size_t)y * g->rows_in.taps;
        for (int t = 0; t < g->rows_in.taps; t++) {
            if (weight[t] == 0) continue;
            vec *to = into + (g->rows_in.first[y] + t + 1) * width + 1, by = spread(weight[t]);
            for (int x = 0; x < w; x++) to[x] += by * m->row[x];
        }
    }
}

/* dw is (N, S, 9, C rounded up to whole vectors): the caller sums over the images. */
void espnetv2_stages_backward(
    const float *x, const float *weights, const float *dy, float *dx, float *dw,
    int n, int h, int w, int c, int count, const Stage *stages, int threads
) {
    int blocks = (c + LANES - 1) / LANES;
#pragma omp parallel num_threads(smaller(threads, n * blocks))
    {
        size_t size = padded(h, w, 1);
        Scratch m = new_scratch(stages, count, w);
        vec *plane = new_vectors(size), *grad = new_vectors(size), *into = new_vectors(size), taps[9], total[9];
        memset(plane, 0, size * sizeof(vec));
        memset(grad, 0, size * sizeof(vec));
#pragma omp for schedule(static)
        for (int task = 0; task < n * blocks; task++) {
            int image = task / blocks, c0 = task % blocks * LANES, lanes = smaller(LANES, c - c0);
            read_plane(plane, x + (size_t)image * h * w * c + c0, h, w, c, lanes, 1, 0);
            memset(into, 0, size * sizeof(vec));
            for (int s = 0; s < count; s++) {
                read_plane(grad, dy + (size_t)image * h * w * c * count + s * c + c0, h, w, c * count, lanes, 1, 0);
                read_weights(taps, weights + ((size_t)s * c + c0) * 9, lanes);
                memset(total, 0, sizeof total);
                backward(stages + s, &m, plane, grad, into, taps, total, h, w);
                for (int t = 0; t < 9; t++)
                    store(dw + (((size_t)image * count + s) * 9 + t) * blocks * LANES + c0, total[t]);
            }
            for (int y = 0; y < h; y++)
                write_row(dx + ((size_t)image * h + y) * w * c + c0, into + (size_t)(y + 1) * (w + 2) + 1, w, c, lanes);
        }
        free(plane);
        free(grad);
        free(into);
        free_scratch(m);
    }
}
