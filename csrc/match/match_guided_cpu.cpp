// Guided matching: only pairs of near points compete. A grid over the fixed points finds them.
#include <algorithm>
#include <cmath>
#include <limits>

#include "core/error.h"
#include "core/order.h"
#include "core/transform.h"
#include "match/match.h"
#include "match/match_kernels.h"
#include "match/match_math.h"
#include "match/match_select.h"

namespace fastretina::cpu {
namespace {

using namespace matching;

constexpr int kMaxCells = 256;  // per axis
constexpr int kPairBatch = 4096;

// Fixed points by cell, row by row; ascending index within a cell. A cell is at least the radius wide, so everything
// near a point lies in the 3 x 3 cells around it.
struct Grid {
  double x0 = 0, y0 = 0, per_px = 0;
  int columns = 0, rows = 0;
  int* first = nullptr;  // cells + 1
  int* point = nullptr;

  // Clamped one cell outside, where its 3 x 3 cells may still touch the grid.
  static int cell(double along, int cells) {
    return static_cast<int>(std::fmin(std::fmax(std::floor(along), -2.0), cells + 1.0));
  }
  int column(double x) const { return cell((x - x0) * per_px, columns); }
  int row(double y) const { return cell((y - y0) * per_px, rows); }
};

Grid make_grid(Workspace& workspace, const float* xy, int n, double radius) {
  Grid grid;
  double x1 = xy[0], y1 = xy[1];
  grid.x0 = x1, grid.y0 = y1;
  for (int i = 1; i < n; ++i) {
    grid.x0 = std::fmin(grid.x0, xy[2 * i]), x1 = std::fmax(x1, xy[2 * i]);
    grid.y0 = std::fmin(grid.y0, xy[2 * i + 1]), y1 = std::fmax(y1, xy[2 * i + 1]);
  }
  const double extent = std::fmax(x1 - grid.x0, y1 - grid.y0);
  // A little wider than the radius: the quotient below is rounded.
  const double side = std::fmax(std::fmax(1.001 * radius, extent / (kMaxCells - 1)), 1e-3);
  grid.per_px = 1.0 / side;
  grid.columns = static_cast<int>((x1 - grid.x0) * grid.per_px) + 1;
  grid.rows = static_cast<int>((y1 - grid.y0) * grid.per_px) + 1;
  const int cells = grid.columns * grid.rows;
  grid.first = workspace.take<int>(static_cast<std::size_t>(cells) + 1);
  grid.point = workspace.take<int>(static_cast<std::size_t>(n));
  std::fill_n(grid.first, cells + 1, 0);
  const auto at = [&](int i) { return grid.row(xy[2 * i + 1]) * grid.columns + grid.column(xy[2 * i]); };
  for (int i = 0; i < n; ++i) ++grid.first[at(i) + 1];
  for (int c = 0; c < cells; ++c) grid.first[c + 1] += grid.first[c];
  for (int i = n - 1; i >= 0; --i) grid.point[--grid.first[at(i) + 1]] = i;
  // Now first[c + 1] is where cell c begins: shift by one cell.
  for (int c = 0; c < cells; ++c) grid.first[c] = grid.first[c + 1];
  grid.first[cells] = n;
  return grid;
}

// Near pairs, collected and scored in batches, leave the best partner of either side.
class Competition {
 public:
  Competition(Workspace& workspace, const Descriptors& fixed, const Descriptors& moving)
      : fixed_(fixed), moving_(moving), level_(simd_level()) {
    fixed_best_ = take(workspace, *fixed.count);
    moving_best_ = take(workspace, *moving.count);
    i_ = workspace.take<int>(kPairBatch);
    j_ = workspace.take<int>(kPairBatch);
    score_ = workspace.take<float>(kPairBatch);
  }

  // Without a branch on `near`: no processor could predict it.
  void add(int i, int j, bool near) {
    i_[count_] = i;
    j_[count_] = j;
    count_ += near;
    if (count_ == kPairBatch) flush();
  }

  void flush() {
    dot_pairs(level_, fixed_.rows, moving_.rows, fixed_.dims, i_, j_, count_, score_);
    for (int p = 0; p < count_; ++p) {
      offer(fixed_best_, i_[p], j_[p], score_[p]);
      offer(moving_best_, j_[p], i_[p], score_[p]);
    }
    count_ = 0;
  }

  const Best& fixed_best() const { return fixed_best_; }
  const Best& moving_best() const { return moving_best_; }

 private:
  static Best take(Workspace& workspace, int count) {
    const auto size = static_cast<std::size_t>(count);
    const Best best{workspace.take<float>(size), workspace.take<int>(size), nullptr};
    std::fill_n(best.score, count, -std::numeric_limits<float>::infinity());
    std::fill_n(best.index, count, -1);
    return best;
  }
  static void offer(const Best& best, int at, int candidate, float score) {
    const bool wins = better(score, candidate, best.score[at], best.index[at]);
    best.score[at] = wins ? score : best.score[at];
    best.index[at] = wins ? candidate : best.index[at];
  }

  const Descriptors &fixed_, &moving_;
  SimdLevel level_;
  Best fixed_best_, moving_best_;
  int *i_ = nullptr, *j_ = nullptr;
  float* score_ = nullptr;
  int count_ = 0;
};

void add_near(const Grid& grid, const float* fixed_xy, Point at, int j, double radius, Competition& competition) {
  if (!std::isfinite(at.x) || !std::isfinite(at.y)) return;  // on or beyond a pole
  const int column = grid.column(at.x), row = grid.row(at.y);
  for (int r = std::max(row - 1, 0); r <= std::min(row + 1, grid.rows - 1); ++r) {
    const int begin = std::max(column - 1, 0), end = std::min(column + 1, grid.columns - 1);
    if (begin > end) return;
    for (int p = grid.first[r * grid.columns + begin]; p < grid.first[r * grid.columns + end + 1]; ++p) {
      const int i = grid.point[p];
      competition.add(i, j, is_near(at.x, at.y, fixed_xy[2 * i], fixed_xy[2 * i + 1], radius));
    }
  }
}

}  // namespace

// One thread: a few thousand points cost a fraction of a millisecond.
void match_guided(const Context&, Workspace& workspace, const Descriptors& fixed, const Descriptors& moving,
                  const Keypoints& fixed_points, const Keypoints& moving_points, const Transform& T_fixed_moving,
                  const GuidedMatchOptions& options, const Matches& out) {
  const int n = *fixed.count, m = *moving.count;
  require(out.capacity >= std::min(n, m), "out", "too small a capacity", "at least the smaller count");
  *out.count = 0;
  if (n == 0 || m == 0) return;
  const Workspace::Frame frame(workspace);
  const double radius = options.radius_px;
  const Grid grid = make_grid(workspace, fixed_points.xy, n, radius);
  Competition competition(workspace, fixed, moving);
  for (int j = 0; j < m; ++j) {
    const Point at = apply(T_fixed_moving, {moving_points.xy[2 * j], moving_points.xy[2 * j + 1]});
    add_near(grid, fixed_points.xy, at, j, radius, competition);
  }
  competition.flush();

  const Matches found = take_matches(workspace, n);
  const Best &of_fixed = competition.fixed_best(), &of_moving = competition.moving_best();
  int count = 0;
  for (int i = 0; i < n; ++i) {
    const int j = of_fixed.index[i];
    if (j < 0 || of_moving.index[j] != i || !(of_fixed.score[i] >= options.min_similarity)) continue;
    found.fixed[count] = i;
    found.moving[count] = j;
    found.score[count++] = of_fixed.score[i];
  }
  write_sorted(workspace, found, count, out);
}

}  // namespace fastretina::cpu
