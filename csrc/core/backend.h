// The one table of twins. Its types come from the CPU functions, so a CUDA twin whose signature drifted does not compile.
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
  decltype(&cpu::image) image;
  decltype(&cpu::gray) gray;
  decltype(&cpu::upsample) upsample;
  decltype(&cpu::nms) nms;
  decltype(&cpu::detect) detect;
  decltype(&cpu::describe) describe;
  decltype(&cpu::match) match;
  decltype(&cpu::match_guided) match_guided;
  decltype(&cpu::estimate) estimate;
  decltype(&cpu::upgrade) upgrade;
  decltype(&cpu::ridges) ridges;
  decltype(&cpu::refine) refine;
  decltype(&cpu::refine_field) refine_field;
  decltype(&cpu::ridge_correlation) ridge_correlation;
  decltype(&cpu::warp) warp;
};

const Backend& cpu_backend();
const Backend* cuda_backend();  // NULL: this build has no CUDA twins

}  // namespace fastretina
