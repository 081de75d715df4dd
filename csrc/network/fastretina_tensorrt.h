/* TensorRT (>= 10) or TensorRT-RTX as the engine of a model: a file of `fastretina engine build`, on an NVIDIA GPU. C99.
 *
 * UNPROVEN: compiled and tested against a stand-in for the SDK's headers (tests/capi/tensorrt), never yet against the
 * SDK itself, nor run on a GPU. TensorRT's terms restrict medical use without an agreement with NVIDIA (docs/GPU.md). */
#ifndef FASTRETINA_TENSORRT_H
#define FASTRETINA_TENSORRT_H

#include "fastretina.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Loads the engine file at `path` on this thread's current CUDA device, and fills `engine`, to be given to one call of
 * fastretina_model_load or fastretina_model_from_memory (weights: NULL; precision: that of the file), which takes it
 * over. The model's manifest must be of the network that the file was built from; weights_sha256: what it names for the
 * file's precision ([weights.onnx], for int8 [weights.onnx_int8]), 64 hexadecimal digits, or NULL: not compared.
 * FASTRETINA_ENGINE_ERROR: the file is missing, foreign, stale, or TensorRT cannot run it here. */
fastretina_error fastretina_tensorrt_engine(const char* path, const char* weights_sha256, fastretina_engine* engine);

#ifdef __cplusplus
}
#endif
#endif
