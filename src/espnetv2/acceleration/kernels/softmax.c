/* Softmax of every pixel of (M, C), what losses make of it, and their gradients. */
#include <float.h>
#include <math.h>

#include "vector.h"

#define MOST (MOST_CLASSES / LANES) /* vectors of classes */
#define FEW 256 /* pixels */

/* e^x for x <= 0, to about 2 units in the last place; below -87 the result is 0. */
INLINE vec exponential(vec x) {
    vec_int tiny = x < -87.0f;
    x = choose(tiny, spread(-87.0f), x);
    vec shifted = x * 1.44269504f + 12582912.0f; /* 1.5 * 2^23 rounds to a whole number */
    vec_int rounded = (vec_int)shifted - 0x4B400000;
    vec n = shifted - 12582912.0f, r = x - n * 0.693359375f + n * 2.12194440e-4f;
    vec p = spread(1.9875691500e-4f);
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r + 1.0f;
    return choose(tiny, (vec){0}, p * (vec)((rounded + 127) << 23));
}

INLINE float largest(vec v) {
    float found = v[0];
    for (int i = 1; i < LANES; i++) found = v[i] > found ? v[i] : found;
    return found;
}

INLINE float total(vec v) {
    float parts[LANES];
    store(parts, v);
    for (int half = LANES / 2; half; half /= 2)
        for (int i = 0; i < half; i++) parts[i] += parts[i + half];
    return parts[0];
}

/* Exponentials of a pixel's logits less their maximum; returns the maximum, and their sum in `sum`. */
INLINE float exponentials(vec *e, const float *x, int c, float *sum) {
    int vectors = (c + LANES - 1) / LANES, rest = c - (vectors - 1) * LANES;
    vec high = spread(-INFINITY);
    for (int i = 0; i < vectors; i++) {
        if (i < vectors - 1) {
            e[i] = load(x + i * LANES);
        } else {
            e[i] = spread(-INFINITY);
            memcpy(&e[i], x + i * LANES, rest * sizeof(float));
        }
        high = choose(e[i] > high, e[i], high);
    }
    float most = largest(high);
    vec add = {0};
    for (int i = 0; i < vectors; i++) {
        e[i] = exponential(e[i] - most);
        add += e[i];
    }
    *sum = total(add);
    return most;
}

/* loss = -log softmax(x)[target], 0 where the target is `ignore`. Returns how many targets are no class. */
int64_t espnetv2_cross_entropy(const float *x, const int64_t *target, float *loss, int64_t m, int c, int ignore, int threads) {
    int64_t wrong = 0;
#pragma omp parallel for num_threads(threads) schedule(static) reduction(+ : wrong)
    for (int64_t i = 0; i < m; i++) {
        vec e[MOST];
        float sum;
        loss[i] = 0;
        if (target[i] == ignore) continue;
        if (target[i] < 0 || target[i] >= c) {
            wrong++;
            continue;
        }
        float most = exponentials(e, x + i * c, c, &sum);
        loss[i] = logf(sum) - (x[i * c + target[i]] - most);
    }
    return wrong;
}

/* dx = grad * (softmax(x) - one at the target). */
void espnetv2_cross_entropy_backward(
    const float *x, const int64_t *target, const float *grad, float *dx, int64_t m, int c, int ignore, int threads
) {
    int vectors = (c + LANES - 1) / LANES, rest = c - (vectors - 1) * LANES;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t i = 0; i < m; i++) {
        vec e[MOST];
        float sum, *to = dx + i * c;
        if (target[i] == ignore || target[i] < 0 || target[i] >= c || grad[i] == 0) {
            memset(to, 0, c * sizeof(float));
            continue;
        }
        exponentials(e, x + i * c, c, &sum);
        vec by = spread(grad[i] / sum);
        for (int v = 0; v < vectors - 1; v++) store(to + v * LANES, e[v] * by);
        vec last = e[vectors - 1] * by;
        memcpy(to + (vectors - 1) * LANES, &last, rest * sizeof(float));
        to[target[i]] -= grad[i];
    }
}

/* Sums over the pixels of each part, (parts, 3, c): for a class its probability where it is the target, its probability, and the
   pixels whose target it is. Those with the target `ignore` have no part in them. Returns how many targets are no class. */
int64_t espnetv2_overlap(
    const float *x, const int64_t *target, double *sums, int64_t m, int parts, int c, int ignore, int threads
) {
    int vectors = (c + LANES - 1) / LANES;
    int64_t wrong = 0, each = (m + parts - 1) / parts;
    memset(sums, 0, (size_t)parts * 3 * c * sizeof(double));
#pragma omp parallel for num_threads(threads) schedule(static) reduction(+ : wrong)
    for (int part = 0; part < parts; part++) {
        double *right = sums + (int64_t)part * 3 * c, *claimed = right + c, *labelled = claimed + c;
        int64_t end = (part + 1) * each < m ? (part + 1) * each : m;
        /* Few at a time in single precision, which forgets the small among the large. */
        for (int64_t first = part * each; first < end; first += FEW) {
            vec e[MOST], some[MOST] = {{0}};
            int64_t last = first + FEW < end ? first + FEW : end;
            for (int64_t i = first; i < last; i++) {
                float sum;
                if (target[i] == ignore) continue;
                if (target[i] < 0 || target[i] >= c) {
                    wrong++;
                    continue;
                }
                exponentials(e, x + i * c, c, &sum);
                vec by = spread(1 / sum);
                for (int v = 0; v < vectors; v++) some[v] += e[v] * by;
                right[target[i]] += ((const float *)e)[target[i]] / sum;
                labelled[target[i]] += 1;
            }
            for (int k = 0; k < c; k++) claimed[k] += ((const float *)some)[k];
        }
    }
    return wrong;
}

/* dx from the gradient (3, c) of the sums; that of the third is of no use. */
void espnetv2_overlap_backward(
    const float *x, const int64_t *target, const float *grad, float *dx, int64_t m, int c, int ignore, int threads
) {
    int vectors = (c + LANES - 1) / LANES, rest = c - (vectors - 1) * LANES;
    vec of_claimed[MOST] = {{0}};
    memcpy(of_claimed, grad + c, c * sizeof(float));
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t i = 0; i < m; i++) {
        vec e[MOST], mean = {0};
        float sum, *to = dx + i * c;
        if (target[i] == ignore) {
            memset(to, 0, c * sizeof(float));
            continue;
        }
        exponentials(e, x + i * c, c, &sum);
        vec by = spread(1 / sum);
        for (int v = 0; v < vectors; v++) {
            e[v] *= by;
            mean += e[v] * of_claimed[v];
        }
        float own = ((const float *)e)[target[i]] * grad[target[i]];
        vec less = spread(total(mean) + own);
        for (int v = 0; v < vectors - 1; v++) store(to + v * LANES, e[v] * (of_claimed[v] - less));
        vec end = e[vectors - 1] * (of_claimed[vectors - 1] - less);
        memcpy(to + (vectors - 1) * LANES, &end, rest * sizeof(float));
        to[target[i]] += own;
    }
}
