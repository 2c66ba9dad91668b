/* Linear maps of one axis to another whose matrices are banded: resizing, pooling and their transposes. */
#ifndef ESPNETV2_BAND_H
#define ESPNETV2_BAND_H

#include "vector.h"

/* Output i is the sum over t < taps of weight[i * taps + t] * input[first[i] + t]. */
typedef struct {
    int32_t outputs, taps;
    const int32_t *first;
    const float *weight;
} Band;

INLINE void band_row_of(vec *out, const vec *in, const Band *b, int taps) {
    for (int x = 0; x < b->outputs; x++) {
        const vec *from = in + b->first[x];
        const float *weight = b->weight + (size_t)x * taps;
        vec sum = spread(weight[0]) * from[0];
        for (int t = 1; t < taps; t++) sum += spread(weight[t]) * from[t];
        out[x] = sum;
    }
}

/* Along a row. */
INLINE void band_row(vec *out, const vec *in, const Band *b) {
    switch (b->taps) {
        case 1: band_row_of(out, in, b, 1); break;
        case 2: band_row_of(out, in, b, 2); break;
        case 3: band_row_of(out, in, b, 3); break;
        case 4: band_row_of(out, in, b, 4); break;
        default: band_row_of(out, in, b, b->taps);
    }
}

/* Row `y` of the map along columns: a sum of whole rows, `step` vectors apart. */
INLINE void band_column(vec *out, const vec *in, size_t step, int width, const Band *b, int y) {
    const vec *from = in + b->first[y] * step;
    const float *weight = b->weight + (size_t)y * b->taps;
    vec w = spread(weight[0]);
    for (int x = 0; x < width; x++) out[x] = w * from[x];
    for (int t = 1; t < b->taps; t++) {
        if (weight[t] == 0) continue;
        w = spread(weight[t]);
        for (int x = 0; x < width; x++) out[x] += w * from[t * step + x];
    }
}

#endif
