// The JSON of a transform, as python/fastretina/transform.py writes and reads it.
#pragma once

#include <string>
#include <string_view>

#include "capi/transform_steps.h"

namespace fastretina::capi {

std::string write_json(const TransformSteps& steps);

// Also the whole text of a transform.json. Throws InvalidArgument.
TransformSteps read_json(std::string_view text);

}  // namespace fastretina::capi
