// Marks functions that decide a value: one definition, compiled for the host and for the device.
#pragma once

#ifdef __CUDACC__
#define FR_HD __host__ __device__ inline
#else
#define FR_HD inline
#endif
