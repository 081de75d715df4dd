// Linked in place of backend_cuda.cpp where the build has no CUDA: the rooms need no #ifdef.
#include "core/backend.h"

namespace fastretina {

const Backend* cuda_backend() { return nullptr; }

}  // namespace fastretina
