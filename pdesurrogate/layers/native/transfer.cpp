// Filters as transfer functions: for every mode k of a periodic grid
//   Y(k) = X(k) M(k) ,  M(k) = R(k) + sum_m f_m(k) W_m ,
// and the backward pass. R, complex, belongs to some of the modes. Matrices exist for a few modes at a time, in cache.
// Complex products are real ones of twice the rows: (X_re, -X_im; X_im, X_re) times (M_re; M_im).
#include "tiles.h"
constexpr long GROUP = 8;

// W (m, rows, columns) with rows padded, or of its transposes.
static Buffer matrices_of(const float* W, long m, long I, long O, bool transpose) {
  const long rows = transpose ? O : I, ld = padded(transpose ? I : O);
  Buffer out(m * rows * ld);
  for (long f = 0; f < m; f++)
    for (long i = 0; i < I; i++)
      for (long o = 0; o < O; o++) out[(f * rows + (transpose ? o : i)) * ld + (transpose ? i : o)] = W[(f * I + i) * O + o];
  return out;
}
// (M_re; M_im) of one mode of R added to what the filters gave.
static void add_waves(const float* R, long I, long O, bool transpose, float* M) {
  const long rows = transpose ? O : I, ld = padded(transpose ? I : O);
  float *re = M, *im = M + rows * ld;
  if (transpose) {
    for (long o = 0; o < O; o++) for (long i = 0; i < I; i++) { re[o * ld + i] += R[2 * (i * O + o)]; im[o * ld + i] += R[2 * (i * O + o) + 1]; }
  } else {
    for (long i = 0; i < I; i++) for (long o = 0; o < O; o++) { re[i * ld + o] += R[2 * (i * O + o)]; im[i * ld + o] += R[2 * (i * O + o) + 1]; }
  }
}
// Rows (x_re, s x_im) and (x_im, -s x_re) of B complex rows of n numbers.
static void both_rows(const float* x, long B, long n, float s, float* to) {
  for (long b = 0; b < B; b++) {
    float *first = to + 2 * b * n, *second = to + 2 * (B + b) * n; const float* from = x + 2 * b * n;
    for (long i = 0; i < n; i++) { const float re = from[2 * i], im = from[2 * i + 1]; first[i] = re; first[n + i] = s * im; second[i] = im; second[n + i] = -s * re; }
  }
}
static void interleave(const float* re, const float* im, long B, long n, long ld, float* to) {
  for (long b = 0; b < B; b++) for (long i = 0; i < n; i++) { to[2 * (b * n + i)] = re[b * ld + i]; to[2 * (b * n + i) + 1] = im[b * ld + i]; }
}

// f (K, 2, m); place (K) is the row of a mode in R, or -1; X (K, B, I) and Y (K, B, O) complex.
extern "C" void transfer_forward(long K, long B, long I, long O, long m, const float* f, const float* W, const long* place, const float* R, const float* X, float* Y) {
  const long P = padded(O); Buffer w = matrices_of(W, m, I, O, false);
#pragma omp parallel num_threads(threads)
  {
    Buffer M(GROUP * 2 * I * P), A(4 * B * I), C(2 * B * P), zero(I * P);
#pragma omp for schedule(static)
    for (long k0 = 0; k0 < K; k0 += GROUP) {
      const long many = std::min(GROUP, K - k0);
      gemm(2 * many, I * P, m, f + 2 * k0 * m, m, 1, w.data(), M.data(), zero.data(), 0);
      for (long k = k0; k < k0 + many; k++) {
        float* Mk = M.data() + (k - k0) * 2 * I * P;
        if (place[k] >= 0) add_waves(R + 2 * place[k] * I * O, I, O, false, Mk);
        both_rows(X + 2 * k * B * I, B, I, -1.0f, A.data());
        gemm(2 * B, P, 2 * I, A.data(), 2 * I, 1, Mk, C.data(), zero.data(), 0);
        interleave(C.data(), C.data() + B * P, B, O, P, Y + 2 * k * B * O);
      }
    }
  }
}
// dY to dX, the gradient of X; those of W (added) and R (written) where they are wanted.
extern "C" void transfer_backward(long K, long B, long I, long O, long m, const float* f, const float* W, const long* place, const float* R,
                                  const float* X, const float* dY, float* dX, float* dW, float* dR) {
  const long P = padded(O), Q = padded(I); Buffer wt = matrices_of(W, m, I, O, true);
  const long groups = (K + GROUP - 1) / GROUP, blocks = std::max(1L, std::min(16L, groups / 4)), span = (groups + blocks - 1) / blocks * GROUP;
  std::vector<Buffer> parts(blocks, Buffer(m * I * P));
#pragma omp parallel num_threads(threads)
  {
    Buffer M(GROUP * 2 * O * Q), D(GROUP * 2 * I * P), A(4 * B * I), G(2 * B * P), H(4 * B * O), C(2 * B * Q), zero(std::max(O * Q, P));
#pragma omp for schedule(static)
    for (long block = 0; block < blocks; block++)
      for (long k0 = block * span; k0 < std::min(K, (block + 1) * span); k0 += GROUP) {
        const long many = std::min(GROUP, K - k0);
        gemm(2 * many, O * Q, m, f + 2 * k0 * m, m, 1, wt.data(), M.data(), zero.data(), 0);
        for (long k = k0; k < k0 + many; k++) {
          float *Mk = M.data() + (k - k0) * 2 * O * Q, *Dk = D.data() + (k - k0) * 2 * I * P; const float* g = dY + 2 * k * B * O;
          if (place[k] >= 0) add_waves(R + 2 * place[k] * I * O, I, O, true, Mk);
          both_rows(g, B, O, 1.0f, H.data());
          gemm(2 * B, Q, 2 * O, H.data(), 2 * O, 1, Mk, C.data(), zero.data(), 0);
          interleave(C.data(), C.data() + B * Q, B, I, Q, dX + 2 * k * B * I);
          both_rows(X + 2 * k * B * I, B, I, -1.0f, A.data());
          for (long b = 0; b < B; b++) for (long o = 0; o < O; o++) { G[b * P + o] = g[2 * (b * O + o)]; G[(B + b) * P + o] = g[2 * (b * O + o) + 1]; }
          gemm(2 * I, P, 2 * B, A.data(), 1, 2 * I, G.data(), Dk, zero.data(), 0);
          if (place[k] >= 0) interleave(Dk, Dk + I * P, I, O, P, dR + 2 * place[k] * I * O);
        }
        gemm(m, I * P, 2 * many, f + 2 * k0 * m, 1, m, D.data(), parts[block].data(), parts[block].data(), I * P);
      }
  }
  for (const Buffer& part : parts)
    for (long r = 0; r < m * I; r++) for (long o = 0; o < O; o++) dW[r * O + o] += const_cast<Buffer&>(part)[r * P + o];
}
