if(CMAKE_VERSION VERSION_LESS 3.26)
  message(FATAL_ERROR "FASTRETINA_CUDA needs CMake 3.26, which knows C++20 of nvcc; this is ${CMAKE_VERSION}")
endif()
# The CUDA twins (FASTRETINA_CUDA). Every architecture from Turing on, and PTX of the newest for those to come.
if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
  set(CMAKE_CUDA_ARCHITECTURES 75-real 80-real 86-real 89-real 90-real 100-real 120)
endif()
enable_language(CUDA)
set(CMAKE_CUDA_STANDARD 20)
set(CMAKE_CUDA_STANDARD_REQUIRED ON)
set(CMAKE_CUDA_EXTENSIONS OFF)
find_package(CUDAToolkit REQUIRED)
set(cuda_runtime CUDA::cudart_static)

# Contraction is off, as on the host. ptxas reports registers, shared memory and spills of every kernel: kept beside the
# object, as NAME_cuda.cu.o.txt.
add_library(fastretina_cuda OBJECT ${cuda_twins})
target_include_directories(fastretina_cuda PRIVATE ${PROJECT_SOURCE_DIR}/csrc)
target_compile_options(fastretina_cuda PRIVATE -fmad=false --expt-relaxed-constexpr -Xptxas=-v -lineinfo
                                               -Xcompiler=-Wall,-Wextra,-ffp-contract=off,-fno-math-errno)
if(FASTRETINA_WERROR)
  target_compile_options(fastretina_cuda PRIVATE -Werror=all-warnings -Xcompiler=-Werror)
endif()
set_target_properties(fastretina_cuda PROPERTIES CUDA_VISIBILITY_PRESET hidden
                                                 CUDA_COMPILER_LAUNCHER "${PROJECT_SOURCE_DIR}/csrc/core/keep_report")
target_link_libraries(fastretina_cuda PRIVATE CUDA::cudart_static)
list(APPEND room_objects $<TARGET_OBJECTS:fastretina_cuda>)
