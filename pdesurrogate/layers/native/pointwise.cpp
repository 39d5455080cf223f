// The pointwise half of a Fourier layer, forward and backward, in one pass over the points each:
//   s = spec + W v + b ,  y = M2 gelu(M1 a + b1) + b2 + gate * v ,  a = gelu(s) or, in the last layer, s ,
// and the two-layer MLP  y = D gelu(A x + a) + d. The backward pass starts from u with v = gelu(u) or u.
// A tile of TILE rows is loaded, everything between lives in the cache, and only y (and s, which the backward
// pass needs) is stored. Matrices arrive as torch.nn.Linear holds them, (out, in) row-major. Gradients of
// weights are summed per block of rows and then over the blocks in order, whatever the number of threads.
#include "tiles.h"
constexpr long TILE = 48;
static void affine(long M, long N, long K, const float* a, Buffer& w, Buffer& bias, float* c) {
  gemm(M, N, K, a, padded(K), 1, w.data(), c, bias.data(), 0);
}
static void gather(long M, long N, long T, const float* a, const float* b, float* c) { gemm(M, N, T, a, 1, padded(M), b, c, c, N); }

// (rows, columns) into rows padded to a multiple of 8 columns; transposed on request.
static Buffer pack(const float* w, long rows, long columns, bool transpose) {
  long ld = padded(transpose ? rows : columns);
  Buffer out((transpose ? columns : rows) * ld);
  for (long i = 0; i < rows; i++) for (long j = 0; j < columns; j++) out[transpose ? j * ld + i : i * ld + j] = w[i * columns + j];
  return out;
}
// Copies T rows of n floats; where the new rows are longer, zeros fill them up to a multiple of 8.
static void copy(const float* from, long old_row, float* to, long new_row, long T, long n) {
  long whole = n / 8 * 8;
  if (old_row == new_row) { std::memcpy(to, from, 4 * T * n); return; }
  for (long i = 0; i < T; i++, from += old_row, to += new_row) {
    if (new_row > n) put(to + whole, v8{});
    for (long j = 0; j < whole; j += 8) put(to + j, get<v8>(from + j));
    for (long j = whole; j < n; j++) to[j] = from[j];
  }
}
static void times(long n, const float* by, float* x) { for (long i = 0; i < n; i++) x[i] *= by[i]; }
// bias + gate * x in every row, and the sum over rows of x, or of x times by.
static void gated(long T, Buffer& bias, Buffer& gate, const float* x, float* to) {
  for (long j = 0; j < gate.n; j += 8) {
    v8 b = get<v8>(&bias[j]), g = get<v8>(&gate[j]);
    for (long k = j; k < T * gate.n; k += gate.n) put(to + k, b + g * get<v8>(x + k));
  }
}
static void sum_rows(long T, long ld, const float* x, const float* by, float* sum) {
  for (long j = 0; j < ld; j += 8) {
    v8 total = get<v8>(sum + j);
    for (long k = j; k < T * ld; k += ld) total += by ? get<v8>(x + k) * get<v8>(by + k) : get<v8>(x + k);
    put(sum + j, total);
  }
}
int threads = 1;
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

extern "C" void block_forward(long n, long C, long H, long on_s, const float* v, const float* spec, const float* W, const float* b,
                              const float* M1, const float* b1, const float* M2, const float* b2, const float* gate, float* s, float* y) {
  long P = padded(C), Q = padded(H);
  Buffer w = pack(W, C, C, true), m1 = pack(M1, H, C, true), m2 = pack(M2, C, H, true), one(P);
  Buffer bs = pack(b, 1, C, false), bh = pack(b1, 1, H, false), bo = pack(b2, 1, C, false), g = pack(gate, 1, C, false);
  std::fill_n(one.data(), P, 1.0f);
  walk(n, TILE * (3 * P + Q), 0, [&](long i, long T, float* V, float*) {
    float *S = V + TILE * P, *O = S + TILE * P, *G = O + TILE * P;
    copy(v + i * C, C, V, P, T, C); copy(spec + i * C, C, O, P, T, C);
    gated(T, bs, one, O, S); gemm(T, P, C, V, P, 1, w.data(), S, S, P);
    if (s) copy(S, P, s + i * C, C, T, C);
    if (on_s) gelu<false>(T * P, S, S, nullptr);
    affine(T, Q, C, S, m1, bh, G); gelu<false>(T * Q, G, G, nullptr);
    gated(T, bo, g, V, S); gemm(T, P, H, G, Q, 1, m2.data(), S, S, P);
    copy(S, P, y + i * C, C, T, C);
  });
}

// dy to ds (also the gradient of spec) and dv; gradients of weights are added to what is there.
extern "C" void block_backward(long n, long C, long H, long on_u, long on_s, const float* dy, const float* u, const float* s, const float* W,
                               const float* M1, const float* b1, const float* M2, const float* gate, float* ds, float* dv,
                               float* dW, float* db, float* dM1, float* db1, float* dM2, float* db2, float* dgate) {
  long P = padded(C), Q = padded(H);
  Buffer w = pack(W, C, C, false), m1 = pack(M1, H, C, false), m2 = pack(M2, C, H, false), m1t = pack(M1, H, C, true);
  Buffer bh = pack(b1, 1, H, false), g = pack(gate, 1, C, false), none(std::max(P, Q));
  Buffer total = walk(n, TILE * (6 * P + 3 * Q), C * P + P + H * P + Q + C * Q + 2 * P, [&](long i, long T, float* V, float* pW) {
    float *A = V + TILE * P, *SA = A + TILE * P, *O = SA + TILE * P, *Y = O + TILE * P, *D = Y + TILE * P;
    float *G = D + TILE * P, *SG = G + TILE * Q, *E = SG + TILE * Q;
    float *pb = pW + C * P, *p1 = pb + P, *pb1 = p1 + H * P, *p2 = pb1 + Q, *pb2 = p2 + C * Q, *pg = pb2 + P;
    copy(u + i * C, C, V, P, T, C); copy(dy + i * C, C, Y, P, T, C); copy(s + i * C, C, A, P, T, C);
    if (on_u) gelu<false>(T * P, V, V, nullptr);
    if (on_s) gelu<true>(T * P, A, A, SA);
    affine(T, Q, C, A, m1t, bh, G); gelu<true>(T * Q, G, G, SG);
    gather(C, Q, T, Y, G, p2); sum_rows(T, P, Y, nullptr, pb2); sum_rows(T, P, Y, V, pg);
    affine(T, Q, C, Y, m2, none, E); times(T * Q, SG, E);
    gather(H, P, T, E, A, p1); sum_rows(T, Q, E, nullptr, pb1);
    affine(T, P, H, E, m1, none, D); gated(T, none, g, Y, O);
    if (on_s) times(T * P, SA, D);
    gather(C, P, T, D, V, pW); sum_rows(T, P, D, nullptr, pb); gemm(T, P, C, D, P, 1, w.data(), O, O, P);
    copy(D, P, ds + i * C, C, T, C); copy(O, P, dv + i * C, C, T, C);
  });
  const float* from = deliver(deliver(total.data(), C, C, dW), 1, C, db);
  deliver(deliver(deliver(deliver(deliver(from, H, C, dM1), 1, H, db1), C, H, dM2), 1, C, db2), 1, C, dgate);
}

extern "C" void mlp_forward(long n, long I, long H, long O, const float* x, const float* A, const float* a, const float* D, const float* d, float* y) {
  long P = padded(I), Q = padded(H), R = padded(O);
  Buffer at = pack(A, H, I, true), dt = pack(D, O, H, true), ba = pack(a, 1, H, false), bd = pack(d, 1, O, false);
  walk(n, TILE * (P + Q + R), 0, [&](long i, long T, float* X, float*) {
    float *G = X + TILE * P, *Y = G + TILE * Q;
    copy(x + i * I, I, X, P, T, I); affine(T, Q, I, X, at, ba, G); gelu<false>(T * Q, G, G, nullptr);
    affine(T, R, H, G, dt, bd, Y); copy(Y, R, y + i * O, O, T, O);
  });
}

extern "C" void mlp_backward(long n, long I, long H, long O, const float* dy, const float* x, const float* A, const float* a, const float* D,
                             float* dx, float* dA, float* da, float* dD, float* dd) {
  long P = padded(I), Q = padded(H), R = padded(O);
  Buffer at = pack(A, H, I, true), w = pack(A, H, I, false), v = pack(D, O, H, false), ba = pack(a, 1, H, false), none(std::max(P, Q));
  Buffer total = walk(n, TILE * (2 * P + 3 * Q + R), H * P + Q + O * Q + R, [&](long i, long T, float* X, float* pA) {
    float *Z = X + TILE * P, *G = Z + TILE * P, *S = G + TILE * Q, *E = S + TILE * Q, *Y = E + TILE * Q;
    float *pa = pA + H * P, *pD = pa + Q, *pd = pD + O * Q;
    copy(x + i * I, I, X, P, T, I); copy(dy + i * O, O, Y, R, T, O); affine(T, Q, I, X, at, ba, G); gelu<true>(T * Q, G, G, S);
    gather(O, Q, T, Y, G, pD); sum_rows(T, R, Y, nullptr, pd);
    affine(T, Q, O, Y, v, none, E); times(T * Q, S, E); gather(H, P, T, E, X, pA); sum_rows(T, Q, E, nullptr, pa);
    if (dx) { affine(T, P, H, E, w, none, Z); copy(Z, P, dx + i * I, I, T, I); }
  });
  deliver(deliver(deliver(deliver(total.data(), H, I, dA), 1, H, da), O, H, dD), 1, O, dd);
}
