// match and match_guided against the plain definition, at sizes around every tile edge, at every SIMD level.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "check.h"
#include "core/error.h"
#include "core/order.h"
#include "core/rng.h"
#include "core/simd.h"
#include "core/transform.h"
#include "match/match.h"
#include "match/match_math.h"

using namespace fastretina;

namespace {

struct Set {
  Set(int n, int d, std::uint64_t seed) : count(n), dims(d), rows(static_cast<std::size_t>(n) * d) {
    for (int i = 0; i < n; ++i) {
      float norm = 0;
      for (int k = 0; k < d; ++k) {
        const auto bits = random_bits(seed, static_cast<std::uint64_t>(i), static_cast<std::uint64_t>(k));
        float& x = rows[static_cast<std::size_t>(i) * d + k];
        x = static_cast<float>(random_below(bits, 2001)) / 1000.0f - 1.0f;
        norm += x * x;
      }
      norm = std::sqrt(std::max(norm, 1e-6f));
      for (int k = 0; k < d; ++k) rows[static_cast<std::size_t>(i) * d + k] /= norm;
    }
  }
  Descriptors view() const { return {rows.data(), &count, count, dims}; }
  int count, dims;
  std::vector<float> rows;
};

struct Found {
  explicit Found(int capacity) : fixed(capacity), moving(capacity), score(capacity) {}
  Matches view() { return {fixed.data(), moving.data(), score.data(), &count, static_cast<int>(fixed.size())}; }
  bool operator==(const Found& other) const {
    return count == other.count && std::equal(fixed.begin(), fixed.begin() + count, other.fixed.begin()) &&
           std::equal(moving.begin(), moving.begin() + count, other.moving.begin()) &&
           std::equal(score.begin(), score.begin() + count, other.score.begin());
  }
  std::vector<int> fixed, moving;
  std::vector<float> score;
  int count = -1;
};

float dot(const Set& a, int i, const Set& b, int j, Precision precision) {
  float sum = 0;
  for (int k = 0; k < a.dims; ++k) {
    const float x = a.rows[static_cast<std::size_t>(i) * a.dims + k],
                y = b.rows[static_cast<std::size_t>(j) * a.dims + k];
    if (precision == Precision::bf16)
      sum = std::fma(bf16_round(x), bf16_round(y), sum);
    else if (precision == Precision::i8)
      sum += i8_round(x) * i8_round(y);
    else
      sum = std::fma(x, y, sum);
  }
  return precision == Precision::i8 ? i8_score(sum) : sum;
}

Found plain(const Set& a, const Set& b, Precision precision) {
  std::vector<int> of_a(a.count, 0), of_b(b.count, 0);
  std::vector<float> score(static_cast<std::size_t>(a.count) * b.count);
  const auto at = [&](int i, int j) -> float& { return score[static_cast<std::size_t>(i) * b.count + j]; };
  for (int i = 0; i < a.count; ++i)
    for (int j = 0; j < b.count; ++j) {
      at(i, j) = dot(a, i, b, j, precision);
      if (better(at(i, j), j, at(i, of_a[i]), of_a[i])) of_a[i] = j;
      if (better(at(i, j), i, at(of_b[j], j), of_b[j])) of_b[j] = i;
    }
  Found found(std::min(a.count, b.count));
  found.count = 0;
  std::vector<int> mutual;
  for (int i = 0; i < a.count && b.count > 0; ++i)
    if (of_b[of_a[i]] == i) mutual.push_back(i);
  std::sort(mutual.begin(), mutual.end(), [&](int x, int y) { return better(at(x, of_a[x]), x, at(y, of_a[y]), y); });
  for (const int i : mutual) {
    found.fixed[found.count] = i;
    found.moving[found.count] = of_a[i];
    found.score[found.count++] = at(i, of_a[i]);
  }
  return found;
}

void check_match(const Context& context, Workspace& workspace) {
  const int sizes[][3] = {{0, 3, 4}, {1, 1, 1}, {5, 4, 2}, {7, 49, 17}, {8, 48, 16}, {9, 47, 33}, {130, 101, 130}};
  for (const auto& size : sizes) {
    const Set a(size[0], size[2], 1), b(size[1], size[2], 2);
    for (const Precision precision : {Precision::f32, Precision::bf16, Precision::i8}) {
      Found found(std::min(a.count, b.count));
      cpu::match(context, workspace, a.view(), b.view(), {.precision = precision}, found.view());
      CHECK(found == plain(a, b, precision));
      const int all = found.count;
      cpu::match(context, workspace, a.view(), b.view(), {.precision = precision, .ratio = 0.8f}, found.view());
      CHECK(found.count <= all);
    }
  }
}

void copy_row(const Set& from, int i, Set& to, int j, float scale) {
  for (int k = 0; k < to.dims; ++k) to.rows[j * to.dims + k] = from.rows[i * from.dims + k] * scale;
}

// Large enough for f32 to be screened in bf16, which cannot tell the near copies apart. The last copy is the best,
// after the shortlist (of a row, then of a column) has overflowed; in the end all rows are copies.
void check_screening(const Context& context, Workspace& workspace) {
  Set a(1100, 67, 6), b(263, 67, 7);
  for (const int copies : {0, 3, 20, 263}) {
    for (int j = 0; j < copies; ++j) copy_row(a, 40, b, j, j + 1 == copies ? 1.0f : 0.99999f);
    for (int i = 0; i < copies; ++i) copy_row(b, 262, a, 100 + 4 * i % 1000, i + 1 == copies ? 1.0f : 0.99999f);
    Found found(b.count);
    cpu::match(context, workspace, a.view(), b.view(), {}, found.view());
    CHECK(found == plain(a, b, Precision::f32));
  }
}

// With the identity and a radius that reaches everywhere, guided matching is plain matching.
void check_guided(const Context& context, Workspace& workspace) {
  const Set a(90, 19, 3), b(75, 19, 4);
  std::vector<float> points(180);
  for (std::size_t i = 0; i < points.size(); ++i)
    points[i] = static_cast<float>(random_below(random_bits(5, 0, i), 6400)) / 10.0f;
  int n = a.count, m = b.count;
  const Keypoints at_a{points.data(), nullptr, &n, n}, at_b{points.data(), nullptr, &m, m};
  Found wide(m), narrow(m);
  const auto run = [&](float radius, const Transform& t, Found& found) {
    cpu::match_guided(context, workspace, a.view(), b.view(), at_a, at_b, t, {radius, -1.0f}, found.view());
  };
  run(2000.0f, {}, wide);
  CHECK(wide == plain(a, b, Precision::f32));
  run(0.01f, {}, narrow);  // only the same point is near
  CHECK(narrow.count == m);
  for (int p = 0; p < m; ++p) CHECK(narrow.fixed[p] == narrow.moving[p]);
  run(5.0f, scaling(1.0, 1e9, -1e9), narrow);
  CHECK(narrow.count == 0);
}

// No contract says what comes out, but nothing outside the arrays is touched.
void check_not_finite(const Context& context, Workspace& workspace) {
  Set a(20, 16, 6), b(33, 16, 7);
  std::fill(a.rows.begin(), a.rows.end(), std::numeric_limits<float>::quiet_NaN());
  Found found(20);
  cpu::match(context, workspace, a.view(), b.view(), {}, found.view());
  CHECK(found.count == 0);
}

void check_capacity(const Context& context, Workspace& workspace) {
  const Set a(20, 16, 6), b(33, 16, 7);
  Found found(19);
  bool caught = false;
  try {
    cpu::match(context, workspace, a.view(), b.view(), {}, found.view());
  } catch (const InvalidArgument&) {
    caught = true;
  }
  CHECK(caught && found.count == -1);
}

}  // namespace

int main() {
  for (const SimdLevel level : {SimdLevel::avx512bf16, SimdLevel::avx512, SimdLevel::avx2, SimdLevel::scalar}) {
    limit_simd_level(level);
    for (const int threads : {1, 2, 3}) {
      const Context context(threads);
      Workspace workspace;
      check_match(context, workspace);
      check_screening(context, workspace);
      check_guided(context, workspace);
      check_not_finite(context, workspace);
      check_capacity(context, workspace);
    }
  }
  return 0;
}
