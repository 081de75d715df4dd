#include <algorithm>

#include "core/error.h"
#include "core/target.h"
#include "detect/detect.h"
#include "detect/detect_band.h"
#include "nms/nms_scan.h"
#include "nms/topk.h"
#include "upsample/upsample.h"
#include "upsample/upsample_math.h"
#include "upsample/upsample_rows.h"

namespace fastretina::cpu {
namespace {

constexpr int kGrain = 32;  // source rows a chunk

// What one thread works in: the largest band of a call.
struct Slot {
  float* expanded;  // expanded source rows
  float* band;
  float* pad;
  const float** rows;
  std::uint16_t* flags;
  std::byte* scan;
};

struct Layout {
  int halo;             // groups of four rows that windows reach on either side
  int groups;           // of the largest band
  int expanded_stride;  // elements
  int band_stride;      // elements: whole cache lines, an odd number, so that a strip does not fall into one cache set
  int words;

  Layout(int width, int height, int radius)
      : halo((radius + kStride - 1) / kStride),
        groups(std::min(kGrain + 2 * halo, height)),
        expanded_stride(cpu::expanded_stride(width)),
        band_stride(((kStride * width + 15) / 16 | 1) * 16),
        words(flag_words(kStride * width)) {}

  Slot take(Workspace& workspace, int width) const {
    const auto n = [](int count, int size) { return static_cast<std::size_t>(count) * static_cast<std::size_t>(size); };
    return {workspace.take<float>(n(groups + 4, expanded_stride)),
            workspace.take<float>(n(kStride * groups, band_stride)),
            workspace.take<float>(n(padded_size(width), 1)),
            workspace.take<const float*>(n(groups + 4, 1)),
            workspace.take<std::uint16_t>(n(kStride * groups, words)),
            workspace.take<std::byte>(scan_scratch_bytes(kStride * width))};
  }
};

// Rows 4 first ... 4 last - 1 of the confidence map into the slot's band; true if the flags were made on the way.
bool fill_band(const RowKernels& kernels, View<const float> difference, int first, int last, int radius,
               float threshold, const Layout& layout, const Slot& slot, View<float>& band) {
  const int h = difference.height;
  const int top = std::max(first - 2, 0), bottom = std::min(last + 2, h);
  expand_rows(kernels, difference, top, bottom, slot.pad, slot.expanded, layout.expanded_stride);
  for (int i = first - 2; i < last + 2; ++i)
    slot.rows[i - first + 2] =
        slot.expanded + static_cast<std::ptrdiff_t>(std::clamp(i, 0, h - 1) - top) * layout.expanded_stride;
  band = {slot.band, kStride * difference.width, kStride * (last - first), layout.band_stride};

#if FR_X86
  if (radius > 0 && simd_level() >= SimdLevel::avx512) {
    fill_band_avx512(slot.rows, first, last, threshold, band, slot.flags);
    return true;
  }
#endif
  for (int i = 0; i < last - first; ++i)
    for (int phase = 0; phase < kStride; ++phase) {
      const float* taps[4];
      for (int k = 0; k < 4; ++k) taps[k] = slot.rows[i + 2 + phase_tap(phase, k)];
      kernels.blend(taps, phase, band.width, band.row(kStride * i + phase));
    }
  return false;
}

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
  CandidateLists lists(workspace, height, kStride * kGrain, width, options.radius);
  const Layout layout(difference.width, difference.height, options.radius);
  auto* slots = workspace.take<Slot>(static_cast<std::size_t>(context.threads()));
  for (int t = 0; t < context.threads(); ++t) slots[t] = layout.take(workspace, difference.width);
  const RowKernels kernels = row_kernels();

  context.parallel_for(difference.height, kGrain, [&](int begin, int end, int slot_index) {
    const Slot& slot = slots[slot_index];
    const int first = std::max(begin - layout.halo, 0), last = std::min(end + layout.halo, difference.height);
    View<float> band;
    const bool flagged =
        fill_band(kernels, difference, first, last, options.radius, options.threshold, layout, slot, band);
    const Scan s{band, kStride * first, kStride * (begin - first), kStride * (end - first),
                 mask, options.radius,  options.threshold};
    const int chunk = begin / kGrain;
    lists.count(chunk) = scan(s, flagged ? slot.flags : nullptr, slot.scan, lists.chunk(chunk));
  });

  *out.count = lists.best(workspace, options.max_keypoints, width, out);
}

}  // namespace fastretina::cpu
