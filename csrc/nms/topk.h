// The k best of n candidates, sorted by better().
#pragma once

#include "core/workspace.h"
#include "nms/nms_scan.h"

namespace fastretina::cpu {

std::size_t topk_scratch_bytes(int n);

// One list of candidates a chunk of rows, so that chunks can run on any thread.
class CandidateLists {
 public:
  // `rows` rows in chunks of `grain`, at most max_found(grain, width, radius) + 1 entries each, and `spare` for a scan to use.
  CandidateLists(Workspace& workspace, int rows, int grain, int width, int radius, int spare = 0);
  Candidate* chunk(int c) { return candidates_ + c * capacity_; }
  int& count(int c) { return counts_[c]; }
  int best(Workspace& workspace, int k, int map_width, const Keypoints& out);  // topk of all lists

 private:
  int chunks_;
  std::ptrdiff_t capacity_;
  Candidate* candidates_;
  int* counts_;
};

// Sorted into out; returns min(n, k). Needs topk_scratch_bytes(n) of scratch (64-byte aligned).
int topk(const Candidate* candidates, int n, int k, int map_width, void* scratch, const Keypoints& out);

}  // namespace fastretina::cpu
