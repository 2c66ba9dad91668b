/* Grouped 1x1 convolutions over M pixels as products of small matrices, with their gradients.
 *
 * The channels of a pixel are B blocks of `in` inputs and `out` outputs; weights are (B, in, out rounded up to whole vectors).
 */
#include "vector.h"

#define HEIGHT PANEL_ROWS
#define CHUNK 128

INLINE int whole(int n) { return (n + LANES - 1) / LANES; }

/* `rows` pixels by `vectors` (1 or 2) vectors of outputs. */
INLINE void product(
    const float *x, int x_step, const float *w, int w_step, float *y, int y_step, int in, int rows, int vectors, int lanes
) {
    vec sum[HEIGHT][2];
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < vectors; v++) sum[r][v] = (vec){0};
    for (int i = 0; i < in; i++) {
        vec first = load(w + (size_t)i * w_step), second = vectors > 1 ? load(w + (size_t)i * w_step + LANES) : first;
        for (int r = 0; r < rows; r++) {
            vec value = spread(x[(size_t)r * x_step + i]);
            sum[r][0] += value * first;
            if (vectors > 1) sum[r][1] += value * second;
        }
    }
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < vectors; v++) {
            int left = lanes - v * LANES;
            if (left >= LANES) store(y + (size_t)r * y_step + v * LANES, sum[r][v]);
            else store_some(y + (size_t)r * y_step + v * LANES, sum[r][v], left);
        }
}

void espnetv2_pointwise(const float *x, const float *w, float *y, int64_t m, int blocks, int in, int out, int threads) {
    int w_step = whole(out) * LANES, x_step = blocks * in, y_step = blocks * out;
    int64_t chunks = (m + CHUNK - 1) / CHUNK;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t chunk = 0; chunk < chunks; chunk++) {
        int64_t start = chunk * CHUNK, end = start + CHUNK < m ? start + CHUNK : m;
        for (int b = 0; b < blocks; b++) {
            for (int j = 0; j < out; j += 2 * LANES) {
                const float *weights = w + (size_t)b * in * w_step + j;
                int lanes = out - j, wide = lanes > LANES;
                int64_t r = start;
                for (; r + HEIGHT <= end; r += HEIGHT) {
                    const float *from = x + r * x_step + b * in;
                    float *to = y + r * y_step + b * out + j;
                    if (wide) product(from, x_step, weights, w_step, to, y_step, in, HEIGHT, 2, lanes);
                    else product(from, x_step, weights, w_step, to, y_step, in, HEIGHT, 1, lanes);
                }
                for (; r < end; r++) {
                    const float *from = x + r * x_step + b * in;
                    float *to = y + r * y_step + b * out + j;
                    if (wide) product(from, x_step, weights, w_step, to, y_step, in, 1, 2, lanes);
                    else product(from, x_step, weights, w_step, to, y_step, in, 1, 1, lanes);
                }
            }
        }
    }
}

/* Columns [from, from + width) of `rows` pixels, one pixel after another; what lies beyond `columns` is zero. */
static void pack(float *to, const float *x, int step, int rows, int from, int width, int columns) {
    int have = smaller(width, columns - from);
    for (int r = 0; r < rows; r++) {
        for (int i = 0; i < have; i++) to[(size_t)r * width + i] = x[(size_t)r * step + from + i];
        for (int i = have; i < width; i++) to[(size_t)r * width + i] = 0;
    }
}

INLINE void outer(const float *x, const float *dy, int rows, float *dw, int w_step, int height, int vectors) {
    vec sum[HEIGHT][2];
    for (int i = 0; i < height; i++)
        for (int v = 0; v < vectors; v++) sum[i][v] = load(dw + (size_t)i * w_step + v * LANES);
    for (int r = 0; r < rows; r++) {
        vec first = load(dy + (size_t)r * vectors * LANES);
        vec second = vectors > 1 ? load(dy + (size_t)r * vectors * LANES + LANES) : first;
        for (int i = 0; i < height; i++) {
            vec value = spread(x[(size_t)r * HEIGHT + i]);
            sum[i][0] += value * first;
            if (vectors > 1) sum[i][1] += value * second;
        }
    }
    for (int i = 0; i < height; i++)
        for (int v = 0; v < vectors; v++) store(dw + (size_t)i * w_step + v * LANES, sum[i][v]);
}

/* dw is (PARTS, B, in rounded up to whole panels, out rounded up to whole vectors), of zeros: the caller sums over the parts. */
void espnetv2_pointwise_weights(
    const float *x, const float *dy, float *dw, int64_t m, int blocks, int in, int out, int threads
) {
    int panels = (in + HEIGHT - 1) / HEIGHT, w_step = whole(out) * LANES, x_step = blocks * in, y_step = blocks * out;
    int64_t chunks = (m + CHUNK - 1) / CHUNK;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int part = 0; part < PARTS; part++) {
        float *xs = (float *)new_vectors((size_t)CHUNK * panels * HEIGHT / LANES + 1);
        float *ys = (float *)new_vectors((size_t)CHUNK * whole(out));
        for (int64_t chunk = chunks * part / PARTS; chunk < chunks * (part + 1) / PARTS; chunk++) {
            int64_t start = chunk * CHUNK;
            int rows = (int)(m - start < CHUNK ? m - start : CHUNK);
            for (int b = 0; b < blocks; b++) {
                float *into = dw + ((size_t)part * blocks + b) * panels * HEIGHT * w_step;
                for (int p = 0; p < panels; p++)
                    pack(xs + (size_t)p * CHUNK * HEIGHT, x + start * x_step + b * in, x_step, rows, p * HEIGHT, HEIGHT, in);
                for (int j = 0; j < w_step; j += 2 * LANES) {
                    int vectors = smaller(2, (w_step - j) / LANES);
                    pack(ys, dy + start * y_step + b * out, y_step, rows, j, vectors * LANES, out);
                    for (int p = 0; p < panels; p++) {
                        const float *from = xs + (size_t)p * CHUNK * HEIGHT;
                        float *to = into + (size_t)p * HEIGHT * w_step + j;
                        if (vectors > 1) outer(from, ys, rows, to, w_step, HEIGHT, 2);
                        else outer(from, ys, rows, to, w_step, HEIGHT, 1);
                    }
                }
            }
        }
        free(xs);
        free(ys);
    }
}
