// Truncated transforms of periodic axes by FFTs on channels-last fields, forward and inverse, and so their adjoints.
// Fields are (batch, N_d, N_1, .., C), real; spectra (mode, batch, C), complex, half axis first. Along an axis, LANES
// neighbouring numbers go through one transform together, so that all arithmetic is on whole vectors: real numbers of
// the half axis in pairs, as real and imaginary parts. Within a sample all axes are done before the next one is read.
#include <cmath>
#include "tiles.h"
constexpr long LANES = 2 * WIDEST;

// exp(-2 pi i j / n), and the factors of n.
struct Axis {
  long n; std::vector<long> radices; std::vector<float> re, im;
  explicit Axis(long size) : n(size), re(size), im(size) {
    for (long j = 0; j < n; j++) { double a = -2 * M_PI * j / n; re[j] = std::cos(a); im[j] = std::sin(a); }
    for (long rest = n, r = 4; rest > 1; r = r == 4 ? 2 : r == 2 ? 3 : r + 2)
      while (rest % r == 0) { radices.push_back(r); rest /= r; }
  }
};
struct Complex { vmax re, im; };
static inline Complex load(const float* re, const float* im) { return {get<vmax>(re), get<vmax>(im)}; }
static inline void store(Complex z, float wr, float wi, float* re, float* im) {
  put(re, z.re * wr - z.im * wi); put(im, z.re * wi + z.im * wr);
}
static inline Complex operator+(Complex a, Complex b) { return {a.re + b.re, a.im + b.im}; }
static inline Complex operator-(Complex a, Complex b) { return {a.re - b.re, a.im - b.im}; }
static inline Complex clockwise(Complex a) { return {a.im, -a.re}; }  // times -i

// One pass of Stockham's algorithm: products of r numbers far apart, twiddled, go side by side; `run` numbers at a time.
static void pass(const Axis& axis, long r, long m, long s, const float* xr, const float* xi, float* yr, float* yi) {
  const long run = s * LANES, far = m * run, unit = axis.n / r;
  for (long p = 0; p < m; p++, xr += run, xi += run, yr += r * run, yi += r * run) {
    const float* wr = axis.re.data(); const float* wi = axis.im.data();
    const long w = p * s;  // its multiples below r stay below n
    if (r == 4) {
      const float ar = wr[w], ai = wi[w], br = wr[2 * w], bi = wi[2 * w], cr = wr[3 * w], ci = wi[3 * w];
      for (long q = 0; q < run; q += WIDEST) {
        Complex a = load(xr + q, xi + q), b = load(xr + q + far, xi + q + far);
        Complex c = load(xr + q + 2 * far, xi + q + 2 * far), d = load(xr + q + 3 * far, xi + q + 3 * far);
        Complex e = a + c, f = a - c, g = b + d, h = clockwise(b - d), sum = e + g;
        put(yr + q, sum.re); put(yi + q, sum.im);
        store(f + h, ar, ai, yr + q + run, yi + q + run);
        store(e - g, br, bi, yr + q + 2 * run, yi + q + 2 * run);
        store(f - h, cr, ci, yr + q + 3 * run, yi + q + 3 * run);
      }
    } else if (r == 2) {
      const float ar = wr[w], ai = wi[w];
      for (long q = 0; q < run; q += WIDEST) {
        Complex a = load(xr + q, xi + q), b = load(xr + q + far, xi + q + far), sum = a + b;
        put(yr + q, sum.re); put(yi + q, sum.im);
        store(a - b, ar, ai, yr + q + run, yi + q + run);
      }
    } else {
      for (long j = 0; j < r; j++)
        for (long q = 0; q < run; q += WIDEST) {
          Complex sum = load(xr + q, xi + q);
          for (long k = 1; k < r; k++) {
            const long turn = j * k % r * unit;
            Complex a = load(xr + q + k * far, xi + q + k * far);
            sum.re += a.re * wr[turn] - a.im * wi[turn]; sum.im += a.re * wi[turn] + a.im * wr[turn];
          }
          store(sum, wr[w * j], wi[w * j], yr + j * run + q, yi + j * run + q);
        }
    }
  }
}
// n rows of LANES complex numbers in `from`, with the sign of analysis; returns whichever of both memories has the result.
struct Rows { float *re, *im; };
static Rows transform(const Axis& axis, Rows from, Rows other) {
  long m = axis.n, s = 1;
  for (long r : axis.radices) {
    m /= r;
    pass(axis, r, m, s, from.re, from.im, other.re, other.im);
    s *= r; std::swap(from, other);
  }
  return from;
}
static inline Rows conjugate(Rows rows) { return {rows.im, rows.re}; }  // up to a factor that the way back takes away
static inline Rows inverse(const Axis& axis, Rows from, Rows other) {
  return conjugate(transform(axis, conjugate(from), conjugate(other)));
}
// Copies some numbers of a row, and zeros up to LANES.
static inline void fetch(const float* from, long some, float* to) {
  if (some == LANES) { put(to, get<vmax>(from)); put(to + WIDEST, get<vmax>(from + WIDEST)); return; }
  std::fill_n(to, LANES, 0.0f);
  if (some > 0) std::memcpy(to, from, 4 * some);
}
static inline void deposit(const float* from, long some, float* to) {
  if (some == LANES) { put(to, get<vmax>(from)); put(to + WIDEST, get<vmax>(from + WIDEST)); return; }
  if (some > 0) std::memcpy(to, from, 4 * some);
}
static inline long place(long j, long kept, long n) { return j < (kept + 1) / 2 ? j : n - kept + j; }

// One sample between its field and its modes; `scale_self` belongs to the mean and Nyquist modes of the half axis.
struct Sample {
  long dims, C; const long *grid, *kept; std::vector<Axis>& axes; float scale_self, scale_pair;
  std::vector<long> inner;  // numbers behind an index of each axis, after the axes before it became modes
  Buffer memory, spectrum; long plane;
  Sample(long d, long channels, const long* n, const long* k, std::vector<Axis>& a, float self, float pair)
      : dims(d), C(channels), grid(n), kept(k), axes(a), scale_self(self), scale_pair(pair), inner(d),
        memory(4 * LANES * largest(d, n)), spectrum(0), plane(0) {
    for (long axis = 0; axis < d; axis++) {
      inner[axis] = C; for (long later = axis + 1; later < d; later++) inner[axis] *= grid[later];
    }
    long done = 1;
    for (long axis = 0; axis < d; axis++) { done *= kept[axis]; plane = std::max(plane, done * inner[axis]); }
    spectrum = Buffer(2 * plane);
  }
  static long largest(long d, const long* n) { long most = 1; for (long i = 0; i < d; i++) most = std::max(most, n[i]); return most; }
  float scale(long k) const { return k == 0 || 2 * k == grid[0] ? scale_self : scale_pair; }
  Rows rows(long which) { const long size = LANES * largest(dims, grid); return {memory.data() + 2 * which * size, memory.data() + (2 * which + 1) * size}; }
  Rows planes() { return {spectrum.data(), spectrum.data() + plane}; }

  void analyse_half(const float* u, Rows to) {
    const long n = grid[0], K = kept[0], width = inner[0];
    for (long q = 0; q < width; q += 2 * LANES) {
      Rows x = rows(0);
      const long a = std::min(LANES, width - q), b = std::min(LANES, width - q - a);
      for (long j = 0; j < n; j++) { fetch(u + j * width + q, a, x.re + j * LANES); fetch(u + j * width + q + a, b, x.im + j * LANES); }
      Rows z = transform(axes[0], x, rows(1));
      alignas(64) float out[4 * LANES];
      for (long k = 0; k < K; k++) {
        const long back = (n - k) % n; const float half = 0.5f * scale(k);
        for (long l = 0; l < LANES; l += WIDEST) {
          Complex p = load(z.re + k * LANES + l, z.im + k * LANES + l), r = load(z.re + back * LANES + l, z.im + back * LANES + l);
          put(out + l, (p.re + r.re) * half); put(out + LANES + l, (p.im - r.im) * half);
          put(out + 2 * LANES + l, (p.im + r.im) * half); put(out + 3 * LANES + l, (r.re - p.re) * half);
        }
        float *re = to.re + k * width + q, *im = to.im + k * width + q;
        deposit(out, a, re); deposit(out + LANES, a, im); deposit(out + 2 * LANES, b, re + a); deposit(out + 3 * LANES, b, im + a);
      }
    }
  }
  void synthesise_half(Rows from, float* u, bool add) {
    const long n = grid[0], K = kept[0], width = inner[0];
    for (long q = 0; q < width; q += 2 * LANES) {
      Rows x = rows(0);
      const long a = std::min(LANES, width - q), b = std::min(LANES, width - q - a);
      std::fill_n(x.re, n * LANES, 0.0f); std::fill_n(x.im, n * LANES, 0.0f);
      alignas(64) float in[4 * LANES];
      for (long k = 0; k < K; k++) {
        const float *re = from.re + k * width + q, *im = from.im + k * width + q;
        fetch(re, a, in); fetch(im, a, in + LANES); fetch(re + a, b, in + 2 * LANES); fetch(im + a, b, in + 3 * LANES);
        const long back = (n - k) % n; const float by = scale(k), odd = back == k ? 0.0f : by;
        for (long l = 0; l < LANES; l += WIDEST) {
          vmax ar = get<vmax>(in + l) * by, ai = get<vmax>(in + LANES + l) * odd, br = get<vmax>(in + 2 * LANES + l) * by, bi = get<vmax>(in + 3 * LANES + l) * odd;
          put(x.re + back * LANES + l, ar + bi); put(x.im + back * LANES + l, br - ai);
          put(x.re + k * LANES + l, ar - bi); put(x.im + k * LANES + l, ai + br);
        }
      }
      Rows z = inverse(axes[0], x, rows(1));
      for (long j = 0; j < n; j++) {
        float *first_of = u + j * width + q, *second_of = first_of + a;
        if (add) {
          for (long l = 0; l < a; l++) first_of[l] += z.re[j * LANES + l];
          for (long l = 0; l < b; l++) second_of[l] += z.im[j * LANES + l];
        } else { deposit(z.re + j * LANES, a, first_of); deposit(z.im + j * LANES, b, second_of); }
      }
    }
  }
  // A full axis, in place: `outer` blocks of (n, inner) become blocks of (kept, inner), or the other way round, in an
  // order in which what grows or shrinks meets only what was read before.
  void full(long axis, bool forward, Rows at) {
    long outer = 1; for (long before = 0; before < axis; before++) outer *= kept[before];
    const long n = grid[axis], K = kept[axis], width = inner[axis], in = forward ? n : K, out = forward ? K : n;
    for (long block = 0; block < outer; block++) {
      const long o = forward ? block : outer - 1 - block;
      for (long q = 0; q < width; q += LANES) {
        const long some = std::min(LANES, width - q); Rows x = rows(0);
        if (in < n) { std::fill_n(x.re, n * LANES, 0.0f); std::fill_n(x.im, n * LANES, 0.0f); }
        for (long j = 0; j < in; j++) {
          const long i = (o * in + j) * width + q, row = place(j, in, n) * LANES;
          fetch(at.re + i, some, x.re + row); fetch(at.im + i, some, x.im + row);
        }
        Rows z = forward ? transform(axes[axis], x, rows(1)) : inverse(axes[axis], x, rows(1));
        for (long j = 0; j < out; j++) {
          const long i = (o * out + j) * width + q, row = place(j, out, n) * LANES;
          deposit(z.re + row, some, at.re + i); deposit(z.im + row, some, at.im + i);
        }
      }
    }
  }
};
static std::vector<Axis> axes_of(long d, const long* grid) { std::vector<Axis> axes; for (long i = 0; i < d; i++) axes.emplace_back(grid[i]); return axes; }
static long modes_of(long d, const long* kept) { long modes = 1; for (long i = 0; i < d; i++) modes *= kept[i]; return modes; }
static long points_of(long d, const long* grid) { return modes_of(d, grid); }

// u (batch, *grid, C) to u_hat, whose modes lie `stride` complex numbers apart and whose samples C.
extern "C" void fft_analyse(long d, long batch, long C, long stride, float self, float pair, const long* grid, const long* kept, const float* u, float* u_hat) {
  std::vector<Axis> axes = axes_of(d, grid); const long modes = modes_of(d, kept), points = points_of(d, grid);
#pragma omp parallel num_threads(threads)
  {
    Sample sample(d, C, grid, kept, axes, self, pair);
#pragma omp for schedule(static)
    for (long b = 0; b < batch; b++) {
      Rows now = sample.planes();
      sample.analyse_half(u + b * points * C, now);
      for (long axis = 1; axis < d; axis++) sample.full(axis, true, now);
      for (long k = 0; k < modes; k++) {
        float* to = u_hat + 2 * (k * stride + b * C); const float *re = now.re + k * C, *im = now.im + k * C;
        for (long c = 0; c < C; c++) { to[2 * c] = re[c]; to[2 * c + 1] = im[c]; }
      }
    }
  }
}
extern "C" void fft_synthesise(long d, long batch, long C, long stride, float self, float pair, long add, const long* grid, const long* kept, const float* u_hat, float* u) {
  std::vector<Axis> axes = axes_of(d, grid); const long modes = modes_of(d, kept), points = points_of(d, grid);
#pragma omp parallel num_threads(threads)
  {
    Sample sample(d, C, grid, kept, axes, self, pair);
#pragma omp for schedule(static)
    for (long b = 0; b < batch; b++) {
      Rows now = sample.planes();
      for (long k = 0; k < modes; k++) {
        const float* from = u_hat + 2 * (k * stride + b * C); float *re = now.re + k * C, *im = now.im + k * C;
        for (long c = 0; c < C; c++) { re[c] = from[2 * c]; im[c] = from[2 * c + 1]; }
      }
      for (long axis = d - 1; axis > 0; axis--) sample.full(axis, false, now);
      sample.synthesise_half(now, u + b * points * C, add);
    }
  }
}
