/* Eight floats at a time, on whatever vector unit the compiler targets. */
#ifndef ESPNETV2_VECTOR_H
#define ESPNETV2_VECTOR_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define LANES 8
#define INLINE static inline __attribute__((always_inline))

typedef float v8 __attribute__((vector_size(32)));
typedef int32_t v8i __attribute__((vector_size(32)));

INLINE v8 load(const float *p) {
    v8 v;
    memcpy(&v, p, sizeof v);
    return v;
}

INLINE void store(float *p, v8 v) { memcpy(p, &v, sizeof v); }

INLINE v8 load_some(const float *p, int lanes) {
    v8 v = {0};
    for (int i = 0; i < lanes; i++) v[i] = p[i];
    return v;
}

INLINE void store_some(float *p, v8 v, int lanes) {
    for (int i = 0; i < lanes; i++) p[i] = v[i];
}

INLINE v8 spread(float value) { return (v8){value, value, value, value, value, value, value, value}; }

/* Per lane: where ? a : b. */
INLINE v8 choose(v8i where, v8 a, v8 b) { return (v8)((where & (v8i)a) | (~where & (v8i)b)); }

INLINE int smaller(int a, int b) { return a < b ? a : b; }

/* Vectors on a boundary of 64 bytes; the caller frees them. */
INLINE v8 *new_vectors(size_t count) { return aligned_alloc(64, (count * sizeof(v8) + 63) / 64 * 64); }

#endif
