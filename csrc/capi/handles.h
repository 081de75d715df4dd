// What stands behind the opaque handles.
#pragma once

#include <cstdint>
#include <memory>

#include "capi/engine.h"
#include "capi/fastretina.h"
#include "capi/transform_steps.h"
#include "pipeline.h"

struct fastretina_model {
  std::shared_ptr<const fastretina::capi::Model> shared;
};

struct fastretina_session {
  std::uint64_t id;  // tells which session made a `prepared`: never given twice, unlike an address
  fastretina::Session core;
};

struct fastretina_prepared {
  std::uint64_t session_id = 0;  // 0: empty
  fastretina::Prepared core;
};

struct fastretina_transform {
  fastretina::capi::TransformSteps steps;
};
