/* OpenVINO as the engine of a model: the CPU engine of the Python package, with the same settings. C99. */
#ifndef FASTRETINA_OPENVINO_H
#define FASTRETINA_OPENVINO_H

#include "fastretina.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Fills `engine`, to be given to one call of fastretina_model_load or fastretina_model_from_memory, which takes it
 * over. FASTRETINA_ENGINE_ERROR: OpenVINO or its CPU plugin cannot be loaded. */
fastretina_error fastretina_openvino_engine(fastretina_engine* engine);

#ifdef __cplusplus
}
#endif
#endif
