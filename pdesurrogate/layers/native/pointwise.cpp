// The pointwise half of a Fourier layer, forward and backward, in one pass over the points each:
//   s = spec + W v + b ,  v = gelu(x) ;  o = M2 gelu(M1 a + b1) + b2 + gate * v ,  a = gelu(s) ;  y = gelu(o)
// (hidden = 0: o = s), the gelus of v, a and y each on request, and the two-layer MLP  y = D gelu(A x + a) + d.
// A tile of TILE rows is loaded, everything between lives in the cache, and only y (and s, which the backward
// pass needs) is stored. Matrices arrive as torch.nn.Linear holds them, (out, in) row-major. Gradients of
// weights are summed per block of rows and then over the blocks in order, whatever the number of threads.
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

typedef float v8 __attribute__((vector_size(32)));
#ifdef __AVX512F__
typedef float vmax __attribute__((vector_size(64)));
constexpr long ROWS = 8;
#else
typedef v8 vmax;
constexpr long ROWS = 4;
#endif
constexpr long TILE = 48, WIDEST = sizeof(vmax) / 4;
template <class V> static inline V get(const float* p) { V v; std::memcpy(&v, p, sizeof(V)); return v; }
template <class V> static inline void put(float* p, V v) { std::memcpy(p, &v, sizeof(V)); }
static inline long padded(long n) { return (n + 7) / 8 * 8; }

// c[i][j] += sum_k a[i*ri + k*rk] * b[k*ld + j] for R rows and N vectors of columns, kept in registers.
template <class V, int R, int N>
static inline void cell(long K, const float* a, long ri, long rk, const float* b, float* c, long ld) {
  constexpr int L = sizeof(V) / 4;
  V sum[R][N], w[N];
  for (int r = 0; r < R; r++) for (int n = 0; n < N; n++) sum[r][n] = get<V>(c + r * ld + n * L);
  for (long k = 0; k < K; k++) {
    for (int n = 0; n < N; n++) w[n] = get<V>(b + k * ld + n * L);
    for (int r = 0; r < R; r++) for (int n = 0; n < N; n++) sum[r][n] += (V{} + a[r * ri + k * rk]) * w[n];
  }
  for (int r = 0; r < R; r++) for (int n = 0; n < N; n++) put(c + r * ld + n * L, sum[r][n]);
}
template <class V, int N> static void panel(long M, long K, const float* a, long ri, long rk, const float* b, float* c, long ld) {
  long i = 0;
  for (; i + ROWS <= M; i += ROWS) cell<V, ROWS, N>(K, a + i * ri, ri, rk, b, c + i * ld, ld);
  for (; i + 4 <= M; i += 4) cell<V, 4, N>(K, a + i * ri, ri, rk, b, c + i * ld, ld);
  for (; i < M; i++) cell<V, 1, N>(K, a + i * ri, ri, rk, b, c + i * ld, ld);
}
// c (M, N) += a (M, K) b (K, N); N is a multiple of 8, a is read with any two strides.
static void gemm(long M, long N, long K, const float* a, long ri, long rk, const float* b, float* c) {
  long j = 0;
  for (; j + 2 * WIDEST <= N; j += 2 * WIDEST) panel<vmax, 2>(M, K, a, ri, rk, b + j, c + j, N);
  for (; j + WIDEST <= N; j += WIDEST) panel<vmax, 1>(M, K, a, ri, rk, b + j, c + j, N);
  for (; j < N; j += 8) panel<v8, 1>(M, K, a, ri, rk, b + j, c + j, N);
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

struct alignas(64) Line { float at[16]; };
struct Buffer {  // zeroed floats on cache-line boundaries
  long n; std::vector<Line> lines;
  explicit Buffer(long size) : n(size), lines((size + 15) / 16 + 1, Line{}) {}
  float* data() { return lines[0].at; }
  float& operator[](long i) { return lines[0].at[i]; }
};
// (rows, columns) into rows padded to a multiple of 8 columns; transposed on request.
static Buffer pack(const float* w, long rows, long columns, bool transpose) {
  long ld = padded(transpose ? rows : columns);
  Buffer out((transpose ? columns : rows) * ld);
  for (long i = 0; i < rows; i++) for (long j = 0; j < columns; j++) out[transpose ? j * ld + i : i * ld + j] = w[i * columns + j];
  return out;
}
static void load(const float* from, long rows, long n, float* to) {
  std::fill(to, to + rows * padded(n), 0.0f);
  for (long i = 0; i < rows; i++) std::memcpy(to + i * padded(n), from + i * n, 4 * n);
}
static void store(const float* from, long rows, long n, float* to) {
  for (long i = 0; i < rows; i++) std::memcpy(to + i * n, from + i * padded(n), 4 * n);
}
static void zero(long n, float* x) { std::fill(x, x + n, 0.0f); }
static void times(long n, const float* by, float* x) { for (long i = 0; i < n; i++) x[i] *= by[i]; }
static void spread(long T, Buffer& bias, float* to) { for (long i = 0; i < T; i++) std::copy_n(bias.data(), bias.n, to + i * bias.n); }
static void sum_rows(long T, long ld, const float* from, float* sum) {
  for (long i = 0; i < T; i++) for (long j = 0; j < ld; j++) sum[j] += from[i * ld + j];
}
static void gated(long T, Buffer& bias, Buffer& gate, const float* x, float* to) {  // bias + gate * x
  for (long i = 0; i < T; i++) for (long j = 0; j < gate.n; j++) to[i * gate.n + j] = bias[j] + gate[j] * x[i * gate.n + j];
}

static int threads = 1;
extern "C" void set_threads(int n) { threads = n; }

// Calls tile(first row, rows, scratch, partial) for all rows: `scratch` floats a thread, `partial` zeroed
// floats a block of rows; returns the sum of the partials, taken in order.
template <class F> static Buffer walk(long n, long scratch, long partial, F tile) {
  long blocks = std::max(1L, std::min(64L, n / 2048)), span = ((n + blocks - 1) / blocks + TILE - 1) / TILE * TILE;
  std::vector<Buffer> parts(blocks, Buffer(partial));
#pragma omp parallel for schedule(static) num_threads(threads)
  for (long k = 0; k < blocks; k++) {
    Buffer work(scratch); long end = std::min(n, (k + 1) * span);
    for (long i = k * span; i < end; i += TILE) tile(i, std::min(TILE, end - i), work.data(), parts[k].data());
  }
  for (long k = 1; k < blocks; k++) for (long i = 0; i < partial; i++) parts[0][i] += parts[k][i];
  return parts[0];
}
// Adds a padded (rows, columns) total to a gradient and moves on to the next one.
static const float* deliver(const float* from, long rows, long columns, float* to) {
  for (long i = 0; i < rows; i++) for (long j = 0; j < columns; j++) to[i * columns + j] += from[i * padded(columns) + j];
  return from + rows * padded(columns);
}

extern "C" void block_forward(long n, long C, long H, long on_x, long on_s, long on_o, const float* x, const float* spec, const float* W, const float* b,
                              const float* M1, const float* b1, const float* M2, const float* b2, const float* gate, float* s, float* y) {
  long P = padded(C), Q = padded(H), out = H ? C : 0;
  Buffer w = pack(W, C, C, true), m1 = pack(M1, H, C, true), m2 = pack(M2, C, H, true);
  Buffer bs = pack(b, 1, C, false), bh = pack(b1, 1, H, false), bo = pack(b2, 1, out, false), g = pack(gate, 1, out, false);
  walk(n, TILE * (3 * P + Q), 0, [&](long i, long T, float* X, float*) {
    float *S = X + TILE * P, *O = S + TILE * P, *G = O + TILE * P;
    load(x + i * C, T, C, X); load(spec + i * C, T, C, O); spread(T, bs, S); if (on_x) gelu<false>(T * P, X, X, nullptr);
    for (long j = 0; j < T * P; j++) S[j] += O[j];
    gemm(T, P, C, X, P, 1, w.data(), S);
    if (s) store(S, T, C, s + i * C);
    if (H) {
      if (on_s) gelu<false>(T * P, S, S, nullptr);
      spread(T, bh, G); gemm(T, Q, C, S, P, 1, m1.data(), G); gelu<false>(T * Q, G, G, nullptr);
      gated(T, bo, g, X, S); gemm(T, P, H, G, Q, 1, m2.data(), S);
    }
    if (on_o) gelu<false>(T * P, S, S, nullptr);
    store(S, T, C, y + i * C);
  });
}

// dy to ds (also the gradient of spec) and dv; gradients of weights are added to what is there.
extern "C" void block_backward(long n, long C, long H, long on_x, long on_s, long on_o, const float* dy, const float* x, const float* s, const float* W,
                               const float* M1, const float* b1, const float* M2, const float* b2, const float* gate, float* ds, float* dv,
                               float* dW, float* db, float* dM1, float* db1, float* dM2, float* db2, float* dgate) {
  long P = padded(C), Q = padded(H), out = H ? C : 0;
  Buffer w = pack(W, C, C, false), m1 = pack(M1, H, C, false), m2 = pack(M2, C, H, false);
  Buffer m1t = pack(M1, H, C, true), m2t = pack(M2, C, H, true), bh = pack(b1, 1, H, false), bo = pack(b2, 1, out, false), g = pack(gate, 1, out, false);
  Buffer total = walk(n, TILE * (6 * P + 3 * Q), C * P + P + H * P + Q + out * Q + 2 * padded(out), [&](long i, long T, float* X, float* pW) {
    float *A = X + TILE * P, *SA = A + TILE * P, *O = SA + TILE * P, *Y = O + TILE * P, *D = Y + TILE * P;
    float *G = D + TILE * P, *SG = G + TILE * Q, *E = SG + TILE * Q;
    float *pb = pW + C * P, *p1 = pb + P, *pb1 = p1 + H * P, *p2 = pb1 + Q, *pb2 = p2 + out * Q, *pg = pb2 + P;
    load(x + i * C, T, C, X); load(dy + i * C, T, C, Y); load(s + i * C, T, C, A); if (on_x) gelu<false>(T * P, X, X, nullptr);
    if (H ? on_s : on_o) gelu<true>(T * P, A, A, SA);
    if (H) {
      spread(T, bh, G); gemm(T, Q, C, A, P, 1, m1t.data(), G); gelu<true>(T * Q, G, G, SG);
      if (on_o) {  // o again, which is cheaper than keeping it
        gated(T, bo, g, X, O); gemm(T, P, H, G, Q, 1, m2t.data(), O); gelu<true>(T * P, O, D, O); times(T * P, O, Y);
      }
      gemm(C, Q, T, Y, 1, P, G, p2); sum_rows(T, P, Y, pb2);
      for (long t = 0; t < T; t++) for (long j = 0; j < P; j++) pg[j] += Y[t * P + j] * X[t * P + j];
      zero(T * Q, E); gemm(T, Q, C, Y, P, 1, m2.data(), E); times(T * Q, SG, E);
      gemm(H, P, T, E, 1, Q, A, p1); sum_rows(T, Q, E, pb1);
      zero(T * P, D); gemm(T, P, H, E, Q, 1, m1.data(), D);
      for (long t = 0; t < T; t++) for (long j = 0; j < P; j++) O[t * P + j] = Y[t * P + j] * g[j];
    } else { std::memcpy(D, Y, 4 * T * P); zero(T * P, O); }
    if (H ? on_s : on_o) times(T * P, SA, D);
    gemm(C, P, T, D, 1, P, X, pW); sum_rows(T, P, D, pb); gemm(T, P, C, D, P, 1, w.data(), O);
    store(D, T, C, ds + i * C); store(O, T, C, dv + i * C);
  });
  const float* from = deliver(deliver(total.data(), C, C, dW), 1, C, db);
  if (H) deliver(deliver(deliver(deliver(deliver(from, H, C, dM1), 1, H, db1), C, H, dM2), 1, C, db2), 1, C, dgate);
}

extern "C" void mlp_forward(long n, long I, long H, long O, const float* x, const float* A, const float* a, const float* D, const float* d, float* y) {
  long P = padded(I), Q = padded(H), R = padded(O);
  Buffer at = pack(A, H, I, true), dt = pack(D, O, H, true), ba = pack(a, 1, H, false), bd = pack(d, 1, O, false);
  walk(n, TILE * (P + Q + R), 0, [&](long i, long T, float* X, float*) {
    float *G = X + TILE * P, *Y = G + TILE * Q;
    load(x + i * I, T, I, X); spread(T, ba, G); gemm(T, Q, I, X, P, 1, at.data(), G); gelu<false>(T * Q, G, G, nullptr);
    spread(T, bd, Y); gemm(T, R, H, G, Q, 1, dt.data(), Y); store(Y, T, O, y + i * O);
  });
}

extern "C" void mlp_backward(long n, long I, long H, long O, const float* dy, const float* x, const float* A, const float* a, const float* D,
                             float* dx, float* dA, float* da, float* dD, float* dd) {
  long P = padded(I), Q = padded(H), R = padded(O);
  Buffer at = pack(A, H, I, true), w = pack(A, H, I, false), v = pack(D, O, H, false), ba = pack(a, 1, H, false);
  Buffer total = walk(n, TILE * (2 * P + 3 * Q + R), H * P + Q + O * Q + R, [&](long i, long T, float* X, float* pA) {
    float *Z = X + TILE * P, *G = Z + TILE * P, *S = G + TILE * Q, *E = S + TILE * Q, *Y = E + TILE * Q;
    float *pa = pA + H * P, *pD = pa + Q, *pd = pD + O * Q;
    load(x + i * I, T, I, X); load(dy + i * O, T, O, Y); spread(T, ba, G); gemm(T, Q, I, X, P, 1, at.data(), G); gelu<true>(T * Q, G, G, S);
    gemm(O, Q, T, Y, 1, R, G, pD); sum_rows(T, R, Y, pd);
    zero(T * Q, E); gemm(T, Q, O, Y, R, 1, v.data(), E); times(T * Q, S, E); gemm(H, P, T, E, 1, Q, X, pA); sum_rows(T, Q, E, pa);
    if (dx) { zero(T * P, Z); gemm(T, P, H, E, Q, 1, w.data(), Z); store(Z, T, I, dx + i * I); }
  });
  deliver(deliver(deliver(deliver(total.data(), H, I, dA), 1, H, da), O, H, dD), 1, O, dd);
}
