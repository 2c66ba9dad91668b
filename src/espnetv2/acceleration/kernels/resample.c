/* Banded maps of both axes of (N, H, W, C): bilinear resizing, and its gradient by the transposed bands. */
#include "band.h"

INLINE void add_scaled(float *out, const float *in, float weight, int n, int first) {
    vec w = spread(weight);
    int i = 0;
    if (first) {
        for (; i + LANES <= n; i += LANES) store(out + i, w * load(in + i));
        for (; i < n; i++) out[i] = weight * in[i];
    } else {
        for (; i + LANES <= n; i += LANES) store(out + i, load(out + i) + w * load(in + i));
        for (; i < n; i++) out[i] += weight * in[i];
    }
}

void espnetv2_resample(
    const float *x, float *y, int n, int h, int w, int c, const Band *rows, const Band *columns, int threads
) {
    int oh = rows->outputs, ow = columns->outputs;
#pragma omp parallel num_threads(smaller(threads, n * oh))
    {
        float *row = (float *)new_vectors((size_t)w * c / LANES + 1);
#pragma omp for schedule(static)
        for (int task = 0; task < n * oh; task++) {
            int image = task / oh, oy = task % oh;
            const float *from = x + ((size_t)image * h + rows->first[oy]) * w * c;
            const float *weight = rows->weight + (size_t)oy * rows->taps;
            for (int t = 0; t < rows->taps; t++)
                if (t == 0 || weight[t] != 0) add_scaled(row, from + (size_t)t * w * c, weight[t], w * c, t == 0);
            float *to = y + (size_t)task * ow * c;
            for (int ox = 0; ox < ow; ox++)
                for (int t = 0; t < columns->taps; t++) {
                    float by = columns->weight[(size_t)ox * columns->taps + t];
                    if (t == 0 || by != 0) add_scaled(to + (size_t)ox * c, row + (size_t)(columns->first[ox] + t) * c, by, c, t == 0);
                }
        }
        free(row);
    }
}
