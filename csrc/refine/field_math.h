// What decides a value in refine_field: which points, which cells, what a cell says, when a step is taken. Host and
// device.
//
// With the MOVING values m (centred) and the FIXED values f(p), the least squares of m - gain f - offset leave
// E = |m|^2 (1 - r^2), so that the log-likelihood of refine, -N / 2 log(1 - r^2), is -N / 2 log E up to a constant, and
// gain and offset drop out: its gradient is N gain G'(m - gain (f - mean f)) / E, its curvature about N gain^2 G'G / E.
// Gain and noise differ over an eye (a vessel that one camera does not see, capillaries): each cell of the grid has its
// own r and E, from its points and from kShared further ones that are as all points are on average.
#pragma once

#include <algorithm>
#include <cmath>

#include "core/field.h"
#include "refine/field_kernels.h"
#include "refine/refine.h"
#include "refine/refine_math.h"
#include "refine/refine_model.h"

namespace fastretina::field_math {

// Everything is asked of the finest level: coarser ones tell less, and a field moves points by no more than a ridge is
// wide. The lattices, px of MOVING: of the first question; of the halves; of the last fit, where a wider one would lose
// a part of what the ridges say and a closer one adds nothing.
constexpr int kCoarsePx = 6, kHalvesPx = 3, kFinestPx = 2;
constexpr double kCoarseDoubt_nats = 5;  // of the first answer
constexpr int kAskedIterations = 3;  // of a fit to a half: later ones only sharpen it
constexpr double kMarginPx = 2;      // the reach of the blur, as in refine
constexpr double kStepPx = 2;        // a step moves no control point further
constexpr double kLeastGridStepPx = 40;  // of a small overlap: vessels tell nothing closer than they are to one another
constexpr int kTrials = 4;           // damping values tried for a step
constexpr double kShared = 80;       // points' worth of all cells in each one's correlation
constexpr double kMostCorrelation = 0.999;
constexpr double kFirstDamping = 1e-3;

enum class Fold { all, even, odd };  // of a chessboard of half grid steps: what is fitted, and what is held out

// Points of a lattice along a side: step / 2, and so on.
FR_HD int lattice_side(int side, int step) { return (side - step / 2 + step - 1) / step; }
inline int most_points(const RidgeMap& moving) {
  const View<RidgePixel> finest = moving.level[kRidgeLevels - 1];
  return lattice_side(finest.width, kFinestPx) * lattice_side(finest.height, kFinestPx);
}
// What a point of a lattice counts for, where the points of one of 3 px count for 1; and is an overlap large enough?
FR_HD double points_worth(int step) {
  constexpr double kOne = refine_math::kPointStepPx * refine_math::kPointStepPx;
  return step * step / kOne;
}
FR_HD bool enough(int surveyed, int step, int min_points) {
  return surveyed > 0 && surveyed * points_worth(step) >= min_points;
}

// Where T puts a MOVING pixel in FIXED. false: not in the overlap.
FR_HD bool overlaps(const RidgeMap& fixed, const RidgeMap& moving, const Transform& T, int x, int y, Point& at) {
  constexpr double margin = kMarginPx;
  const View<RidgePixel>& own = moving.level[kRidgeLevels - 1];
  if (own.data[y * own.stride + x] >> 24 == 0) return false;
  if (T.kind == TransformKind::homography && !(T.p[6] * x + T.p[7] * y + T.p[8] > 0)) return false;
  at = apply(T, {static_cast<double>(x), static_cast<double>(y)});
  const auto inside = [](const View<RidgePixel>& finest, double px, double py) {
    return refine_math::is_inside(finest.data, finest.stride, finest.width, finest.height, static_cast<float>(px),
                                  static_cast<float>(py), 1);
  };
  for (int corner = 0; corner < 4; ++corner) {
    const double dx = corner & 1 ? margin : -margin, dy = corner & 2 ? margin : -margin;
    if (!inside(fixed.level[kRidgeLevels - 1], at.x + dx, at.y + dy) ||
        !inside(moving.level[kRidgeLevels - 1], x + dx, y + dy))
      return false;
  }
  return true;
}

// The grid over a box of FIXED, `cells` steps along its longer side, one ring of control points around it.
FR_HD Field grid_over(Point low, Point high, int cells, const double* control) {
  const auto points = [](double length, double step) {
    const int n = static_cast<int>(std::ceil(length / step));
    return (n > 1 ? n : 1) + 3;
  };
  const double width = high.x - low.x, height = high.y - low.y, wanted = (width > height ? width : height) / cells;
  Field field;
  field.step_x = field.step_y = wanted > kLeastGridStepPx ? wanted : kLeastGridStepPx;
  field.columns = points(width, field.step_x);
  field.rows = points(height, field.step_y);
  field.x0 = low.x - field.step_x;
  field.y0 = low.y - field.step_y;
  field.control = control;
  return field;
}

FR_HD int cells_across(const Field& f) { return f.columns - 3; }  // those whose sixteen control points all exist
FR_HD int cells_down(const Field& f) { return f.rows - 3; }

// A point's cell, by the grid, and its place there.
struct Place {
  int cell = -1;
  double tx = 0, ty = 0;
};
FR_HD Place place_of(const Field& f, double x, double y) {
  const double u = (x - f.x0) / f.step_x, v = (y - f.y0) / f.step_y;
  const auto clamped = [](double at, int cells) {
    const int cell = static_cast<int>(std::floor(at));
    return cell < 1 ? 1 : cell > cells ? cells : cell;
  };
  const int column = clamped(u, cells_across(f)), row = clamped(v, cells_down(f));
  return {(row - 1) * cells_across(f) + column - 1, u - column, v - row};
}
FR_HD bool belongs(const Field& f, double x, double y, Fold fold) {
  if (fold == Fold::all) return true;
  const double u = (x - f.x0) / f.step_x, v = (y - f.y0) / f.step_y;
  const int parity = (static_cast<int>(std::floor(2 * u)) + static_cast<int>(std::floor(2 * v))) & 1;
  return (parity == 1) == (fold == Fold::odd);
}
// Of the k-th of the sixteen control points that move the points of a cell.
FR_HD int control_of(const Field& f, int cell, int k) {
  const int across = cells_across(f);
  return (cell / across + k / 4) * f.columns + cell % across + k % 4;
}

// Sums over all cells.
struct Total {
  double ff = 0, fm = 0, fs = 0;
  double mm = 0;  // of the centred MOVING values
  int points = 0;

  FR_HD double mean() const { return fs / (points > 1 ? points : 1); }
  FR_HD double centred() const {
    const double c = ff - fs * mean();
    return c > 1e-12 ? c : 1e-12;
  }
  FR_HD double correlation() const { return fm / std::sqrt(centred() * mm + 1e-12); }
};

// A cell's part: least squares of m - gain f; 1 / variance; the log-likelihood, nats.
struct CellFit {
  double gain = 0, weight = 0, log_likelihood = 0;
};
// m, mm: sums of the cell's MOVING values (strength, all squares). samples: independent ones a point counts for.
FR_HD CellFit fit_cell(const field_kernels::CellSums& s, int count, double m, double mm, const Total& total,
                       double samples) {
  const double mean = total.mean(), share = kShared / (total.points > 1 ? total.points : 1);
  const double centred = s.ff - mean * (2 * s.fs - count * mean),
               ff = (centred > 0 ? centred : 0) + share * total.centred();
  const double fm = s.fm - mean * m + share * total.fm, own_mm = mm + share * total.mm + 1e-12;
  const double exact = fm / std::sqrt(ff * own_mm),
               r = exact > 0 ? (exact < kMostCorrelation ? exact : kMostCorrelation) : 0;
  const double independent = samples * (count + kShared);
  return {(fm > 0 ? fm : 0) / ff, independent / (own_mm * (1 - r * r)), -independent * refine_math::misfit(r)};
}

// How far a step of `moved` is taken.
FR_HD double shrink_of(double moved) {
  const double most = kStepPx / (moved > 1e-30 ? moved : 1e-30);
  return most < 1 ? most : 1;
}
FR_HD double next_damping(double damping, bool better) {
  const double next = better ? 0.2 * damping : 8 * damping, least = better ? 1e-5 : 1e-3;
  return next > least ? next : least;
}

}  // namespace fastretina::field_math
