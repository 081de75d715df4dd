// nms and detect take the same options and return the same thing.
#pragma once

#include <algorithm>
#include <cstdint>

#include "array.h"
#include "nms/nms.h"

namespace fastretina::bindings {

// Runs a room that fills `Keypoints` without the GIL -> (xy (n, 2), score (n,)).
template <class Run>
py::tuple run_keypoints(Session& session, std::int64_t pixels, const NmsOptions& options, Run&& run) {
  NmsOptions limited = options;  // more key points than pixels need no memory
  if (limited.max_keypoints > 1)
    limited.max_keypoints =
        static_cast<int>(std::min<std::int64_t>(limited.max_keypoints, std::max<std::int64_t>(pixels, 1)));
  Workspace::Frame frame(session.workspace);
  const auto capacity = static_cast<std::size_t>(std::max(limited.max_keypoints, 1));
  int count = 0;
  const Keypoints out{session.workspace.take<float>(2 * capacity), session.workspace.take<float>(capacity), &count,
                      static_cast<int>(capacity)};
  {
    py::gil_scoped_release release;
    run(limited, out);
  }
  return py::make_tuple(copy_rows(out.xy, count, 2), copy_rows(out.score, count));
}

}  // namespace fastretina::bindings
