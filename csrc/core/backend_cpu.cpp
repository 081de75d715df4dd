#include "core/backend.h"

namespace fastretina {

const Backend& cpu_backend() {
  static constexpr Backend kTable = {
      "cpu",          &cpu::image,        &cpu::gray,     &cpu::upsample, &cpu::nms,    &cpu::detect, &cpu::describe,
      &cpu::match,    &cpu::match_guided, &cpu::estimate, &cpu::upgrade,  &cpu::ridges, &cpu::refine, &cpu::refine_field,
      &cpu::ridge_correlation, &cpu::warp};
  return kTable;
}

}  // namespace fastretina
