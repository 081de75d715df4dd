// The one table of twins. Its types come from the CPU functions, so a CUDA twin whose signature drifted does not compile.
// NULL: there is no such twin.
#pragma once

#include "describe/describe.h"
#include "detect/detect.h"
#include "estimate/estimate.h"
#include "image/image.h"
#include "match/match.h"
#include "nms/nms.h"
#include "refine/refine.h"
#include "upsample/upsample.h"
#include "warp/warp.h"

namespace fastretina {

struct Backend {
  const char* name;
  decltype(&cpu::image) image = nullptr;
  decltype(&cpu::gray) gray = nullptr;
  decltype(&cpu::upsample) upsample = nullptr;
  decltype(&cpu::nms) nms = nullptr;
  decltype(&cpu::detect) detect = nullptr;
  decltype(&cpu::describe) describe = nullptr;
  decltype(&cpu::match) match = nullptr;
  decltype(&cpu::match_guided) match_guided = nullptr;
  decltype(&cpu::estimate) estimate = nullptr;
  decltype(&cpu::upgrade) upgrade = nullptr;
  decltype(&cpu::ridges) ridges = nullptr;
  decltype(&cpu::refine) refine = nullptr;
  decltype(&cpu::refine_field) refine_field = nullptr;
  decltype(&cpu::ridge_correlation) ridge_correlation = nullptr;
  decltype(&cpu::warp) warp = nullptr;
};

const Backend& cpu_backend();
const Backend* cuda_backend();  // NULL: this build has no CUDA twins

}  // namespace fastretina
