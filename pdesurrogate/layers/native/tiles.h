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
