// nms and detect take the same options and return the same thing.
#pragma once

#include <algorithm>
#include <cstdint>

#include "placed.h"
#include "nms/nms.h"

namespace fastretina::bindings {

// Runs a room that fills `Keypoints` without the GIL -> (xy (n, 2), score (n,)).
template <class Run>
py::tuple run_keypoints(Session& session, std::int64_t pixels, const NmsOptions& options, Run&& run) {
  NmsOptions limited = options;  // more key points than pixels need no memory
  if (limited.max_keypoints > 1)
    limited.max_keypoints =
        static_cast<int>(std::min<std::int64_t>(limited.max_keypoints, std::max<std::int64_t>(pixels, 1)));
  const Workspace::Frame frame(session.workspace);
  const int capacity = std::max(limited.max_keypoints, 1);
  const OutputOf<float> xy(session, {capacity, 2}), score(session, {capacity});
  Place<int> count(session);
  const Keypoints out{xy.data(), score.data(), count.at(), capacity};
  {
    py::gil_scoped_release release;
    run(limited, out);
  }
  const int n = count.get();
  return py::make_tuple(xy.first(n), score.first(n));
}

}  // namespace fastretina::bindings
