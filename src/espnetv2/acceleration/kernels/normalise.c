/* Batch normalisation and PReLU over M pixels of C channels, in as few passes over memory as can be, with their gradients.
 *
 * Rows are taken together until they fill whole vectors: `tile` floats hold `rows` pixels, and everything per channel is
 * repeated to that length. Pixels are cut into a number of pieces that depends on M alone, whose sums are added in their
 * order, so results do not depend on the number of threads.
 */
#include "vector.h"

#define PIECES 64

INLINE int divisor(int a, int b) {
    while (b) {
        int rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

typedef struct {
    int rows, tile;
    int64_t tiles, per_piece;
} Cut;

INLINE Cut cut(int64_t m, int c) {
    Cut t;
    t.rows = LANES / divisor(c, LANES);
    t.tile = t.rows * c;
    t.tiles = m / t.rows;
    t.per_piece = t.tiles / PIECES + 1;
    return t;
}

INLINE float *repeated(const float *values, float otherwise, int c, int tile) {
    float *out = (float *)new_vectors(tile / LANES);
    for (int i = 0; i < tile; i++) out[i] = values ? values[i % c] : otherwise;
    return out;
}

/* Add up what every piece found, lane by lane, and the last rows that fill no tile, which `rest` holds. */
INLINE void fold(double *total, const float *sums, const float *rest, int c, int tile) {
    for (int i = 0; i < c; i++) total[i] = rest[i];
    for (int p = 0; p < PIECES; p++)
        for (int i = 0; i < tile; i++) total[i % c] += sums[(size_t)p * tile + i];
}

/* Mean and biased variance of every channel. */
void espnetv2_moments(const float *x, float *mean, float *variance, int64_t m, int c, int threads) {
    Cut t = cut(m, c);
    /* Sums of differences from what a channel is like lose less than plain sums. */
    float *typical = there(calloc(c, sizeof(float)));
    for (int p = 0; p < PIECES; p++)
        for (int i = 0; i < c; i++) typical[i] += x[m * p / PIECES * c + i] / PIECES;
    float *origin = repeated(typical, 0, c, t.tile);
    float *first = there(calloc((size_t)PIECES * t.tile, sizeof(float))), *second = there(calloc((size_t)PIECES * t.tile, sizeof(float)));
    float *rest = there(calloc(2 * (size_t)c, sizeof(float)));
    double *total = there(malloc(2 * (size_t)c * sizeof(double)));
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int p = 0; p < PIECES; p++) {
        float *a = first + (size_t)p * t.tile, *b = second + (size_t)p * t.tile;
        int64_t end = (p + 1) * t.per_piece < t.tiles ? (p + 1) * t.per_piece : t.tiles;
        for (int64_t i = p * t.per_piece; i < end; i++) {
            const float *row = x + i * t.tile;
            for (int j = 0; j < t.tile; j += LANES) {
                vec d = load(row + j) - load(origin + j);
                store(a + j, load(a + j) + d);
                store(b + j, load(b + j) + d * d);
            }
        }
    }
    for (int64_t i = t.tiles * t.tile; i < m * c; i++) {
        float d = x[i] - typical[i % c];
        rest[i % c] += d;
        rest[c + i % c] += d * d;
    }
    fold(total, first, rest, c, t.tile);
    fold(total + c, second, rest + c, c, t.tile);
    for (int i = 0; i < c; i++) {
        double shift = total[i] / m, spread_ = total[c + i] / m - shift * shift;
        mean[i] = (float)(typical[i] + shift);
        variance[i] = spread_ > 0 ? (float)spread_ : 0;
        if (spread_ != spread_) variance[i] = (float)spread_;
    }
    free(typical);
    free(origin);
    free(first);
    free(second);
    free(rest);
    free(total);
}

/* y = prelu(scale * x + shift + residual); residual and slope may be null. */
void espnetv2_scale_act(
    const float *x, const float *residual, const float *scale, const float *shift, const float *slope, float *y,
    int64_t m, int c, int threads
) {
    Cut t = cut(m, c);
    float *a = repeated(scale, 1, c, t.tile), *b = repeated(shift, 0, c, t.tile), *s = repeated(slope, 1, c, t.tile);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t i = 0; i < t.tiles; i++) {
        const float *row = x + i * t.tile;
        for (int j = 0; j < t.tile; j += LANES) {
            vec z = load(row + j) * load(a + j) + load(b + j);
            if (residual) z += load(residual + i * t.tile + j);
            store(y + i * t.tile + j, choose(z > 0, z, z * load(s + j)));
        }
    }
    for (int64_t i = t.tiles * t.tile; i < m * c; i++) {
        float z = x[i] * a[i % c] + b[i % c];
        if (residual) z += residual[i];
        y[i] = z > 0 ? z : z * s[i % c];
    }
    free(a);
    free(b);
    free(s);
}

/* Sums over the pixels of: dz, dz * x, and dy * z where z <= 0, each (C); dz is the gradient before the activation. */
void espnetv2_scale_act_sums(
    const float *x, const float *residual, const float *dy, const float *scale, const float *shift, const float *slope,
    const float *mean, float *sum_dz, float *sum_dzx, float *sum_slope, int64_t m, int c, int threads
) {
    Cut t = cut(m, c);
    float *a = repeated(scale, 1, c, t.tile), *b = repeated(shift, 0, c, t.tile), *s = repeated(slope, 1, c, t.tile);
    float *u = repeated(mean, 0, c, t.tile);
    size_t size = (size_t)PIECES * t.tile;
    float *sums = there(calloc(3 * size, sizeof(float))), *rest = there(calloc(3 * (size_t)c, sizeof(float)));
    double *total = there(malloc((size_t)c * sizeof(double)));
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int p = 0; p < PIECES; p++) {
        float *first = sums + (size_t)p * t.tile, *second = first + size, *third = second + size;
        int64_t end = (p + 1) * t.per_piece < t.tiles ? (p + 1) * t.per_piece : t.tiles;
        for (int64_t i = p * t.per_piece; i < end; i++) {
            for (int j = 0; j < t.tile; j += LANES) {
                vec value = load(x + i * t.tile + j), g = load(dy + i * t.tile + j);
                vec z = value * load(a + j) + load(b + j);
                if (residual) z += load(residual + i * t.tile + j);
                vec_int positive = z > 0;
                vec dz = choose(positive, g, g * load(s + j));
                store(first + j, load(first + j) + dz);
                store(second + j, load(second + j) + dz * (value - load(u + j)));
                store(third + j, load(third + j) + choose(positive, (vec){0}, g * z));
            }
        }
    }
    for (int64_t i = t.tiles * t.tile; i < m * c; i++) {
        int k = i % c;
        float z = x[i] * a[k] + b[k] + (residual ? residual[i] : 0);
        float dz = z > 0 ? dy[i] : dy[i] * s[k];
        rest[k] += dz;
        rest[c + k] += dz * (x[i] - u[k]);
        rest[2 * c + k] += z > 0 ? 0 : dy[i] * z;
    }
    float *into[3] = {sum_dz, sum_dzx, sum_slope};
    for (int q = 0; q < 3; q++) {
        fold(total, sums + q * size, rest + q * c, c, t.tile);
        for (int i = 0; i < c; i++) into[q][i] = (float)total[i];
    }
    free(a);
    free(b);
    free(s);
    free(u);
    free(sums);
    free(rest);
    free(total);
}

/* dx = by_dz * dz + by_x * x + constant, and dres = dz where it is wanted; dx may be null. */
void espnetv2_scale_act_backward(
    const float *x, const float *residual, const float *dy, const float *scale, const float *shift, const float *slope,
    const float *by_dz, const float *by_x, const float *constant, float *dx, float *dres, int64_t m, int c, int threads
) {
    Cut t = cut(m, c);
    float *a = repeated(scale, 1, c, t.tile), *b = repeated(shift, 0, c, t.tile), *s = repeated(slope, 1, c, t.tile);
    float *k1 = repeated(by_dz, 1, c, t.tile), *k2 = repeated(by_x, 0, c, t.tile), *k3 = repeated(constant, 0, c, t.tile);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t i = 0; i < t.tiles; i++) {
        for (int j = 0; j < t.tile; j += LANES) {
            int64_t at = i * t.tile + j;
            vec value = load(x + at), g = load(dy + at);
            vec z = value * load(a + j) + load(b + j);
            if (residual) z += load(residual + at);
            vec dz = choose(z > 0, g, g * load(s + j));
            if (dres) store(dres + at, dz);
            if (dx) store(dx + at, dz * load(k1 + j) + (value * load(k2 + j) + load(k3 + j)));
        }
    }
    for (int64_t i = t.tiles * t.tile; i < m * c; i++) {
        int k = i % c;
        float z = x[i] * a[k] + b[k] + (residual ? residual[i] : 0);
        float dz = z > 0 ? dy[i] : dy[i] * s[k];
        if (dres) dres[i] = dz;
        if (dx) dx[i] = dz * k1[k] + (x[i] * k2[k] + k3[k]);
    }
    free(a);
    free(b);
    free(s);
    free(k1);
    free(k2);
    free(k3);
}
