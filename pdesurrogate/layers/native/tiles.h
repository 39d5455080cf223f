// What the kernels share: vectors, zeroed memory, matrix products of rows padded to whole vectors, and the number of threads.
#pragma once
#include <algorithm>
#include <cstring>
#include <vector>
typedef float v8 __attribute__((vector_size(32)));
#ifdef __AVX512F__
typedef float vmax __attribute__((vector_size(64)));
#else
typedef v8 vmax;
#endif
constexpr long WIDEST = sizeof(vmax) / 4, ROWS = WIDEST / 2;
template <class V> static inline V get(const float* p) { V v; std::memcpy(&v, p, sizeof(V)); return v; }
template <class V> static inline void put(float* p, V v) { std::memcpy(p, &v, sizeof(V)); }
static inline long padded(long n) { return (n + 7) / 8 * 8; }
struct alignas(64) Line { float at[16]; };
struct Buffer {  // zeroed floats on cache-line boundaries
  long n; std::vector<Line> lines;
  explicit Buffer(long size) : n(size), lines((size + 15) / 16 + 1, Line{}) {}
  float* data() { return lines[0].at; }
  float& operator[](long i) { return lines[0].at[i]; }
};

// c[i][j] = from[i*rf + j] + sum_k a[i*ri + k*rk] * b[k*ld + j], R rows and N vectors of columns in registers.
template <class V, int R, int N>
static inline void cell(long K, const float* a, long ri, long rk, const float* b, float* c, long ld, const float* from, long rf) {
  constexpr int L = sizeof(V) / 4;
  V sum[R][N], w[N];
  for (int r = 0; r < R; r++) for (int n = 0; n < N; n++) sum[r][n] = get<V>(from + r * rf + n * L);
  for (long k = 0; k < K; k++) {
    for (int n = 0; n < N; n++) w[n] = get<V>(b + k * ld + n * L);
    for (int r = 0; r < R; r++) for (int n = 0; n < N; n++) sum[r][n] += (V{} + a[r * ri + k * rk]) * w[n];
  }
  for (int r = 0; r < R; r++) for (int n = 0; n < N; n++) put(c + r * ld + n * L, sum[r][n]);
}
template <class V, int N>
static void panel(long M, long K, const float* a, long ri, long rk, const float* b, float* c, long ld, const float* from, long rf) {
  long i = 0;
  for (; i + ROWS <= M; i += ROWS) cell<V, ROWS, N>(K, a + i * ri, ri, rk, b, c + i * ld, ld, from + i * rf, rf);
  for (; i + 4 <= M; i += 4) cell<V, 4, N>(K, a + i * ri, ri, rk, b, c + i * ld, ld, from + i * rf, rf);
  for (; i < M; i++) cell<V, 1, N>(K, a + i * ri, ri, rk, b, c + i * ld, ld, from + i * rf, rf);
}
// c (M, N) = from + a (M, K) b (K, N); N is a multiple of 8, a has any two strides, from is c or, with rf 0, a bias.
static void gemm(long M, long N, long K, const float* a, long ri, long rk, const float* b, float* c, const float* from, long rf) {
  long j = 0;
  for (; j + 3 * WIDEST <= N && j + 4 * WIDEST != N; j += 3 * WIDEST) panel<vmax, 3>(M, K, a, ri, rk, b + j, c + j, N, from + j, rf);
  for (; j + 2 * WIDEST <= N; j += 2 * WIDEST) panel<vmax, 2>(M, K, a, ri, rk, b + j, c + j, N, from + j, rf);
  for (; j + WIDEST <= N; j += WIDEST) panel<vmax, 1>(M, K, a, ri, rk, b + j, c + j, N, from + j, rf);
  for (; j < N; j += 8) panel<v8, 1>(M, K, a, ri, rk, b + j, c + j, N, from + j, rf);
}
#if defined(__clang__) || __GNUC__ >= 12
#define CHOOSE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define CHOOSE(a, b, ...) __builtin_shuffle(a, b, (int __attribute__((vector_size(32)))){__VA_ARGS__})
#endif
// (rows, columns) to (columns, rows), both multiples of 8: entries of pairs of rows, of fours and of eights change places.
static void transpose(long rows, long columns, const float* from, float* to) {
  for (long i = 0; i < rows; i += 8)
    for (long j = 0; j < columns; j += 8) {
      v8 a[8], b[8];
      for (long k = 0; k < 8; k++) a[k] = get<v8>(from + (i + k) * columns + j);
      for (int k = 0; k < 8; k += 2) {
        b[k] = CHOOSE(a[k], a[k + 1], 0, 8, 2, 10, 4, 12, 6, 14);
        b[k + 1] = CHOOSE(a[k], a[k + 1], 1, 9, 3, 11, 5, 13, 7, 15);
      }
      for (int k = 0; k < 8; k++) {
        const int p = k & ~2, q = k | 2;
        a[k] = k & 2 ? CHOOSE(b[p], b[q], 2, 3, 10, 11, 6, 7, 14, 15) : CHOOSE(b[p], b[q], 0, 1, 8, 9, 4, 5, 12, 13);
      }
      for (int k = 0; k < 4; k++) {
        put(to + (j + k) * rows + i, CHOOSE(a[k], a[k + 4], 0, 1, 2, 3, 8, 9, 10, 11));
        put(to + (j + k + 4) * rows + i, CHOOSE(a[k], a[k + 4], 4, 5, 6, 7, 12, 13, 14, 15));
      }
    }
}
// x Phi(x) and its derivative. Phi(x) - 1/2 and gelu'(x) - 1/2 are odd; both are fitted on |x| <= 6 by
// x times a rational function of x^2 with one denominator (minimax error 8e-8 each); beyond, 0 and 1.
// n is rounded up to whole vectors, for which scratch has room. x may be the same as value or slope.
template <bool SLOPE> static void gelu(long n, const float* from, float* value, float* slope) {
  for (long i = 0; i < n; i += WIDEST) {
    vmax x = get<vmax>(from + i), u = x * x, zero = vmax{}, one = zero + 1.0f;
    vmax p = u * 5.570509809e-10f + 2.334558048e-07f, d = u * -2.298298179e-11f + 4.951551528e-09f;
    p = (p * u + 1.375763506e-05f) * u + 3.131499104e-04f; d = (d * u - 1.311199784e-07f) * u + 3.084918804e-05f;
    p = (p * u + 5.816510292e-03f) * u + 4.452252731e-02f; d = (d * u - 1.782719089e-04f) * u + 1.452470501e-02f;
    p = p * u + 3.989418378e-01f; d = (d * u - 4.393781817e-02f) * u + 7.978843442e-01f;
    vmax q = (u * 3.352471231e-08f + 4.177561591e-06f) * u + 1.413837459e-04f;
    q = ((q * u + 2.794154202e-03f) * u + 3.596427200e-02f) * u + 2.782627081e-01f;
    vmax r = x / (q * u + 1.0f);
    put(value + i, x * (x < -6.0f ? zero : x > 6.0f ? one : 0.5f + p * r));
    if (SLOPE) put(slope + i, x < -6.0f ? zero : x > 6.0f ? one : 0.5f + d * r);
  }
}
extern int threads;
