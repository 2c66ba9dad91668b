/* Depthwise 3x3 convolutions on (N, H, W, C), a vector of channels at a time, with their gradients.
 *
 * A pyramid runs K of them with dilations of their own on one input; branch k of the output is the sum of the convolutions
 * 0 to k (hierarchical feature fusion). K = 1 is a plain depthwise convolution.
 * A merge runs one on each of S blocks of channels and adds the S results.
 *
 * A vector of channels of one image makes a task: it is copied into a padded plane that fits the cache, so that no border needs
 * care. Results do not depend on the number of threads.
 */
#include "plane.h"

typedef struct {
    int n, h, w, c;
    int oh, ow;
    int stride, branches, pad;
    const int *dilation;
} Shape;

static Shape shape_of(int n, int h, int w, int c, int stride, int branches, const int *dilation) {
    int pad = 1;
    for (int k = 0; k < branches; k++) pad = dilation[k] > pad ? dilation[k] : pad;
    return (Shape){n, h, w, c, (h - 1) / stride + 1, (w - 1) / stride + 1, stride, branches, pad, dilation};
}

void espnetv2_depthwise_pyramid(
    const float *x, const float *weights, float *y,
    int n, int h, int w, int c, int stride, int branches, const int *dilation, int threads
) {
    Shape s = shape_of(n, h, w, c, stride, branches, dilation);
    int blocks = (c + LANES - 1) / LANES, width = w + 2 * s.pad;
#pragma omp parallel num_threads(smaller(threads, n * blocks))
    {
        vec *plane = new_vectors(padded(h, w, s.pad)), *row = new_vectors(s.ow), *taps = new_vectors(9 * branches);
        memset(plane, 0, padded(h, w, s.pad) * sizeof(vec));
#pragma omp for schedule(static)
        for (int task = 0; task < n * blocks; task++) {
            int image = task / blocks, c0 = task % blocks * LANES, lanes = smaller(LANES, c - c0);
            read_plane(plane, x + (size_t)image * h * w * c + c0, h, w, c, lanes, s.pad, 0);
            for (int k = 0; k < branches; k++) read_weights(taps + 9 * k, weights + ((size_t)k * c + c0) * 9, lanes);
            float *out = y + (size_t)image * s.oh * s.ow * c * branches + c0;
            for (int oy = 0; oy < s.oh; oy++) {
                for (int k = 0; k < branches; k++) {
                    convolve(row, plane, width, s.pad, oy, stride, dilation[k], s.ow, taps + 9 * k, k > 0);
                    write_row(out + (size_t)oy * s.ow * c * branches + (size_t)k * c, row, s.ow, c * branches, lanes);
                }
            }
        }
        free(plane);
        free(row);
        free(taps);
    }
}

/* Sum over the pixels of gradient times input, for each of the nine taps. */
static void gradient_of_taps(vec *total, const Shape *s, const vec *grad, int grad_width, const vec *plane, int width, int d) {
    for (int oy = 0; oy < s->oh; oy++) {
        const vec *g = grad + (size_t)oy * grad_width;
        const vec *mid = plane + (size_t)(oy * s->stride + s->pad) * width + s->pad - d;
        const vec *top = mid - (size_t)d * width, *low = mid + (size_t)d * width;
        vec sum[9] = {{0}};
        for (int ox = 0; ox < s->ow; ox++) {
            vec value = g[ox];
            int at = ox * s->stride;
            for (int t = 0; t < 3; t++) {
                sum[t] += value * top[at + t * d];
                sum[3 + t] += value * mid[at + t * d];
                sum[6 + t] += value * low[at + t * d];
            }
        }
        for (int t = 0; t < 9; t++) total[t] += sum[t];
    }
}

/* Add the input's gradient where several outputs apart share it: every output spreads to its nine taps. */
static void scatter(vec *dx, const Shape *s, const vec *grad, int grad_width, int width, int d, const vec *w) {
    for (int oy = 0; oy < s->oh; oy++) {
        const vec *g = grad + (size_t)oy * grad_width;
        for (int t = 0; t < 9; t++) {
            vec *to = dx + (size_t)(oy * s->stride + s->pad + (t / 3 - 1) * d) * width + s->pad + (t % 3 - 1) * d;
            for (int ox = 0; ox < s->ow; ox++) to[ox * s->stride] += w[t] * g[ox];
        }
    }
}

/* dw is (N, K, 9, C rounded up to whole vectors): the caller sums over the images. dx may be null. */
void espnetv2_depthwise_pyramid_backward(
    const float *x, const float *weights, const float *dy, float *dx, float *dw,
    int n, int h, int w, int c, int stride, int branches, const int *dilation, int threads
) {
    Shape s = shape_of(n, h, w, c, stride, branches, dilation);
    int blocks = (c + LANES - 1) / LANES, width = w + 2 * s.pad, grad_width = s.ow + 2 * s.pad;
#pragma omp parallel num_threads(smaller(threads, n * blocks))
    {
        size_t size = padded(h, w, s.pad), grad_size = padded(s.oh, s.ow, s.pad);
        vec *plane = new_vectors(size), *into = new_vectors(size), *grad = new_vectors(grad_size);
        vec taps[9], turned[9], total[9];
        memset(plane, 0, size * sizeof(vec));
        memset(grad, 0, grad_size * sizeof(vec));
#pragma omp for schedule(static)
        for (int task = 0; task < n * blocks; task++) {
            int image = task / blocks, c0 = task % blocks * LANES, lanes = smaller(LANES, c - c0);
            read_plane(plane, x + (size_t)image * h * w * c + c0, h, w, c, lanes, s.pad, 0);
            const float *from = dy + (size_t)image * s.oh * s.ow * c * branches + c0;
            vec *inner = grad + (size_t)s.pad * grad_width + s.pad;
            memset(into, 0, size * sizeof(vec));
            /* Convolution k is part of the outputs k and up, so its gradient is the sum of theirs. */
            for (int k = branches - 1; k >= 0; k--) {
                int d = dilation[k];
                read_plane(grad, from + (size_t)k * c, s.oh, s.ow, c * branches, lanes, s.pad, k < branches - 1);
                memset(total, 0, sizeof total);
                gradient_of_taps(total, &s, inner, grad_width, plane, width, d);
                for (int t = 0; t < 9; t++)
                    store(dw + (((size_t)image * branches + k) * 9 + t) * blocks * LANES + c0, total[t]);
                if (!dx) continue;
                read_weights(taps, weights + ((size_t)k * c + c0) * 9, lanes);
                if (stride == 1) {
                    for (int t = 0; t < 9; t++) turned[t] = taps[8 - t];
                    for (int y = 0; y < h; y++)
                        convolve(into + (size_t)(y + s.pad) * width + s.pad, grad, grad_width, s.pad, y, 1, d, w, turned, 1);
                } else {
                    scatter(into, &s, inner, grad_width, width, d, taps);
                }
            }
            if (dx)
                for (int y = 0; y < h; y++)
                    write_row(
                        dx + ((size_t)image * h + y) * w * c + c0, into + (size_t)(y + s.pad) * width + s.pad, w, c, lanes);
        }
        free(plane);
        free(into);
        free(grad);
    }
}

/* x (N, H, W, S*C) -> y (N, H, W, C): block s of the channels is convolved with weights[s], laid out (S, C, 9). */
void espnetv2_depthwise_merge(
    const float *x, const float *weights, float *y, int n, int h, int w, int c, int parts, int threads
) {
    int blocks = (c + LANES - 1) / LANES, width = w + 2;
#pragma omp parallel num_threads(smaller(threads, n * blocks))
    {
        size_t size = padded(h, w, 1);
        vec *planes = new_vectors(size * parts), *row = new_vectors(w), *taps = new_vectors(9 * parts);
        memset(planes, 0, size * parts * sizeof(vec));
#pragma omp for schedule(static)
        for (int task = 0; task < n * blocks; task++) {
            int image = task / blocks, c0 = task % blocks * LANES, lanes = smaller(LANES, c - c0);
            const float *from = x + (size_t)image * h * w * c * parts + c0;
            for (int p = 0; p < parts; p++) {
                read_plane(planes + size * p, from + (size_t)p * c, h, w, c * parts, lanes, 1, 0);
                read_weights(taps + 9 * p, weights + ((size_t)p * c + c0) * 9, lanes);
            }
            for (int oy = 0; oy < h; oy++) {
                for (int p = 0; p < parts; p++) convolve(row, planes + size * p, width, 1, oy, 1, 1, w, taps + 9 * p, p > 0);
                write_row(y + ((size_t)image * h + oy) * w * c + c0, row, w, c, lanes);
            }
        }
        free(planes);
        free(row);
        free(taps);
    }
}

/* dw is (N, S, 9, C rounded up to whole vectors): the caller sums over the images. */
void espnetv2_depthwise_merge_backward(
    const float *x, const float *weights, const float *dy, float *dx, float *dw,
    int n, int h, int w, int c, int parts, int threads
) {
    const int one[1] = {1};
    Shape s = shape_of(n, h, w, c, 1, 1, one);
    int blocks = (c + LANES - 1) / LANES, width = w + 2;
#pragma omp parallel num_threads(smaller(threads, n * blocks))
    {
        size_t size = padded(h, w, 1);
        vec *plane = new_vectors(size), *grad = new_vectors(size), *row = new_vectors(w);
        vec taps[9], turned[9], total[9];
        memset(plane, 0, size * sizeof(vec));
        memset(grad, 0, size * sizeof(vec));
#pragma omp for schedule(static)
        for (int task = 0; task < n * blocks; task++) {
            int image = task / blocks, c0 = task % blocks * LANES, lanes = smaller(LANES, c - c0);
            read_plane(grad, dy + (size_t)image * h * w * c + c0, h, w, c, lanes, 1, 0);
            for (int p = 0; p < parts; p++) {
                size_t at = (size_t)image * h * w * c * parts + (size_t)p * c + c0;
                read_plane(plane, x + at, h, w, c * parts, lanes, 1, 0);
                memset(total, 0, sizeof total);
                gradient_of_taps(total, &s, grad + width + 1, width, plane, width, 1);
                for (int t = 0; t < 9; t++)
                    store(dw + (((size_t)image * parts + p) * 9 + t) * blocks * LANES + c0, total[t]);
                read_weights(taps, weights + ((size_t)p * c + c0) * 9, lanes);
                for (int t = 0; t < 9; t++) turned[t] = taps[8 - t];
                for (int y = 0; y < h; y++) {
                    convolve(row, grad, width, 1, y, 1, 1, w, turned, 0);
                    write_row(dx + at + (size_t)y * w * c * parts, row, w, c * parts, lanes);
                }
            }
        }
        free(plane);
        free(grad);
        free(row);
    }
}
