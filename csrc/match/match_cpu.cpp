// Mutual nearest neighbours by one pass over the tiles of the score matrix, which is never stored.
#include <algorithm>
#include <limits>

#include "core/error.h"
#include "core/order.h"
#include "match/match.h"
#include "match/match_kernels.h"
#include "match/match_math.h"
#include "match/match_screen.h"
#include "match/match_select.h"

namespace fastretina::cpu {
namespace {

using namespace matching;

constexpr float kLowest = -std::numeric_limits<float>::infinity();
constexpr std::ptrdiff_t kBlockBytes = 512 * 1024;  // packed panels that stay in the second-level cache
constexpr int kRowGrain = 1024, kEncodeGrain = 64;

Best take_best(Workspace& workspace, std::size_t count, bool second, bool close) {
  Best best{workspace.take<float>(count), workspace.take<int>(count), second ? workspace.take<float>(count) : nullptr,
            close ? workspace.take<Shortlist>(count) : nullptr};
  std::fill_n(best.score, count, kLowest);
  std::fill_n(best.index, count, -1);
  if (second) std::fill_n(best.second, count, kLowest);
  for (std::size_t i = 0; close && i < count; ++i) best.close[i].count = 0;
  return best;
}

Best offset(const Best& best, std::ptrdiff_t by) {
  return {best.score + by, best.index + by, best.second ? best.second + by : nullptr,
          best.close ? best.close + by : nullptr};
}

// The rows as words; the floats themselves where the kernel takes them.
const void* encode(const Context& context, Workspace& workspace, const float* rows, int n, int dims, int per_word,
                   void (*encoder)(const float*, int, int, void*)) {
  if (encoder == nullptr) return rows;
  const std::size_t steps = static_cast<std::size_t>((dims + per_word - 1) / per_word);
  std::uint32_t* words = workspace.take<std::uint32_t>(static_cast<std::size_t>(n) * steps);
  context.parallel_for(n, kEncodeGrain, [&](int begin, int end, int) {
    encoder(rows + std::ptrdiff_t{begin} * dims, end - begin, dims, words + begin * steps);
  });
  return words;
}

// -128 times the sum of every row's bytes, zero in the padding: see the i8 kernel.
void column_start(const void* words, std::ptrdiff_t steps, int n, int padded, std::int32_t* start) {
  const std::int8_t* bytes = static_cast<const std::int8_t*>(words);
  for (int i = 0; i < n; ++i) {
    std::int32_t sum = 0;
    for (std::ptrdiff_t k = 0; k < 4 * steps; ++k) sum += bytes[i * 4 * steps + k];
    start[i] = -128 * sum;
  }
  std::fill(start + n, start + padded, 0);
}

// The column's best over all slots, left in slot 0. The order is total: it does not matter which slot saw which rows.
void combine_slots(const Best& best, int slots, int padded, int columns, float margin) {
  for (int slot = 1; slot < slots; ++slot) {
    const Best other = offset(best, std::ptrdiff_t{slot} * padded);
    for (int j = 0; j < columns; ++j) {
      if (best.close) {
        merge(best.close[j], best.score[j], other.close[j], other.score[j], margin);
        continue;
      }
      const float loser = std::min(best.score[j], other.score[j]);
      if (best.second) best.second[j] = std::max({best.second[j], other.second[j], loser});
      if (other.index[j] < 0) continue;
      if (best.index[j] < 0 || better(other.score[j], other.index[j], best.score[j], best.index[j])) {
        best.score[j] = other.score[j];
        best.index[j] = other.index[j];
      }
    }
  }
}

// With a margin, shortlists too: see match_screen.h.
struct Bests {
  Best rows, columns;
};

Bests search(const Context& context, Workspace& workspace, const Descriptors& fixed, const Descriptors& moving,
             Precision precision, bool second, float margin) {
  const int n = *fixed.count, m = *moving.count, dims = fixed.dims;
  const Kernel kernel = choose_kernel(precision, simd_level());
  const int panels = (m + kernel.panel_width - 1) / kernel.panel_width, padded = panels * kernel.panel_width;
  Tiles all;
  all.steps = (dims + kernel.per_word - 1) / kernel.per_word;
  all.columns = m;
  all.margin = margin;
  all.row_best = take_best(workspace, static_cast<std::size_t>(n), second, margin > 0.0f);
  all.column_best = take_best(workspace, static_cast<std::size_t>(padded) * static_cast<std::size_t>(context.threads()),
                              second, margin > 0.0f);

  all.rows = encode(context, workspace, fixed.rows, n, dims, kernel.per_word, kernel.encode_fixed);
  float* packed = workspace.take<float>(static_cast<std::size_t>(padded) * static_cast<std::size_t>(all.steps));
  std::int32_t* start = kernel.moving_start ? workspace.take<std::int32_t>(static_cast<std::size_t>(padded)) : nullptr;
  {
    Workspace::Frame frame(workspace);
    const void* words = encode(context, workspace, moving.rows, m, dims, kernel.per_word, kernel.encode_moving);
    context.parallel_for(panels, 1,
                         [&](int begin, int end, int) { kernel.pack(words, all.steps, m, begin, end, packed); });
    if (start != nullptr) column_start(words, all.steps, m, padded, start);
  }
  all.panels = packed;
  all.start = start;

  const std::ptrdiff_t panel_bytes = all.steps * kernel.panel_width * 4;
  const int block = static_cast<int>(std::max<std::ptrdiff_t>(1, kBlockBytes / panel_bytes));
  context.parallel_for(n, kRowGrain, [&](int begin, int end, int slot) {
    Tiles tiles = all;
    tiles.row_begin = begin;
    tiles.row_end = end;
    tiles.column_best = offset(all.column_best, std::ptrdiff_t{slot} * padded);
    for (int panel = 0; panel < panels; panel += block) {
      tiles.panel_begin = panel;
      tiles.panel_end = std::min(panel + block, panels);
      kernel.run(tiles);
    }
  });
  combine_slots(all.column_best, context.threads(), padded, m, margin);
  return {all.row_best, all.column_best};
}

}  // namespace

void match(const Context& context, Workspace& workspace, const Descriptors& fixed, const Descriptors& moving,
           const MatchOptions& options, const Matches& out) {
  require(options.precision != Precision::f16, "precision", "f16", "f32, bf16 or i8");
  const int n = *fixed.count, m = *moving.count;
  require(out.capacity >= std::min(n, m), "out", "too small a capacity", "at least the smaller count");
  *out.count = 0;
  if (n == 0 || m == 0) return;
  Workspace::Frame frame(workspace);
  const bool second = options.ratio < 1.0f;
  const float margin =
      options.precision == Precision::f32 && !second ? choose_margin(simd_level(), fixed, moving) : 0.0f;
  Bests best =
      search(context, workspace, fixed, moving, margin > 0.0f ? Precision::bf16 : options.precision, second, margin);
  if (margin > 0.0f && !settle(context, fixed, moving, margin, best.rows, best.columns))
    best = search(context, workspace, fixed, moving, options.precision, second, 0.0f);
  const auto score_of = [&](float raw) { return options.precision == Precision::i8 ? i8_score(raw) : raw; };

  Matches found = take_matches(workspace, n);
  int count = 0;
  for (int i = 0; i < n; ++i) {
    const int j = best.rows.index[i];
    if (j < 0 || best.columns.index[j] != i) continue;  // no j: every similarity of the row is NaN
    const float score = score_of(best.rows.score[i]);
    if (!(score >= options.min_similarity)) continue;
    if (second && !(passes_ratio(score, score_of(best.rows.second[i]), options.ratio) &&
                    passes_ratio(score, score_of(best.columns.second[j]), options.ratio)))
      continue;
    found.fixed[count] = i;
    found.moving[count] = j;
    found.score[count++] = score;
  }
  write_sorted(workspace, found, count, out);
}

}  // namespace fastretina::cpu
