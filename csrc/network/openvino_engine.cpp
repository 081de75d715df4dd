// The adapter to OpenVINO, for the C ABI's engine interface alone: your build compiles it against your OpenVINO, so
// that the library itself depends on none. The settings are those of python/fastretina/engines/openvino_engine.py.
#include <algorithm>
#include <cstdint>
#include <exception>
#include <memory>
#include <openvino/openvino.hpp>
#include <string>
#include <utility>
#include <vector>

#include "fastretina_openvino.h"

namespace {

struct Runtime {
  ov::Core core;
  std::vector<std::string> capabilities = core.get_property("CPU", ov::device::capabilities);
};

struct Instance {
  ov::InferRequest infer;
  std::size_t stride, dims;
};

template <class Body>
fastretina_error guarded(Body&& body) noexcept {
  try {
    body();
    return FASTRETINA_SUCCESS;
  } catch (const std::bad_alloc&) {
    return fastretina_fail(FASTRETINA_OUT_OF_MEMORY, "openvino: there is not enough memory");
  } catch (const std::exception& error) {
    return fastretina_fail(FASTRETINA_ENGINE_ERROR, error.what());
  } catch (...) {
    return fastretina_fail(FASTRETINA_ENGINE_ERROR, "openvino: an unknown exception");
  }
}

std::int32_t supports(void* user, fastretina_precision precision) {
  const char* needed = precision == FASTRETINA_PRECISION_INT8   ? ov::device::capability::INT8
                       : precision == FASTRETINA_PRECISION_BF16 ? ov::device::capability::BF16
                       : precision == FASTRETINA_PRECISION_F32  ? ov::device::capability::FP32
                                                                : "";  // f16: no CPU runs it natively today
  const auto& native = static_cast<Runtime*>(user)->capabilities;
  return std::find(native.begin(), native.end(), needed) != native.end();
}

fastretina_error open_instance(void* user, const fastretina_network* network, std::int32_t threads, void** instance) {
  return guarded([&] {
    if (network->weights == nullptr) throw std::runtime_error("openvino: got no weights, expected an ONNX file");
    ov::Core& core = static_cast<Runtime*>(user)->core;
    const std::string onnx(static_cast<const char*>(network->weights), static_cast<std::size_t>(network->weights_size));
    const auto model = core.read_model(onnx, ov::Tensor());
    // Compiled once for every size: as fast as for one size, and the ladder shows images at many.
    model->reshape(ov::PartialShape{1, 1, -1, -1});
    const bool bf16 = network->precision == FASTRETINA_PRECISION_BF16;
    const ov::AnyMap config{ov::inference_num_threads(threads), ov::num_streams(1),
                            ov::hint::inference_precision(bf16 ? ov::element::bf16 : ov::element::f32),
                            ov::hint::enable_cpu_pinning(false)};
    *instance = new Instance{core.compile_model(model, "CPU", config).create_infer_request(),
                             static_cast<std::size_t>(network->stride), static_cast<std::size_t>(network->dims)};
  });
}

void check_output(const ov::Tensor& tensor, const ov::Shape& expected, const char* name) {
  if (tensor.get_element_type() != ov::element::f32 || tensor.get_shape() != expected)
    throw std::runtime_error(std::string("openvino: output ") + name + ": got " + tensor.get_shape().to_string() +
                             " of " + tensor.get_element_type().get_type_name() + ", expected " + expected.to_string() +
                             " of f32");
}

fastretina_error run_instance(void* instance, const fastretina_plane* plane, fastretina_maps* maps) {
  return guarded([&] {
    auto& [infer, stride, dims] = *static_cast<Instance*>(instance);
    const auto height = static_cast<std::size_t>(plane->height), width = static_cast<std::size_t>(plane->width);
    ov::Tensor in = infer.get_input_tensor();
    in.set_shape({1, 1, height, width});
    float* input = in.data<float>();
    for (std::int32_t y = 0; y < plane->height; ++y)
      std::copy_n(plane->data + y * plane->row_floats, plane->width, input + std::int64_t{y} * plane->width);
    infer.infer();
    const ov::Tensor class_maps = infer.get_output_tensor(0), descriptors = infer.get_output_tensor(1);
    check_output(class_maps, {1, 2, height / stride, width / stride}, "0 (class maps)");
    check_output(descriptors, {1, dims, height / stride, width / stride}, "1 (descriptors)");
    maps->class_maps = class_maps.data<const float>();
    maps->descriptors = descriptors.data<const float>();
  });
}

void close_instance(void* instance) { delete static_cast<Instance*>(instance); }
void release(void* user) { delete static_cast<Runtime*>(user); }

}  // namespace

extern "C" fastretina_error fastretina_openvino_engine(fastretina_engine* engine) {
  return guarded([&] {
    if (engine == nullptr) throw std::invalid_argument("engine: got NULL, expected a pointer");
    *engine = {sizeof(fastretina_engine),
               "openvino",
               new Runtime,
               supports,
               open_instance,
               run_instance,
               close_instance,
               release};
  });
}
