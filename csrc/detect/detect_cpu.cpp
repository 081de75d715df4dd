#include <algorithm>
#include <limits>
#include <memory>

#include "core/error.h"
#include "core/target.h"
#include "detect/detect.h"
#include "detect/detect_group.h"
#include "nms/nms_scan.h"
#include "nms/topk.h"
#include "upsample/upsample.h"
#include "upsample/upsample_math.h"
#include "upsample/upsample_rows.h"

namespace fastretina::cpu {
namespace {

constexpr int kGrain = 48;        // groups (rows of cells) a chunk; a chunk makes the groups around it anew
constexpr int kExpandedRing = 8;  // expanded rows kept; a group needs five
constexpr int kPad = 16;          // elements
constexpr float kNothing = -std::numeric_limits<float>::infinity();

std::size_t product(int a, int b) { return static_cast<std::size_t>(a) * static_cast<std::size_t>(b); }

// One thread's way down the map: it makes group after group into a ring of rows that is just high enough for a window,
// and searches the group that has become complete.
class Stream {
 public:
  Stream(Workspace& workspace, View<const float> difference, const Scan& scan, int grain)
      : difference_(difference),
        scan_(scan),
        kernels_(row_kernels()),
        width_(kStride * difference.width),
        halo_((scan.radius + kStride - 1) / kStride),
        ring_(2 * halo_ + 1),
        expanded_stride_(expanded_stride(difference.width)),
        // Whole cache lines, an odd number: the rows of a window do not fall into one cache set. One is padding.
        row_stride_((((width_ + 15) / 16 + 1) | 1) * kPad),
        flag_stride_(flag_stride(width_)) {
    expanded_ = workspace.take<float>(product(kExpandedRing, expanded_stride_));
    pad_ = workspace.take<float>(static_cast<std::size_t>(padded_size(difference.width)));
    // Every row with padding before it and up to the next one; the last row lies outside the map.
    const int outside = kStride * ring_;
    rows_ = workspace.take<float>(kPad + product(outside + 1, row_stride_)) + kPad;
    nothing_ = rows_ + product(outside, row_stride_);
    std::fill_n(rows_ - kPad, kPad, kNothing);
    for (int row = 0; row < outside; ++row)
      std::fill_n(rows_ + product(row, row_stride_) + expanded_stride_, row_stride_ - expanded_stride_, kNothing);
    std::fill_n(nothing_, row_stride_, kNothing);
    highest_ = workspace.take<float>(product(ring_, expanded_stride_ + 2 * kPad));
    for (int group = 1; group <= ring_; ++group)
      std::fill_n(highest_ + product(group, expanded_stride_ + 2 * kPad) - 2 * kPad, 2 * kPad, kNothing);
    flags_ = workspace.take<std::uint16_t>(product(kStride * ring_, flag_stride_));
    pointers_ = workspace.take<const float*>(product(kStride, grain + 2 * halo_));
    scratch_ = workspace.take<std::byte>(scan_scratch_bytes(width_));
  }

  // The key points of groups [begin, end) -> found, in no particular order; returns how many.
  int search(int begin, int end, Candidate* found) {
    const int h = difference_.height, first = std::max(begin - halo_, 0), last = std::min(end + halo_, h);
    for (int y = kStride * first; y < kStride * last; ++y) pointers_[y - kStride * first] = ring_row(y);
    std::fill_n(flags_, product(kStride * ring_, flag_stride_), std::uint16_t{0});
    next_source_ = std::max(first - 2, 0);
    int n = 0;
    for (int i = first; i < last + halo_; ++i) {
      if (i < last) make_group(i, first);
      if (i == h && use_avx512() && !by_columns()) flag_last_row();
      const int complete = i - halo_;  // every row that its windows reach is there, or past the map
      if (complete < begin || complete >= end) continue;
      const Rows rows{pointers_, kStride * first, std::min(kStride * (i + 1), kStride * last), width_};
#if FR_X86
      if (by_columns()) {
        // Finite maps never reach the limit. Sums that overflow may leave NaN, which hides pixels from one another.
        n += scan_group_avx512(scan_, rows, group(complete), scratch_, found + n);
        n = static_cast<int>(std::min<std::int64_t>(n, max_found(kStride * (end - begin), width_, scan_.radius)));
        continue;
      }
#endif
      for (int row = 0; row < kStride; ++row)
        n += scan_row(scan_, rows, kStride * complete + row,
                      use_avx512() ? flags_of(complete) + row * flag_stride_ : nullptr, scratch_, found + n);
    }
    return n;
  }

 private:
  bool use_avx512() const { return FR_X86 && scan_.radius > 0 && simd_level() >= SimdLevel::avx512; }
  bool by_columns() const { return use_avx512() && scan_.radius == kStride; }
  float* ring_row(int y) const { return rows_ + product(y % (kStride * ring_), row_stride_); }
  std::uint16_t* flags_of(int group) const { return flags_ + product(kStride * (group % ring_), flag_stride_); }
  std::uint16_t* column_flags_of(int group) const { return flags_of(group) + kPad; }  // zeros before and after
  float* highest_of(int group) const { return highest_ + product(group % ring_, expanded_stride_ + 2 * kPad); }
  float* expanded_row(int source) const { return expanded_ + product(source % kExpandedRing, expanded_stride_); }

  // Rows 4 i ... 4 i + 3 into the ring.
  void make_group(int i, [[maybe_unused]] int first) {  // first: for the kernels of one instruction set
    const int h = difference_.height;
    for (; next_source_ < std::min(i + 3, h); ++next_source_)
      kernels_.expand(pad_row(difference_.row(next_source_), difference_.width, pad_), difference_.width,
                      expanded_row(next_source_));
    const float* source[5];
    for (int k = 0; k < 5; ++k) source[k] = expanded_row(std::clamp(i - 2 + k, 0, h - 1));
    float* out[kStride];
    for (int phase = 0; phase < kStride; ++phase) out[phase] = ring_row(kStride * i + phase);

#if FR_X86
    if (by_columns()) {
      fill_columns_avx512(source, i > first ? ring_row(kStride * i - 1) : nothing_, width_, scan_.threshold, out,
                          highest_of(i), column_flags_of(i));
      return;
    }
    if (use_avx512()) {
      const bool has_above = i > first;
      const float* above[2] = {};
      if (has_above) above[0] = ring_row(kStride * i - 2), above[1] = ring_row(kStride * i - 1);
      fill_group_avx512(source, above, width_, scan_.threshold, out,
                        has_above ? flags_of(i - 1) + 3 * flag_stride_ : nullptr, flags_of(i), flag_stride_);
      return;
    }
#endif
    for (int phase = 0; phase < kStride; ++phase) {
      const float* taps[4];
      for (int k = 0; k < 4; ++k) taps[k] = source[2 + phase_tap(phase, k)];
      kernels_.blend(taps, phase, width_, out[phase]);
    }
  }

#if FR_X86
  Group group(int i) const {
    Group g;
    g.y = kStride * i;
    for (int row = 0; row < kStride; ++row) {
      g.own[row] = ring_row(g.y + row);
      g.near[row] = i > 0 ? ring_row(g.y - kStride + row) : nothing_;
      g.near[kStride + row] = i + 1 < difference_.height ? ring_row(g.y + kStride + row) : nothing_;
    }
    g.highest = highest_of(i);
    g.flags = column_flags_of(i);
    return g;
  }
#endif

  // Nothing lies below the map: its last row gets its flags when the groups have run out.
  void flag_last_row() {
#if FR_X86
    const int y = kStride * difference_.height - 1;
    flag_row_avx512(ring_row(y), ring_row(y - 1), nullptr, width_, scan_.threshold,
                    flags_of(difference_.height - 1) + 3 * flag_stride_);
#endif
  }

  View<const float> difference_;
  Scan scan_;
  RowKernels kernels_;
  int width_, halo_, ring_, expanded_stride_, row_stride_, flag_stride_;
  int next_source_ = 0;  // the next source row to expand
  float *expanded_ = nullptr, *pad_ = nullptr, *rows_ = nullptr, *nothing_ = nullptr, *highest_ = nullptr;
  std::uint16_t* flags_ = nullptr;
  const float** pointers_ = nullptr;
  std::byte* scratch_ = nullptr;
};

}  // namespace

void detect(const Context& context, Workspace& workspace, View<const float> difference, View<const std::uint8_t> mask,
            const NmsOptions& options, const Keypoints& out) {
  require(difference.width < (1 << 28) && difference.height < (1 << 28), "difference", "a side of 2^28 or more",
          "fewer than 2^31 output pixels");
  const int width = kStride * difference.width, height = kStride * difference.height;
  check_options(options, width, height, mask, out);
  *out.count = 0;
  if (difference.empty()) return;

  Workspace::Frame frame(workspace);
  const int threads = context.threads();
  const int grain = threads > 1 ? kGrain : difference.height;  // the cut into chunks decides no result
  CandidateLists lists(workspace, height, kStride * grain, width, options.radius, width);
  const Scan scan{options.radius, options.threshold, mask};
  auto* streams = workspace.take<Stream>(static_cast<std::size_t>(threads));
  for (int t = 0; t < threads; ++t) std::construct_at(streams + t, workspace, difference, scan, grain);

  context.parallel_for(difference.height, grain, [&](int begin, int end, int slot) {
    lists.count(begin / grain) = streams[slot].search(begin, end, lists.chunk(begin / grain));
  });

  *out.count = lists.best(workspace, options.max_keypoints, width, out);
}

}  // namespace fastretina::cpu
