// match and match_guided against the CPU: f32, int8 and rounded sums to the bit, with ties and zero rows; bf16 tensor
// cores within the bound that is stated below.
#include <cmath>
#include <vector>

#include "core/backend.h"
#include "core/rng.h"
#include "device.h"
#include "match/match_device.h"

using namespace fastretina;
using namespace fastretina::test;

namespace {

// Unit rows; every seventh copies another row (ties), one is zero. Moving rows are noisy fixed ones.
std::vector<float> rows_like(const std::vector<float>& model, int count, int dims, std::uint64_t seed) {
  std::vector<float> rows(static_cast<std::size_t>(count * dims));
  for (int i = 0; i < count; ++i) {
    float* row = rows.data() + i * dims;
    double norm = 0;
    for (int k = 0; k < dims; ++k) {
      const auto at = static_cast<std::uint64_t>(i * dims + k);
      row[k] = static_cast<float>(random_below(random_bits(seed, 1, at), 20001)) / 10000 - 1;
      const std::size_t from = static_cast<std::size_t>(at * 13 % std::max<std::size_t>(model.size(), 1));
      if (!model.empty() && i % 3 != 0)
        row[k] = 0.3f * row[k] + model[from - from % static_cast<std::size_t>(dims) + static_cast<std::size_t>(k)] * 3;
      norm += static_cast<double>(row[k]) * static_cast<double>(row[k]);
    }
    for (int k = 0; k < dims; ++k)
      row[k] = norm > 0 ? static_cast<float>(static_cast<double>(row[k]) / std::sqrt(norm)) : 0.f;
    if (i % 7 == 6) std::copy_n(rows.data() + (i / 2) * dims, dims, row);
    if (i == 5) std::fill_n(row, dims, 0.f);
  }
  return rows;
}

struct Host {
  std::vector<int> fixed, moving;
  std::vector<float> score;
  int count = -1;
  explicit Host(int capacity)
      : fixed(static_cast<std::size_t>(capacity)),
        moving(static_cast<std::size_t>(capacity)),
        score(static_cast<std::size_t>(capacity)) {}
  Matches view() { return {fixed.data(), moving.data(), score.data(), &count, static_cast<int>(fixed.size())}; }
};

struct Found {
  Array<int> fixed, moving, count{1};
  Array<float> score;
  explicit Found(int capacity)
      : fixed(static_cast<std::size_t>(capacity)),
        moving(static_cast<std::size_t>(capacity)),
        score(static_cast<std::size_t>(capacity)) {}
  Matches view(int capacity) const { return {fixed.data(), moving.data(), score.data(), count.data(), capacity}; }
  void check_equals(const Host& expected) const {
    CHECK(count.value() == expected.count);
    const auto n = static_cast<std::size_t>(expected.count);
    const std::vector<int> f = fixed.get(), m = moving.get();
    const std::vector<float> s = score.get();
    for (std::size_t k = 0; k < n; ++k)
      CHECK(f[k] == expected.fixed[k] && m[k] == expected.moving[k] && s[k] == expected.score[k]);
  }
};

// Both sets on both sides, in arrays that hold more rows than count.
struct Pair {
  int n, m, dims, capacity_n, capacity_m;
  std::vector<float> fixed, moving;
  Array<float> device_fixed, device_moving;
  Array<int> device_n, device_m;
  Pair(int n_, int m_, int dims_, int spare, std::uint64_t seed)
      : n(n_),
        m(m_),
        dims(dims_),
        capacity_n(n_ + spare),
        capacity_m(m_ + spare),
        fixed(rows_like({}, capacity_n, dims, seed)),
        moving(rows_like(fixed, capacity_m, dims, seed + 100)),
        device_fixed(fixed),
        device_moving(moving),
        device_n(std::vector<int>{n}),
        device_m(std::vector<int>{m}) {}
  Descriptors host_fixed() const { return {fixed.data(), &n, capacity_n, dims}; }
  Descriptors host_moving() const { return {moving.data(), &m, capacity_m, dims}; }
  cuda::Sets sets(Precision precision, bool tensor_cores) const {
    return {{device_fixed.data(), device_n.data(), capacity_n, dims},
            {device_moving.data(), device_m.data(), capacity_m, dims},
            precision,
            tensor_cores};
  }
};

const Context& host_context() {
  static const Context context(1);
  return context;
}

Host expected_of(const Pair& pair, const MatchOptions& options) {
  static Workspace workspace;
  Host expected(std::min(pair.capacity_n, pair.capacity_m));
  cpu::match(host_context(), workspace, pair.host_fixed(), pair.host_moving(), options, expected.view());
  return expected;
}

void all_pairs_are_the_same(Device& device) {
  std::uint64_t seed = 1;
  for (const auto& [n, m, dims] : {std::tuple{0, 3, 4},
                                   {3, 0, 4},
                                   {1, 1, 1},
                                   {2, 5, 3},
                                   {5, 4, 16},
                                   {130, 70, 33},
                                   {65, 129, 64},
                                   {150, 260, 128}})
    for (const float ratio : {1.0f, 0.9f}) {
      const Pair pair(n, m, dims, n % 2 == 0 ? 3 : 0, ++seed);
      const int capacity = std::min(pair.capacity_n, pair.capacity_m);
      for (const auto& [precision, tensor_cores] :
           {std::pair{Precision::f32, true}, {Precision::i8, true}, {Precision::i8, false}, {Precision::bf16, false}}) {
        const MatchOptions options{precision, ratio < 1 ? 0.1f : -1.0f, ratio};
        const Found found(capacity);
        cuda::match_with(device.context, device.workspace, pair.sets(precision, tensor_cores), options,
                         found.view(capacity));
        found.check_equals(expected_of(pair, options));
      }
    }
}

double dot(const float* a, const float* b, int dims) {
  double sum = 0;
  for (int k = 0; k < dims; ++k) sum += static_cast<double>(bf16_round(a[k])) * static_cast<double>(bf16_round(b[k]));
  return sum;
}

// A tensor core adds products of bf16, exact in f32, in blocks and may truncate: every sum of D products of unit rows
// is off by at most D x 2^-22 (two ulps of 1 a step, the most that any of them is known to lose). Who wins must be the
// best up to twice that.
void tensor_bf16_is_within_its_bound(Device& device) {
  for (const auto& [n, m, dims] : {std::tuple{1, 1, 1}, {70, 5, 40}, {140, 150, 128}}) {
    const Pair pair(n, m, dims, 0, 77);
    const int capacity = std::min(n, m);
    const Found found(capacity);
    const MatchOptions options{Precision::bf16, -1.0f, 1.0f};
    cuda::match_with(device.context, device.workspace, pair.sets(Precision::bf16, true), options, found.view(capacity));
    const std::vector<int> fixed = found.fixed.get(), moving = found.moving.get();
    const std::vector<float> score = found.score.get();
    const double bound = dims * 0x1p-22 + 0x1p-22;
    for (std::size_t k = 0; k < static_cast<std::size_t>(found.count.value()); ++k) {
      const float *a = pair.fixed.data() + fixed[k] * dims, *b = pair.moving.data() + moving[k] * dims;
      CHECK(std::fabs(dot(a, b, dims) - static_cast<double>(score[k])) <= bound);
      CHECK(k == 0 || score[k] <= score[k - 1]);
      for (int j = 0; j < m; ++j)
        CHECK(dot(a, pair.moving.data() + j * dims, dims) <= static_cast<double>(score[k]) + 2 * bound);
      for (int i = 0; i < n; ++i)
        CHECK(dot(pair.fixed.data() + i * dims, b, dims) <= static_cast<double>(score[k]) + 2 * bound);
    }
    // Pairs that win by more than the bound are the CPU's.
    const Host expected = expected_of(pair, options);
    CHECK(std::abs(found.count.value() - expected.count) <= 2 + expected.count / 20);
  }
}

void guided_is_the_same(Device& device) {
  static Workspace workspace;
  for (const auto& [n, m, dims] : {std::tuple{0, 4, 4}, {1, 1, 2}, {5, 3, 8}, {90, 120, 32}}) {
    const Pair pair(n, m, dims, 2, 5);
    std::vector<float> fixed_xy(static_cast<std::size_t>(2 * pair.capacity_n)),
        moving_xy(static_cast<std::size_t>(2 * pair.capacity_m));
    for (std::size_t i = 0; i < fixed_xy.size(); ++i)
      fixed_xy[i] = static_cast<float>(random_below(random_bits(6, 0, i), 1000)) / 10;
    for (std::size_t i = 0; i < moving_xy.size(); ++i)
      moving_xy[i] = static_cast<float>(random_below(random_bits(7, 0, i), 1000)) / 10;
    Transform T;
    T.kind = TransformKind::homography;
    T.p[0] = 0.9, T.p[1] = -0.1, T.p[2] = 5, T.p[7] = 1e-3;
    T.p[6] = n == 90 ? -0.02 : 0;  // a pole among the points
    const GuidedMatchOptions options{25.0f, 0.05f};
    Host expected(std::min(pair.capacity_n, pair.capacity_m));
    int host_n = n, host_m = m;
    cpu::match_guided(host_context(), workspace, pair.host_fixed(), pair.host_moving(),
                      {fixed_xy.data(), nullptr, &host_n, pair.capacity_n},
                      {moving_xy.data(), nullptr, &host_m, pair.capacity_m}, T, options, expected.view());
    const Array<float> device_fixed_xy(fixed_xy), device_moving_xy(moving_xy);
    const Array<Transform> device_T(std::vector<Transform>{T});
    const int capacity = std::min(pair.capacity_n, pair.capacity_m);
    const Found found(capacity);
    const cuda::Sets sets = pair.sets(Precision::f32, false);
    cuda_backend()->match_guided(device.context, device.workspace, sets.fixed, sets.moving,
                                 {device_fixed_xy.data(), nullptr, pair.device_n.data(), pair.capacity_n},
                                 {device_moving_xy.data(), nullptr, pair.device_m.data(), pair.capacity_m},
                                 *device_T.data(), options, found.view(capacity));
    found.check_equals(expected);
    CHECK(n < 90 || expected.count > 10);
  }
}

}  // namespace

int main() {
  Device device;
  all_pairs_are_the_same(device);
  tensor_bf16_is_within_its_bound(device);
  guided_is_the_same(device);
}
