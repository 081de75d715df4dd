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

constexpr std::size_t kMostShapes =
    16;  // compiled networks kept, one per plane size: static shapes run faster, and sizes are few

struct Runtime {
  ov::Core core;
  std::vector<std::string> capabilities = core.get_property("CPU", ov::device::capabilities);
};

struct Request {
  std::int32_t width, height;
  ov::InferRequest infer;
};

struct Instance {
  ov::Core core;  // shares the runtime's
  std::shared_ptr<ov::Model> model;
  ov::AnyMap config;
  std::int32_t stride, dims;
  std::vector<Request> requests;
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
    auto made = std::make_unique<Instance>();
    made->core = static_cast<Runtime*>(user)->core;
    const std::string onnx(static_cast<const char*>(network->weights), static_cast<std::size_t>(network->weights_size));
    made->model = made->core.read_model(onnx, ov::Tensor());
    const bool bf16 = network->precision == FASTRETINA_PRECISION_BF16;
    made->config = {ov::inference_num_threads(threads), ov::num_streams(1),
                    ov::hint::inference_precision(bf16 ? ov::element::bf16 : ov::element::f32),
                    ov::hint::enable_cpu_pinning(false)};
    made->stride = network->stride;
    made->dims = network->dims;
    *instance = made.release();
  });
}

void check_output(const ov::Tensor& tensor, const ov::Shape& expected, const char* name) {
  if (tensor.get_element_type() != ov::element::f32 || tensor.get_shape() != expected)
    throw std::runtime_error(std::string("openvino: output ") + name + ": got " + tensor.get_shape().to_string() +
                             " of " + tensor.get_element_type().get_type_name() + ", expected " + expected.to_string() +
                             " of f32");
}

Request compile(Instance& instance, const fastretina_plane& plane) {
  const auto model = instance.model->clone();
  model->reshape(ov::PartialShape{1, 1, plane.height, plane.width});
  Request request{plane.width, plane.height,
                  instance.core.compile_model(model, "CPU", instance.config).create_infer_request()};
  const auto h = static_cast<std::size_t>(plane.height / instance.stride),
             w = static_cast<std::size_t>(plane.width / instance.stride);
  check_output(request.infer.get_output_tensor(0), {1, 2, h, w}, "0 (class maps)");
  check_output(request.infer.get_output_tensor(1), {1, static_cast<std::size_t>(instance.dims), h, w},
               "1 (descriptors)");
  return request;
}

// The first run at a size compiles for it.
Request& request_for(Instance& instance, const fastretina_plane& plane) {
  auto& all = instance.requests;
  const auto fits = [&](const Request& r) { return r.width == plane.width && r.height == plane.height; };
  const auto found = std::find_if(all.begin(), all.end(), fits);
  if (found != all.end()) return *found;
  Request made = compile(instance, plane);
  if (all.size() == kMostShapes) all.erase(all.begin());
  all.push_back(std::move(made));
  return all.back();
}

fastretina_error run_instance(void* instance, const fastretina_plane* plane, fastretina_maps* maps) {
  return guarded([&] {
    ov::InferRequest& infer = request_for(*static_cast<Instance*>(instance), *plane).infer;
    float* input = infer.get_input_tensor().data<float>();
    for (std::int32_t y = 0; y < plane->height; ++y)
      std::copy_n(plane->data + y * plane->row_floats, plane->width, input + std::int64_t{y} * plane->width);
    infer.infer();
    maps->class_maps = infer.get_output_tensor(0).data<const float>();
    maps->descriptors = infer.get_output_tensor(1).data<const float>();
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
