// What decides a value in `estimate`: which pairs a hypothesis draws, the model they give, residuals and gains.
// Written on a number type T: float or double on either device, or a pack of them (lanes.h).
//
// Inside the room MOVING points are (x, y) = (moving - centre) / scale, with `scale` a power of two, and FIXED points
// are (u, v) = fixed - centre, in pixels: residuals stay pixels, and every polynomial stays near 1.
#pragma once

#include <cstdint>

#include "core/hd.h"
#include "core/rng.h"
#include "core/types.h"

namespace fastretina::estimating {

// How a parameter vector is read: as the rows of a matrix with last row 0 0 1, of any matrix, or as polynomials.
enum class Form : int { affine = 0, homography = 1, quadratic = 2 };

struct Hypothesis {
  Form form = Form::affine;
  float p[12] = {};
};

// One pair as the sampler reads it.
struct alignas(16) Pair {
  float x, y, u, v;
};

inline constexpr int kMaxPairs = 1 << 20;
inline constexpr float kGainUnit = 1024.0F;  // an exact match gains this much, so that sums of gains are exact integers
inline constexpr int kPreviewPairs = 256;    // of many: see preview_hits
inline constexpr std::uint64_t kSampleStream = 7;  // of core/rng.h

FR_HD constexpr int minimal_pairs(TransformKind kind) {
  constexpr int kPairs[] = {1, 2, 3, 4, 6};
  return kPairs[static_cast<int>(kind)];
}

// Homographies and quadratics are mostly proposed by affine maps of three pairs, met within a wider threshold and then
// grown by local optimisation: at 5 % inliers a good triple is 20 times likelier than a good quadruple. Every
// full_sample_every-th hypothesis draws the whole minimal sample, for maps that no affine map resembles.
FR_HD constexpr int full_sample_every(TransformKind kind) {
  return kind == TransformKind::homography ? 4 : kind == TransformKind::quadratic ? 8 : 0;
}
FR_HD constexpr int proposal_pairs(TransformKind kind) { return kind == TransformKind::similarity ? 2 : 3; }
// The threshold of proposals, in units of the caller's.
FR_HD constexpr float proposal_threshold(TransformKind kind) {
  return kind == TransformKind::similarity ? 1.5F : kind == TransformKind::affine ? 1.5F : 4.0F;
}

// Where the preview of hypothesis `index` begins. It moves from one chunk of hypotheses to the next: pairs that happen
// to lie outside one window must not be lost for good.
inline constexpr int kChunk = 256;  // hypotheses that share a preview, and are scored by one call of a worker
FR_HD int preview_begin(std::uint32_t index, int pairs) {
  return static_cast<int>(index / kChunk %
                          static_cast<std::uint32_t>(pairs / kPreviewPairs + (pairs < kPreviewPairs))) *
         kPreviewPairs;
}

// How many of kPreviewPairs pairs a hypothesis must meet to be scored on all: 2, and 0.7 of what the best proposal so
// far would meet if each of its hits counted fully.
FR_HD int preview_hits(std::int64_t best_gain, int pairs) {
  const std::int64_t expected = best_gain * (7 * kPreviewPairs) / (static_cast<std::int64_t>(10 * 1024) * pairs);
  return expected > 2 ? static_cast<int>(expected) : 2;
}

struct SampleRules {
  TransformKind kind = TransformKind::similarity;
  bool allow_mirror = false;
  std::uint64_t key = 0;  // random_bits' inner part: seed and stream
  float min_area = 0;     // of the sample's parallelogram in FIXED, px^2; of similarities: of its squared length
  float min_ratio = 0, max_ratio = 0;  // FIXED area / MOVING area
};

FR_HD std::uint32_t pick(std::uint64_t bits, int slot, std::uint32_t n) {
  return static_cast<std::uint32_t>((((bits >> (21 * slot)) & 0x1FFFFFu) * n) >> 21);
}

FR_HD float cross(float ax, float ay, float bx, float by) { return ax * by - ay * bx; }
FR_HD float magnitude(float a) { return a < 0 ? -a : a; }

// Two pairs; `mirrored` chooses which of the two similarities.
FR_HD bool similarity_from(const Pair& a, const Pair& b, bool mirrored, const SampleRules& rules, Hypothesis& out) {
  const float x = b.x - a.x, y = mirrored ? a.y - b.y : b.y - a.y, u = b.u - a.u, v = b.v - a.v;
  const float moving = x * x + y * y, fixed = u * u + v * v;
  if (!(fixed >= rules.min_area && fixed >= rules.min_ratio * moving && fixed <= rules.max_ratio * moving))
    return false;
  const float c = (u * x + v * y) / moving, s = (v * x - u * y) / moving;
  const float sign = mirrored ? -1.0F : 1.0F;
  out.form = Form::affine;
  out.p[0] = c, out.p[1] = -s * sign, out.p[2] = a.u - (c * a.x - s * (sign * a.y));
  out.p[3] = s, out.p[4] = c * sign, out.p[5] = a.v - (s * a.x + c * (sign * a.y));
  return true;
}

FR_HD bool affine_from(const Pair& a, const Pair& b, const Pair& c, const SampleRules& rules, Hypothesis& out) {
  const float bx = b.x - a.x, by = b.y - a.y, cx = c.x - a.x, cy = c.y - a.y;
  const float bu = b.u - a.u, bv = b.v - a.v, cu = c.u - a.u, cv = c.v - a.v;
  const float moving = cross(bx, by, cx, cy), fixed = cross(bu, bv, cu, cv);
  const float m = magnitude(moving), f = magnitude(fixed);
  if (!(f >= rules.min_area && f >= rules.min_ratio * m && f <= rules.max_ratio * m)) return false;
  if (!rules.allow_mirror && !((moving > 0) == (fixed > 0))) return false;
  const float w = 1.0F / moving;
  out.form = Form::affine;
  out.p[0] = (bu * cy - cu * by) * w, out.p[1] = (cu * bx - bu * cx) * w;
  out.p[3] = (bv * cy - cv * by) * w, out.p[4] = (cv * bx - bv * cx) * w;
  out.p[2] = a.u - (out.p[0] * a.x + out.p[1] * a.y);
  out.p[5] = a.v - (out.p[3] * a.x + out.p[4] * a.y);
  return true;
}

// The homography of four pairs in closed form: it maps MOVING point i to weight_i (FIXED point i, 1) for i < 3, with
// weights from the ratios of triangle areas (Hartley & Zisserman 2004, section 2.4: projective bases).
FR_HD bool homography_from(const Pair (&s)[4], const SampleRules& rules, Hypothesis& out) {
  float moving[4], fixed[4];  // areas of the triangles that leave out point i
  for (int i = 0; i < 4; ++i) {
    // Leaving out i, the third place is taken by point 3, so that the orientations can be compared.
    const Pair &a = i == 0 ? s[3] : s[0], &b = i == 1 ? s[3] : s[1], &c = i == 2 ? s[3] : s[2];
    moving[i] = cross(b.x - a.x, b.y - a.y, c.x - a.x, c.y - a.y);
    fixed[i] = cross(b.u - a.u, b.v - a.v, c.u - a.u, c.v - a.v);
    if (!(magnitude(fixed[i]) >= rules.min_area)) return false;
  }
  const bool reversed = (moving[3] > 0) != (fixed[3] > 0);
  if (reversed && !rules.allow_mirror) return false;
  for (int i = 0; i < 4; ++i) {
    if (((moving[i] > 0) != (fixed[i] > 0)) != reversed) return false;
    const float m = magnitude(moving[i]), f = magnitude(fixed[i]);
    if (!(f >= 0.25F * rules.min_ratio * m && f <= 4.0F * rules.max_ratio * m)) return false;
  }
  float h[9] = {};
  for (int i = 0; i < 3; ++i) {
    const Pair &j = s[(i + 1) % 3], &k = s[(i + 2) % 3];
    const float weight = fixed[i] / (moving[i] * fixed[3]);
    const float line[3] = {weight * (j.y - k.y), weight * (k.x - j.x), weight * (j.x * k.y - k.x * j.y)};
    for (int c = 0; c < 3; ++c) {
      h[c] += s[i].u * line[c];
      h[3 + c] += s[i].v * line[c];
      h[6 + c] += line[c];
    }
  }
  if (!(h[8] > 1e-3F)) return false;  // the pole passes the centre of the points
  out.form = Form::homography;
  for (int i = 0; i < 9; ++i) out.p[i] = h[i] / h[8];
  return true;
}

// 1, x, y, x^2, x y, y^2
FR_HD bool quadratic_from(const Pair (&s)[6], const SampleRules& rules, Hypothesis& out) {
  double a[6][8];
  for (int r = 0; r < 6; ++r) {
    const double x = static_cast<double>(s[r].x), y = static_cast<double>(s[r].y);
    const double row[8] = {1, x, y, x * x, x * y, y * y, static_cast<double>(s[r].u), static_cast<double>(s[r].v)};
    for (int c = 0; c < 8; ++c) a[r][c] = row[c];
  }
  for (int k = 0; k < 6; ++k) {
    int pivot = k;
    for (int r = k + 1; r < 6; ++r)
      if (a[r][k] * a[r][k] > a[pivot][k] * a[pivot][k]) pivot = r;
    if (!(a[pivot][k] * a[pivot][k] > 1e-8)) return false;
    for (int c = 0; c < 8; ++c) {
      const double keep = a[k][c];
      a[k][c] = a[pivot][c], a[pivot][c] = keep;
    }
    for (int r = 0; r < 6; ++r) {
      if (r == k) continue;
      const double f = a[r][k] / a[k][k];
      for (int c = k; c < 8; ++c) a[r][c] -= f * a[k][c];
    }
  }
  out.form = Form::quadratic;
  for (int k = 0; k < 6; ++k) {
    out.p[k] = static_cast<float>(a[k][6] / a[k][k]);
    out.p[6 + k] = static_cast<float>(a[k][7] / a[k][k]);
  }
  const float area = cross(out.p[1], out.p[2], out.p[7], out.p[8]);
  return rules.allow_mirror ? magnitude(area) > 0 : area > 0;
}

// Hypothesis `index`, drawn from the first `pool` pairs. false: a degenerate or implausible sample (a repeated pair has
// no area, so it needs no test of its own).
FR_HD_CALL bool propose(const Pair* pairs, std::uint32_t pool, const SampleRules& rules, std::uint32_t index,
                   Hypothesis& out) {
  const bool two_hands = rules.kind == TransformKind::similarity && rules.allow_mirror;
  const std::uint64_t counter = two_hands ? index >> 1 : index;
  const std::uint64_t bits = mix64(rules.key ^ counter);
  const int every = full_sample_every(rules.kind);
  if (every > 0 && index % static_cast<std::uint32_t>(every) == static_cast<std::uint32_t>(every - 1)) {
    const std::uint64_t more = mix64(~bits);
    if (rules.kind == TransformKind::homography) {
      const Pair s[4] = {pairs[pick(bits, 0, pool)], pairs[pick(bits, 1, pool)], pairs[pick(bits, 2, pool)],
                         pairs[pick(more, 0, pool)]};
      return homography_from(s, rules, out);
    }
    const Pair s[6] = {pairs[pick(bits, 0, pool)], pairs[pick(bits, 1, pool)], pairs[pick(bits, 2, pool)],
                       pairs[pick(more, 0, pool)], pairs[pick(more, 1, pool)], pairs[pick(more, 2, pool)]};
    return quadratic_from(s, rules, out);
  }
  const Pair &a = pairs[pick(bits, 0, pool)], &b = pairs[pick(bits, 1, pool)];
  if (rules.kind == TransformKind::similarity) return similarity_from(a, b, two_hands && (index & 1), rules, out);
  return affine_from(a, b, pairs[pick(bits, 2, pool)], rules, out);
}

// Pairs sampled from when `drawn` hypotheses lie behind: pools of the best pairs grow so that after kPoolDraws draws
// all pairs are in; a sample of m then meets every pool size as often as PROSAC's growth function asks.
inline constexpr double kPoolDraws = 20000;
FR_HD int pool_size(int pairs, int sample, double drawn) {
  const int smallest = pairs < 16 ? pairs : 16;
  const double all = pairs, target = (sample == 2 ? all * all : all * all * all) * drawn;
  int low = smallest, high = pairs;
  while (low < high) {
    const int middle = low + (high - low) / 2;
    const double n = middle;
    if ((sample == 2 ? n * n : n * n * n) * kPoolDraws >= target)
      high = middle;
    else
      low = middle + 1;
  }
  return low;
}

// MOVING -> FIXED for one point or a pack. false-like w (<= 0) marks the far side of a homography's pole.
template <Form form, class T, class P>
FR_HD void map_point(const P* p, const T& x, const T& y, T& u, T& v, T& w) {
  if constexpr (form == Form::quadratic) {
    u = p[0] + x * (p[1] + p[3] * x + p[4] * y) + y * (p[2] + p[5] * y);
    v = p[6] + x * (p[7] + p[9] * x + p[10] * y) + y * (p[8] + p[11] * y);
  } else {
    u = p[0] * x + p[1] * y + p[2];
    v = p[3] * x + p[4] * y + p[5];
    if constexpr (form == Form::homography) {
      w = P(1) / (p[6] * x + p[7] * y + p[8]);
      u = u * w;
      v = v * w;
    }
  }
}

}  // namespace fastretina::estimating
