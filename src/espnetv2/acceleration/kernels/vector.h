/* As many floats at a time as the vector unit that the compiler targets takes: 16 with AVX-512, else 8. */
#ifndef ESPNETV2_VECTOR_H
#define ESPNETV2_VECTOR_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef LANES
#ifdef __AVX512F__
#define LANES 16
#else
#define LANES 8
#endif
#endif
#define INLINE static inline __attribute__((always_inline))

typedef float vec __attribute__((vector_size(4 * LANES)));
typedef int32_t vec_int __attribute__((vector_size(4 * LANES)));

INLINE vec load(const float *p) {
    vec v;
    memcpy(&v, p, sizeof v);
    return v;
}

INLINE void store(float *p, vec v) { memcpy(p, &v, sizeof v); }

INLINE vec load_some(const float *p, int lanes) {
    vec v = {0};
    for (int i = 0; i < lanes; i++) v[i] = p[i];
    return v;
}

INLINE void store_some(float *p, vec v, int lanes) {
    for (int i = 0; i < lanes; i++) p[i] = v[i];
}

#define FOUR(x) x, x, x, x
#if LANES == 16
INLINE vec spread(float value) { return (vec){FOUR(value), FOUR(value), FOUR(value), FOUR(value)}; }
#else
INLINE vec spread(float value) { return (vec){FOUR(value), FOUR(value)}; }
#endif

/* Per lane: where ? a : b. */
INLINE vec choose(vec_int where, vec a, vec b) { return (vec)((where & (vec_int)a) | (~where & (vec_int)b)); }

INLINE int smaller(int a, int b) { return a < b ? a : b; }

/* Memory that is there, or the end: threads have no way back to the caller. */
static inline void *there(void *memory) {
    if (memory) return memory;
    fputs("espnetv2: error: not enough memory: make the image or the batch smaller\n", stderr);
    abort();
}

/* Vectors on a boundary of 64 bytes; the caller frees them. */
INLINE vec *new_vectors(size_t count) { return there(aligned_alloc(64, (count * sizeof(vec) + 63) / 64 * 64)); }

#endif
