// Filters that are the same for all channels: z_m(x) = sum_j f_m(j) v(x + j), for every filter m of a bank.
// Fields are channels-last and extended by a halo, so that along the innermost axis of space a line of N points is
// one contiguous run of N C floats, and a tap is a shift of that run.
#include <algorithm>
#include <cstring>
#ifdef __AVX512F__
typedef float vec __attribute__((vector_size(64)));
#else
typedef float vec __attribute__((vector_size(32)));
#endif
constexpr long LANES = sizeof(vec) / 4, BLOCK = 4 * LANES;
static inline vec get(const float* p) { vec v; std::memcpy(&v, p, sizeof(v)); return v; }
static inline void put(float* p, vec v) { std::memcpy(p, &v, sizeof(v)); }

// z (lines, N, M, C): taps start[m] .. start[m + 1] - 1 belong to filter m; offset and base count floats of v.
extern "C" void filter_lines(long threads, long lines, long N, long C, long M, const long* base, const long* start,
                             const long* offset, const float* weight, const float* v, float* z) {
  const long run = N * C, row = M * C;
#pragma omp parallel for schedule(static) num_threads(threads)
  for (long line = 0; line < lines; line++) {
    const float* from = v + base[line];
    float* to = z + line * N * row;
    for (long q = 0; q < run; q += BLOCK) {
      const long n = std::min(BLOCK, run - q);
      for (long m = 0; m < M; m++) {
        float sum[BLOCK];
        if (n == BLOCK) {
          vec a = {}, b = {}, c = {}, d = {};
          for (long t = start[m]; t < start[m + 1]; t++) {
            const float* p = from + q + offset[t];
            const float w = weight[t];
            a += w * get(p); b += w * get(p + LANES); c += w * get(p + 2 * LANES); d += w * get(p + 3 * LANES);
          }
          put(sum, a); put(sum + LANES, b); put(sum + 2 * LANES, c); put(sum + 3 * LANES, d);
        } else {
          std::fill_n(sum, n, 0.0f);
          for (long t = start[m]; t < start[m + 1]; t++)
            for (long k = 0; k < n; k++) sum[k] += weight[t] * from[q + offset[t] + k];
        }
        // The block goes to the points that it covers, channel by channel.
        for (long k = 0; k < n;) {
          const long point = (q + k) / C, channel = (q + k) % C, many = std::min(n - k, C - channel);
          std::memcpy(to + point * row + m * C + channel, sum + k, 4 * many);
          k += many;
        }
      }
    }
  }
}
