// What the device pair leaves for the host, and its steps between the rooms: gathering, choosing, checking. Internal to
// pipeline_cuda.cu.
#pragma once

#include <cstdint>
#include <utility>

#include "core/device.h"
#include "image/image_math.h"
#include "pipeline_math.h"

namespace fastretina::cuda {

constexpr int kThreads = 256;
using pipeline_math::Sidelobes;

// --- what leaves the device -------------------------------------------------------------------------------------
struct Numbers {
  Estimate estimate;
  RidgeCorrelation agreement;
  Transform T_network;
  double peak_to_sidelobe, inlier_similarity;
  bool found, has_polished;
  Polished polished;
  float contrast[2];
  int keypoints[2], matches;
  int bad_pixels[2], bad_answer;  // not 0: misuse that only the device could see
};

// One block of memory, so that one copy takes it.
struct Findings {
  Numbers* numbers;
  FieldRefinement* field;  // these two once the field was fitted
  double* control;
  float *fixed_xy, *moving_xy, *score;  // of the matches
  std::uint8_t* inlier;
  float *keypoints[2], *keypoint_score[2];
  View<float> difference[2];
};

class Layout {
 public:
  explicit Layout(std::byte* memory) : begin_(reinterpret_cast<std::uintptr_t>(memory)), at_(begin_) {}
  template <class T>
  T* take(std::size_t count) {
    return reinterpret_cast<T*>(std::exchange(at_, at_ + (count * sizeof(T) + 63) / 64 * 64));
  }
  std::size_t used() const { return at_ - begin_; }

 private:
  std::uintptr_t begin_, at_;
};

inline std::size_t lay_out(std::byte* memory, int capacity, int control, const Size (&planes)[2], Findings& out) {
  Layout layout(memory);
  const auto most = static_cast<std::size_t>(capacity);
  out.numbers = layout.take<Numbers>(1);
  out.field = layout.take<FieldRefinement>(1);
  out.control = layout.take<double>(static_cast<std::size_t>(control));
  for (float** xy : {&out.fixed_xy, &out.moving_xy, &out.keypoints[0], &out.keypoints[1]})
    *xy = layout.take<float>(2 * most);
  for (float** score : {&out.score, &out.keypoint_score[0], &out.keypoint_score[1]}) *score = layout.take<float>(most);
  out.inlier = layout.take<std::uint8_t>(most);
  for (int i = 0; i < 2; ++i) {
    const int width = planes[i].width / kStride, height = planes[i].height / kStride;
    out.difference[i] = {layout.take<float>(static_cast<std::size_t>(width) * static_cast<std::size_t>(height)), width,
                         height};
  }
  return layout.used();
}

// --- misuse that only the device can see ------------------------------------------------------------------------
__global__ void __launch_bounds__(kThreads) range_kernel(Image image, int* bad) {
  constexpr float kTolerance = image_math::kTolerance;
  bool outside = false;
  for (int y = static_cast<int>(blockIdx.x); y < image.height; y += static_cast<int>(gridDim.x)) {
    const auto* row = reinterpret_cast<const float*>(static_cast<const std::byte*>(image.data) + y * image.row_bytes);
    for (int x = static_cast<int>(threadIdx.x); x < image.width * image.channels; x += kThreads)
      outside |= !(row[x] >= -kTolerance && row[x] <= 1 + kTolerance);
  }
  if (outside) *bad = 1;  // whoever writes, writes the same
}

__global__ void record_kernel(View<const float> from, View<float> to, int* bad) {
  const int x = pixel_x(), y = pixel_y();
  if (x >= to.width || y >= to.height) return;
  const float value = to.row(y)[x] = from.row(y)[x];
  if (!(fabsf(value) < HUGE_VALF)) *bad = 1;
}

__global__ void __launch_bounds__(kThreads) finite_kernel(Descriptors set, int* bad) {
  const int count = min(*set.count, set.capacity) * set.dims;
  bool finite = true;
  for (int i = static_cast<int>(blockIdx.x) * kThreads + static_cast<int>(threadIdx.x); i < count;
       i += static_cast<int>(gridDim.x) * kThreads)
    finite &= fabsf(set.rows[i]) < HUGE_VALF;
  if (!finite) *bad = 1;
}

// --- between the rooms ------------------------------------------------------------------------------------------
struct MatchChoice {
  Matches first, guided;
  const Estimate* found = nullptr;  // guided ones count where something was found; NULL: not yet
};

// Matches -> point pairs, in the order of the matches (best first).
__global__ void pair_up_kernel(MatchChoice choice, Keypoints fixed, Keypoints moving, Findings out) {
  const Matches& m = choice.found && choice.found->found ? choice.guided : choice.first;
  const int i = static_cast<int>(blockIdx.x * kThreads + threadIdx.x), count = *m.count;
  if (i == 0) out.numbers->matches = count;
  if (i >= count) return;
  for (int c = 0; c < 2; ++c) {
    out.fixed_xy[2 * i + c] = fixed.xy[2 * m.fixed[i] + c];
    out.moving_xy[2 * i + c] = moving.xy[2 * m.moving[i] + c];
  }
  out.score[i] = m.score[i];
}

struct Fit {
  Estimate *similarity, *upgraded;
  Refinement *homography, *quadratic, *fine;
  std::uint8_t *similarity_inlier, *upgraded_inlier;
  Transform* aside;       // Sidelobes::kCount
  Transform *start, *polished;
  RidgeCorrelation *agreement, *polished_agreement, *aside_agreement;
};

// How the rung and its polish show the images.
struct Views {
  Frames seen, fine;
};

__global__ void aligned_kernel(Fit fit, bool automatic, ModelOptions options, Sidelobes sidelobes,
                               Views views, Findings out) {
  Numbers& n = *out.numbers;
  const bool bent = automatic && pipeline_math::asks_for_bend(*fit.quadratic, options);
  const Transform T = (bent ? fit.quadratic : fit.homography)->T_fixed_moving;
  n.T_network = T;
  for (int i = 0; i < Sidelobes::kCount; ++i) sidelobes.shift(T, i, fit.aside[i]);
  Transform T_input, start;
  n.has_polished = views.seen.to_input(T, T_input) && views.fine.to_network(T_input, start);
  *fit.start = n.has_polished ? start : Transform{};
}

__global__ void polished_kernel(Fit fit, Views views, Findings out) {
  Numbers& n = *out.numbers;
  Transform T_input, T;
  n.has_polished = n.has_polished && views.fine.to_input(fit.fine->T_fixed_moving, T_input) &&
                   views.seen.to_network(T_input, T);
  if (!n.has_polished) return;
  n.polished.T_input = T_input, n.polished.T_network = T;
}

__global__ void set_kernel(Transform T, Transform* out) { *out = T; }

// What the rooms left behind, put together. One block.
__global__ void __launch_bounds__(kThreads) conclude_kernel(Fit fit, Findings out) {
  Numbers& n = *out.numbers;
  const bool found = fit.similarity->found;
  const std::uint8_t* inlier = found ? fit.upgraded_inlier : fit.similarity_inlier;
  double sum = 0;
  int count = 0;
  for (int i = static_cast<int>(threadIdx.x); i < n.matches; i += kThreads) {
    out.inlier[i] = inlier[i];
    if (inlier[i]) sum += static_cast<double>(out.score[i]), ++count;
  }
  sum = block_sum<kThreads>(sum), count = block_sum<kThreads>(count);
  if (threadIdx.x != 0) return;
  n.estimate = *fit.upgraded;
  n.found = found && fit.upgraded->found;
  n.inlier_similarity = count > 0 ? sum / count : 0;
  n.peak_to_sidelobe = pipeline_math::peak_to_sidelobe(n.agreement.score, fit.aside_agreement);
}

}  // namespace fastretina::cuda
