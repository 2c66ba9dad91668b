/* A vector's worth of channels of an image as a plane of vectors, with a border of zeros; 3x3 convolutions of its rows. */
#ifndef ESPNETV2_PLANE_H
#define ESPNETV2_PLANE_H

#include "vector.h"

INLINE size_t padded(int h, int w, int pad) { return (size_t)(h + 2 * pad) * (w + 2 * pad); }

/* Read `lanes` channels of an h x w plane; pixels are `step` floats apart. */
INLINE void read_lanes(vec *out, const float *in, int h, int w, int step, int lanes, int pad, int add) {
    int width = w + 2 * pad;
    for (int y = 0; y < h; y++) {
        vec *row = out + (size_t)(y + pad) * width + pad;
        const float *from = in + (size_t)y * w * step;
        for (int x = 0; x < w; x++) {
            vec value = {0};
            memcpy(&value, from + (size_t)x * step, lanes * sizeof(float));
            row[x] = add ? row[x] + value : value;
        }
    }
}

INLINE void write_lanes(float *out, const vec *row, int w, int step, int lanes) {
    for (int x = 0; x < w; x++) memcpy(out + (size_t)x * step, row + x, lanes * sizeof(float));
}

/* A copy of a constant length is a load and a store; one of a variable length is a call. */
#define CASE(count, DO) \
    case count: DO(count); break;
#if LANES == 16
#define CASES(DO) \
    CASE(8, DO) CASE(9, DO) CASE(10, DO) CASE(11, DO) CASE(12, DO) CASE(13, DO) CASE(14, DO) CASE(15, DO)
#else
#define CASES(DO)
#endif
#define FOR_LANES(lanes, DO)                                                                                  \
    switch (lanes) {                                                                                          \
        CASE(1, DO) CASE(2, DO) CASE(3, DO) CASE(4, DO) CASE(5, DO) CASE(6, DO) CASE(7, DO) CASES(DO)         \
        default: DO(LANES);                                                                                   \
    }

INLINE void read_plane(vec *out, const float *in, int h, int w, int step, int lanes, int pad, int add) {
#define READ(count) read_lanes(out, in, h, w, step, count, pad, add)
    FOR_LANES(lanes, READ)
}

INLINE void write_row(float *out, const vec *row, int w, int step, int lanes) {
#define WRITE(count) write_lanes(out, row, w, step, count)
    FOR_LANES(lanes, WRITE)
}

/* Nine weights of `lanes` channels from weights laid out (C, 9). */
INLINE void read_weights(vec *w, const float *weights, int lanes) {
    for (int t = 0; t < 9; t++) {
        w[t] = (vec){0};
        for (int i = 0; i < lanes; i++) w[t][i] = weights[i * 9 + t];
    }
}

INLINE void convolve_row(vec *out, const vec *top, const vec *mid, const vec *low, const vec *w, int n, int stride, int d, int add) {
    for (int x = 0; x < n; x++) {
        const vec *a = top + x * stride, *b = mid + x * stride, *c = low + x * stride;
        vec left = w[0] * a[0], right = w[1] * a[d];
        left += w[2] * a[2 * d];
        right += w[3] * b[0];
        left += w[4] * b[d];
        right += w[5] * b[2 * d];
        left += w[6] * c[0];
        right += w[7] * c[d];
        left += w[8] * c[2 * d];
        out[x] = add ? out[x] + (left + right) : left + right;
    }
}

INLINE void convolve(vec *out, const vec *plane, int width, int pad, int y, int stride, int d, int n, const vec *w, int add) {
    const vec *mid = plane + (size_t)(y * stride + pad) * width + pad - d;
    const vec *top = mid - (size_t)d * width, *low = mid + (size_t)d * width;
    if (stride == 1) convolve_row(out, top, mid, low, w, n, 1, d, add);
    else convolve_row(out, top, mid, low, w, n, stride, d, add);
}

#endif
