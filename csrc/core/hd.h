// Marks functions that decide a value: one definition, compiled for the host and for the device.
#pragma once

#ifdef __CUDACC__
#define FR_HD __host__ __device__ inline
#define FR_HD_FLAT __host__ __device__ __forceinline__
#define FR_HD_CALL __host__ __device__ __noinline__ inline
#define FR_SIDE __device__ inline
#else
#define FR_HD inline
// Always inlined: bodies of loops that are compiled for several instruction sets.
#if defined(__GNUC__)
#define FR_HD_FLAT [[gnu::always_inline]] inline
#else
#define FR_HD_FLAT inline
#endif
// Large, and called from many places: not inlined on the device, where ptxas would take minutes over the copies.
#define FR_HD_CALL inline
// Of the side that compiles it, the device in a .cu file: templates on what runs their loops.
#define FR_SIDE inline
#endif
