// Layers on the amplitudes of waves, channels last and C a multiple of 8: products with one matrix a wave,
//   s[k, b, o] = sum_i v[k, b, i] W[k, i, o] ,
// and with one matrix an axis and channel, along an axis of m waves,
//   y[.., j, .., c] = keep * r[.., j, .., c] + sum_i a[.., i, .., c] S[c, i, j] ,  a = gelu(x) or x .
// The numbers of the second are vectors of channels, so that amplitudes stay as they lie; S, which is small, is repacked.
// A tile of all m waves at POINTS positions beside the axis, a cache line of channels each or half of one, is gathered and
// worked on. Gradients of S are summed per chunk of tiles and then over the chunks in order, whatever the number of threads.
#include "tiles.h"
constexpr long POINTS = 16, MOST_CHUNKS = 16;
namespace {
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

}  // namespace
// v (K, B, I), W (K, I, O) to s (K, B, O).
extern "C" void wave_products_forward(long K, long B, long I, long O, const float* v, const float* W, float* s) {
  Buffer none(O);
#pragma omp parallel for schedule(static) num_threads(threads)
  for (long k = 0; k < K; k++) gemm(B, O, I, v + k * B * I, I, 1, W + k * I * O, s + k * B * O, none.data(), 0);
}
// ds (K, B, O) to dv = keep * r + ds W^T and dW, either of which may be null: it is not wanted.
extern "C" void wave_products_backward(long K, long B, long I, long O, float keep, const float* v, const float* W, const float* ds,
                                       const float* r, float* dv, float* dW) {
#pragma omp parallel num_threads(threads)
  {
    Buffer turned(O * I), none(O), from(B * I);
#pragma omp for schedule(static)
    for (long k = 0; k < K; k++) {
      const float *w = W + k * I * O, *d = ds + k * B * O, *rest = r + k * B * I;
      if (dW) gemm(I, O, B, v + k * B * I, 1, I, d, dW + k * I * O, none.data(), 0);
      if (!dv) continue;
      transpose(I, O, w, turned.data());
      for (long n = 0; n < B * I; n += 8) put(&from[n], keep * get<v8>(rest + n));
      gemm(B, I, O, d, O, 1, turned.data(), dv + k * B * I, from.data(), I);
    }
  }
}

namespace {
struct Axis {  // x is (outer, m, inner, C); positions are pairs of outer and inner
  long outer, m, inner, C;
  long positions() const { return outer * inner; }
  long at(long p) const { return (p / inner * m * inner + p % inner) * C; }
  long tiles() const { return (positions() + POINTS - 1) / POINTS; }
};
// Keeps a vector in a register where the compiler would read it again with every product.
#ifdef __AVX__
#define HOLD(x) asm("" : "+x"(x))
#else
#define HOLD(x)
#endif
// A tile is P vectors of channels, a cache line, at POINTS positions: (m, POINTS, P, lanes).
template <class V, int P> struct Tile {
  static constexpr long LANES = sizeof(V) / 4, CHANNELS = P * LANES, ROW = POINTS * CHANNELS;
  // The channels from c on at the positions from p on; zeros for what is missing.
  static void gather(const Axis& a, long p, long c, const float* x, float* to) {
    for (long n = 0; n < POINTS; n++) {
      const float* from = p + n < a.positions() ? x + a.at(p + n) + c : nullptr;
      for (long i = 0; i < a.m; i++)
        for (long k = 0; k < CHANNELS; k += LANES)
          put(to + i * ROW + n * CHANNELS + k, from ? get<V>(from + i * a.inner * a.C + k) : V{});
    }
  }
  // ... and back, with keep * r added.
  static void scatter(const Axis& a, long p, long c, const float* from, const float* r, float keep, float* y) {
    for (long n = 0; n < POINTS && p + n < a.positions(); n++) {
      const long start = a.at(p + n) + c;
      for (long j = 0; j < a.m; j++)
        for (long k = 0; k < CHANNELS; k += LANES) {
          const long at = start + j * a.inner * a.C + k;
          V sum = get<V>(from + j * ROW + n * CHANNELS + k);
          put(y + at, r ? sum + keep * get<V>(r + at) : sum);
        }
    }
  }
  // S (C, m, m) from i to j, as (C / LANES, i, j, LANES), or j and i exchanged.
  static void pack(long C, long m, const float* S, bool exchange, float* to) {
    for (long c = 0; c < C; c += LANES)
      for (long i = 0; i < m; i++)
        for (long j = 0; j < m; j++)
          for (long l = 0; l < LANES; l++) *to++ = S[((c + l) * m + (exchange ? j : i)) * m + (exchange ? i : j)];
  }
  // y[j, n] = sum_i S[i, j] x[i, n].
  template <int J> static void mix_rows(long m, const float* S, const float* x, float* y) {
    constexpr int N = 4;
    for (long n = 0; n < ROW; n += N * CHANNELS) {
      V sum[J][N] = {}, w[J];
      for (long i = 0; i < m; i++) {
        for (int j = 0; j < J; j++) { w[j] = get<V>(S + (i * m + j) * LANES); HOLD(w[j]); }
        for (int k = 0; k < N; k++) {
          V a = get<V>(x + i * ROW + n + k * CHANNELS);
          HOLD(a);
          for (int j = 0; j < J; j++) sum[j][k] += w[j] * a;
        }
      }
      for (int j = 0; j < J; j++) for (int k = 0; k < N; k++) put(y + j * ROW + n + k * CHANNELS, sum[j][k]);
    }
  }
  static void mix(long m, const float* S, const float* x, float* y) {
    for (int part = 0; part < P; part++, S += m * m * LANES, x += LANES, y += LANES) {
      long j = 0;
      for (; j + 2 <= m; j += 2) mix_rows<2>(m, S + j * LANES, x, y + j * ROW);
      if (j < m) mix_rows<1>(m, S + j * LANES, x, y + j * ROW);
    }
  }
  // G[i, j] += sum_n x[i, n] d[j, n].
  template <int R, int N> static void outer_cell(const float* x, const float* d, float* G, long m) {
    V sum[R][N], a[R];
    for (int r = 0; r < R; r++) for (int k = 0; k < N; k++) sum[r][k] = get<V>(G + (r * m + k) * LANES);
    for (long n = 0; n < ROW; n += CHANNELS) {
      for (int r = 0; r < R; r++) { a[r] = get<V>(x + r * ROW + n); HOLD(a[r]); }
      for (int k = 0; k < N; k++) {
        V b = get<V>(d + k * ROW + n);
        HOLD(b);
        for (int r = 0; r < R; r++) sum[r][k] += a[r] * b;
      }
    }
    for (int r = 0; r < R; r++) for (int k = 0; k < N; k++) put(G + (r * m + k) * LANES, sum[r][k]);
  }
  template <int R> static void outer_rows(long m, const float* x, const float* d, float* G) {
    long j = 0;
    for (; j + 4 <= m; j += 4) outer_cell<R, 4>(x, d + j * ROW, G + j * LANES, m);
    for (; j < m; j++) outer_cell<R, 1>(x, d + j * ROW, G + j * LANES, m);
  }
  static void outer(long m, const float* x, const float* d, float* G) {
    for (int part = 0; part < P; part++, G += m * m * LANES, x += LANES, d += LANES) {
      long i = 0;
      for (; i + 2 <= m; i += 2) outer_rows<2>(m, x + i * ROW, d, G + i * m * LANES);
      if (i < m) outer_rows<1>(m, x + i * ROW, d, G + i * m * LANES);
    }
  }
};
// Calls body(first position, first channel, chunk, scratch) for all tiles; a chunk of some channels is one thread's.
template <class F> static void walk_tiles(const Axis& a, long channels, long chunks, long scratch, F body) {
#pragma omp parallel num_threads(threads)
  {
    Buffer work(scratch);
#pragma omp for collapse(2) schedule(static)
    for (long k = 0; k < chunks; k++)
      for (long c = 0; c < a.C; c += channels)
        for (long t = k * a.tiles() / chunks; t < (k + 1) * a.tiles() / chunks; t++) body(t * POINTS, c, k, work.data());
  }
}

template <class T> static void forward(const Axis& a, bool activate, float keep, const float* x, const float* S, const float* r, float* y) {
  const long m = a.m, size = m * T::ROW;
  Buffer packed(a.C * m * m);
  T::pack(a.C, m, S, false, packed.data());
  walk_tiles(a, T::CHANNELS, a.tiles(), 2 * size, [&](long p, long c, long, float* X) {
    float* Y = X + size;
    T::gather(a, p, c, x, X);
    if (activate) gelu<false>(size, X, X, nullptr);
    T::mix(m, &packed[c * m * m], X, Y);
    T::scatter(a, p, c, Y, r, keep, y);
  });
}
template <class T> static void backward(const Axis& a, bool activate, const float* x, const float* S, const float* d, float* dx, float* dS) {
  const long m = a.m, size = m * T::ROW, matrices = a.C * m * m, L = T::LANES;
  const long chunks = std::max(1L, std::min(MOST_CHUNKS, a.tiles() / 6));
  Buffer packed(matrices), parts(dS ? chunks * matrices : 1);
  T::pack(a.C, m, S, true, packed.data());
  walk_tiles(a, T::CHANNELS, chunks, 4 * size, [&](long p, long c, long chunk, float* X) {
    float *slope = X + size, *D = slope + size, *Y = D + size;
    T::gather(a, p, c, x, X); T::gather(a, p, c, d, D);
    if (activate) gelu<true>(size, X, X, slope);
    T::mix(m, &packed[c * m * m], D, Y);
    if (activate) for (long k = 0; k < size; k += 8) put(Y + k, get<v8>(Y + k) * get<v8>(slope + k));
    if (dS) T::outer(m, X, D, &parts[chunk * matrices + c * m * m]);
    T::scatter(a, p, c, Y, nullptr, 0, dx);
  });
  if (!dS) return;
  for (long k = 1; k < chunks; k++) for (long n = 0; n < matrices; n += 8) put(&parts[n], get<v8>(&parts[n]) + get<v8>(&parts[k * matrices + n]));
  for (long c = 0; c < a.C; c += L)
    for (long ij = 0; ij < m * m; ij++) for (long l = 0; l < L; l++) dS[(c + l) * m * m + ij] = parts[c * m * m + ij * L + l];
}
constexpr long LINE = 16;
typedef Tile<vmax, LINE / WIDEST> Lines;
typedef Tile<v8, 1> Halves;  // where channels are no whole lines

}  // namespace
// x, r, y (outer, m, inner, C), S (C, m, m); r may be null.
extern "C" void wave_mixing_forward(long outer, long m, long inner, long C, long activate, float keep, const float* x, const float* S,
                                    const float* r, float* y) {
  const Axis a{outer, m, inner, C};
  if (C % LINE == 0) forward<Lines>(a, activate, keep, x, S, r, y); else forward<Halves>(a, activate, keep, x, S, r, y);
}
// From the gradient d of y to those of x and S; dS may be null: it is not wanted.
extern "C" void wave_mixing_backward(long outer, long m, long inner, long C, long activate, const float* x, const float* S,
                                     const float* d, float* dx, float* dS) {
  const Axis a{outer, m, inner, C};
  if (C % LINE == 0) backward<Lines>(a, activate, x, S, d, dx, dS); else backward<Halves>(a, activate, x, S, d, dx, dS);
}
