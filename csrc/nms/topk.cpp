#include "nms/topk.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "core/order.h"

namespace fastretina::cpu {
namespace {

constexpr int kBuckets = 4096;

// Bucket 0 holds the best scores. Subtraction, product and truncation are monotone, so the order of buckets never
// contradicts the order of scores; f64 keeps every intermediate finite. An infinite score leaves one bucket for all.
struct Bucketing {
  double top, scale;
  int operator()(float score) const {
    const double at = (top - static_cast<double>(score)) * scale;
    return at > 0 ? static_cast<int>(at) : 0;
  }
};

Bucketing bucketing(const Candidate* candidates, int n) {
  float low = candidates[0].score, high = low;
  for (int i = 1; i < n; ++i) {
    low = std::min(low, candidates[i].score);
    high = std::max(high, candidates[i].score);
  }
  const double range = static_cast<double>(high) - static_cast<double>(low);
  return {high, range > 0 ? (kBuckets - 1) / range : 0.0};
}

bool before(const Candidate& a, const Candidate& b) { return better(a.score, a.index, b.score, b.index); }

// For elements that are at most one bucket away from their place.
void insertion_sort(Candidate* begin, Candidate* end) {
  for (Candidate* i = begin + 1; i < end; ++i) {
    const Candidate x = *i;
    Candidate* j = i;
    for (; j > begin && before(x, j[-1]); --j) *j = j[-1];
    *j = x;
  }
}

}  // namespace

std::size_t topk_scratch_bytes(int n) {
  return static_cast<std::size_t>(n) * (sizeof(Candidate) + sizeof(std::uint16_t));
}

int topk(const Candidate* candidates, int n, int k, int map_width, void* scratch, const Keypoints& out) {
  const int kept = std::min(n, k);
  if (kept <= 0) return 0;
  auto* sorted = static_cast<Candidate*>(scratch);
  auto* bucket_of = reinterpret_cast<std::uint16_t*>(sorted + n);

  // One counting pass; the scatter leaves out the buckets that lie behind the k-th element.
  const Bucketing bucket = bucketing(candidates, n);
  std::array<int, kBuckets + 1> start{};
  for (int i = 0; i < n; ++i) {
    bucket_of[i] = static_cast<std::uint16_t>(bucket(candidates[i].score));
    ++start[static_cast<std::size_t>(bucket_of[i]) + 1];
  }
  int last = 0, largest = 0;  // the bucket of the k-th element; the most elements in one bucket
  for (std::size_t b = 0; b < kBuckets && start[b] < kept; ++b) {
    largest = std::max(largest, start[b + 1]);
    start[b + 1] += start[b];
    last = static_cast<int>(b);
  }
  for (int i = 0; i < n; ++i)
    if (bucket_of[i] <= last) sorted[start[bucket_of[i]]++] = candidates[i];
  // Now start[b] is where bucket b ends.

  // Buckets hold one or two elements each unless the scores are very uneven.
  const auto buckets = static_cast<std::size_t>(last) + 1;
  if (largest > 32)
    for (std::size_t b = 0, begin = 0; b < buckets; begin = static_cast<std::size_t>(start[b++]))
      if (static_cast<std::size_t>(start[b]) - begin > 32) std::sort(sorted + begin, sorted + start[b], before);
  insertion_sort(sorted, sorted + start[buckets - 1]);

  // index / width: the half keeps the product off the integers, and f64 is exact enough for 31-bit indices.
  const double per_row = 1.0 / map_width;
  for (int i = 0; i < kept; ++i) {
    const auto index = static_cast<int>(sorted[i].index);
    const int y = static_cast<int>((index + 0.5) * per_row);
    out.xy[2 * i] = static_cast<float>(index - y * map_width);
    out.xy[2 * i + 1] = static_cast<float>(y);
    out.score[i] = sorted[i].score;
  }
  return kept;
}

CandidateLists::CandidateLists(Workspace& workspace, int rows, int grain, int width, int radius, int spare)
    : chunks_((rows + grain - 1) / grain), capacity_(max_found(grain, width, radius) + 1 + spare) {
  candidates_ = workspace.take<Candidate>(static_cast<std::size_t>(chunks_ * capacity_));
  counts_ = workspace.take<int>(static_cast<std::size_t>(chunks_));
}

int CandidateLists::best(Workspace& workspace, int k, int map_width, const Keypoints& out) {
  int n = counts_[0];
  for (int c = 1; c < chunks_; ++c) {  // close the gaps
    std::memmove(candidates_ + n, chunk(c), static_cast<std::size_t>(counts_[c]) * sizeof(Candidate));
    n += counts_[c];
  }
  return topk(candidates_, n, k, map_width, workspace.take<std::byte>(topk_scratch_bytes(n)), out);
}

}  // namespace fastretina::cpu
