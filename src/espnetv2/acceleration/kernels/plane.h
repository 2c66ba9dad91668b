/* Eight channels of an image as a plane of vectors, with a border of zeros; 3x3 convolutions of its rows. */
#ifndef ESPNETV2_PLANE_H
#define ESPNETV2_PLANE_H

#include "vector.h"

INLINE size_t padded(int h, int w, int pad) { return (size_t)(h + 2 * pad) * (w + 2 * pad); }

/* Read `lanes` channels of an h x w plane; pixels are `step` floats apart. */
INLINE void read_lanes(v8 *out, const float *in, int h, int w, int step, int lanes, int pad, int add) {
    int width = w + 2 * pad;
    for (int y = 0; y < h; y++) {
        v8 *row = out + (size_t)(y + pad) * width + pad;
        const float *from = in + (size_t)y * w * step;
        for (int x = 0; x < w; x++) {
            v8 value = {0};
            memcpy(&value, from + (size_t)x * step, lanes * sizeof(float));
            row[x] = add ? row[x] + value : value;
        }
    }
}

INLINE void write_lanes(float *out, const v8 *row, int w, int step, int lanes) {
    for (int x = 0; x < w; x++) memcpy(out + (size_t)x * step, row + x, lanes * sizeof(float));
}

/* A copy of a constant length is a load and a store; one of a variable length is a call. */
#define FOR_LANES(lanes, DO) \
    switch (lanes) {         \
        case 1: DO(1); break; \
        case 2: DO(2); break; \
        case 3: DO(3); break; \
        case 4: DO(4); break; \
        case 5: DO(5); break; \
        case 6: DO(6); break; \
        case 7: DO(7); break; \
        default: DO(8);       \
    }

INLINE void read_plane(v8 *out, const float *in, int h, int w, int step, int lanes, int pad, int add) {
#define READ(count) read_lanes(out, in, h, w, step, count, pad, add)
    FOR_LANES(lanes, READ)
}

INLINE void write_row(float *out, const v8 *row, int w, int step, int lanes) {
#define WRITE(count) write_lanes(out, row, w, step, count)
    FOR_LANES(lanes, WRITE)
}

/* Nine weights of `lanes` channels from weights laid out (C, 9). */
INLINE void read_weights(v8 *w, const float *weights, int lanes) {
    for (int t = 0; t < 9; t++) {
        w[t] = (v8){0};
        for (int i = 0; i < lanes; i++) w[t][i] = weights[i * 9 + t];
    }
}

INLINE void convolve_row(v8 *out, const v8 *top, const v8 *mid, const v8 *low, const v8 *w, int n, int stride, int d, int add) {
    for (int x = 0; x < n; x++) {
        const v8 *a = top + x * stride, *b = mid + x * stride, *c = low + x * stride;
        v8 left = w[0] * a[0], right = w[1] * a[d];
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

INLINE void convolve(v8 *out, const v8 *plane, int width, int pad, int y, int stride, int d, int n, const v8 *w, int add) {
    const v8 *mid = plane + (size_t)(y * stride + pad) * width + pad - d;
    const v8 *top = mid - (size_t)d * width, *low = mid + (size_t)d * width;
    if (stride == 1) convolve_row(out, top, mid, low, w, n, 1, d, add);
    else convolve_row(out, top, mid, low, w, n, stride, d, add);
}

#endif
