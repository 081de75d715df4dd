/* fastretina: registration of two retinal images of any modality, for device software. C99.
 *
 *   model     a network and the engine that runs it. Immutable.
 *   session   threads, scratch memory and compiled networks of one caller.
 *   prepared  the features of one image, made by a session: a live stream prepares its reference once.
 *   transform a map MOVING (x, y) -> FIXED (x, y). Pixel centres are at integers, x to the right, y down.
 *
 * Threads    Any number of threads may share a model. A session, what it prepared, and a transform that is written to,
 * are used by one thread at a time. No other state is shared. Ownership  What a ..._create or ..._load function gives
 * is the caller's, who ends it with the matching ..._destroy. Handles may be destroyed in any order; destroying NULL
 * does nothing. No argument is kept after a call, unless its comment says so. Errors     A function that can fail
 * returns a fastretina_error; fastretina_last_error() then says, on the same thread, which argument it was, what was
 * got and what is allowed. Out-parameters are untouched by a failed call, but for a `prepared` or a `transform` that
 * was to be written: these are empty then. A pair that cannot be registered is no error but a result: see
 * fastretina_result.status. Nothing here throws, prints or aborts. Memory     A session and a `prepared` keep what they
 * allocated: after two frames of a size nothing here allocates (docs/EMBEDDING.md, also on what the engine allocates).
 * Versions   A struct that begins with struct_size may grow at its end; its ..._init or ..._default function sets that
 *            member, and a program that was compiled with an older header keeps working. What the library hands to an
 *            engine may grow at its end, too; fastretina_image and fastretina_mutable_image stay as they are.
 * Enumerators keep their values; new ones may appear. Whatever breaks this raises FASTRETINA_ABI_VERSION and the
 * library's SONAME.
 */
#ifndef FASTRETINA_H
#define FASTRETINA_H

#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32) && !defined(FASTRETINA_STATIC)
#ifdef FASTRETINA_BUILDING
#define FASTRETINA_API __declspec(dllexport)
#else
#define FASTRETINA_API __declspec(dllimport)
#endif
#elif defined(__GNUC__)
#define FASTRETINA_API __attribute__((visibility("default")))
#else
#define FASTRETINA_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ---- version ---------------------------------------------------------------------------------------------------- */

#define FASTRETINA_ABI_VERSION 1

FASTRETINA_API int32_t fastretina_abi_version(void); /* of the library: compare with FASTRETINA_ABI_VERSION */
FASTRETINA_API const char* fastretina_version(void); /* "major.minor.patch" */

/* ---- errors ----------------------------------------------------------------------------------------------------- */

typedef int32_t fastretina_error;
enum {
  FASTRETINA_SUCCESS = 0,
  FASTRETINA_INVALID_ARGUMENT = 1, /* misuse: a wrong pointer, shape, value, option or text */
  FASTRETINA_ENGINE_ERROR = 2,     /* a network that is missing, altered, broken or cannot run here */
  FASTRETINA_OUT_OF_MEMORY = 3,
  FASTRETINA_INTERNAL_ERROR = 4 /* a defect of this library */
};

/* What the last failed call on this thread had to say, UTF-8, "" if none failed. Valid until the next call on it. */
FASTRETINA_API const char* fastretina_last_error(void);

/* For engines: sets this thread's error text (copied, at most 1023 bytes; NULL: "") and returns `error`. */
FASTRETINA_API fastretina_error fastretina_fail(fastretina_error error, const char* text);

/* ---- images ----------------------------------------------------------------------------------------------------- */

typedef int32_t fastretina_format;
enum {
  FASTRETINA_GRAY_U8 = 0,
  FASTRETINA_GRAY_U16 = 1,
  FASTRETINA_GRAY_F32 = 2, /* finite, in [0, 1] */
  FASTRETINA_RGB_U8 = 3,   /* interleaved */
  FASTRETINA_RGB_U16 = 4,
  FASTRETINA_RGB_F32 = 5
};

/* Shorter side 64 px or more. data is aligned for its element type. */
typedef struct fastretina_image {
  const void* data;
  int64_t row_bytes; /* from one row to the next: at least width pixels, a multiple of the element's size */
  int32_t width, height;
  fastretina_format format;
} fastretina_image;

/* The same, to be written. */
typedef struct fastretina_mutable_image {
  void* data;
  int64_t row_bytes;
  int32_t width, height;
  fastretina_format format;
} fastretina_mutable_image;

/* ---- the network's engine --------------------------------------------------------------------------------------- */

typedef int32_t fastretina_precision;
enum {
  FASTRETINA_PRECISION_AUTO = -1, /* the fastest of int8, bf16, f16, f32 that the engine runs natively */
  FASTRETINA_PRECISION_F32 = 0,   /* the portable setting */
  FASTRETINA_PRECISION_BF16 = 1,
  FASTRETINA_PRECISION_F16 = 2,
  FASTRETINA_PRECISION_INT8 = 3
};

/* What an engine is to run. The struct is gone after open(); what it points to stays until the instance is closed. */
typedef struct fastretina_network {
  const char* name;
  const void* weights; /* the ONNX file of this precision, checked against its manifest; NULL: the engine has its own */
  uint64_t weights_size;
  fastretina_precision precision;
  int32_t stride;   /* of both maps: 4 px */
  int32_t multiple; /* sides of every plane are multiples of this */
  int32_t dims;     /* of a descriptor */
} fastretina_network;

/* The network's input: height rows of width floats, row_floats apart. Belongs to the caller of run(), and is gone after
 * it. */
typedef struct fastretina_plane {
  const float* data;
  int64_t row_floats;
  int32_t width, height;
} fastretina_plane;

/* The network's output, with h = height / stride and w = width / stride. The engine sets the pointers to memory of its
 * own that stays as it is until its next run. Class maps: 2 x h x w logits (vessel, background), finite. Descriptors:
 * element (c, y, x) at descriptors[c * stride_c + y * stride_y + x * stride_x]; any order is right, channels innermost
 * is fastest. They need no norm. */
typedef struct fastretina_maps {
  const float* class_maps;
  const float* descriptors;
  int64_t stride_c, stride_y, stride_x;
} fastretina_maps;

/* An inference engine: OpenVINO (fastretina_openvino.h), or a vendor's own accelerator. Callbacks must not throw. One
 * that fails calls fastretina_fail() and returns its result. */
typedef struct fastretina_engine {
  uint32_t struct_size; /* sizeof(fastretina_engine) */
  const char* name;     /* copied when a model takes the engine */
  void* user;
  /* Whether `precision` (never AUTO) runs natively: 1 or 0. */
  int32_t (*supports)(void* user, fastretina_precision precision);
  /* An instance for one session, which runs it on one thread at a time. Sessions open instances from several threads at
   * once. */
  fastretina_error (*open)(void* user, const fastretina_network* network, int32_t threads, void** instance);
  /* `maps` comes in with the strides of a dense dims x h x w array and NULL pointers. */
  fastretina_error (*run)(void* instance, const fastretina_plane* plane, fastretina_maps* maps);
  void (*close)(void* instance);
  /* Once, after the last session and the model are gone, or loading failed. May be NULL. */
  void (*release)(void* user);
} fastretina_engine;

/* ---- model ------------------------------------------------------------------------------------------------------ */

typedef struct fastretina_model fastretina_model;

/* Reads a manifest (TOML, UTF-8 path) and the weights file beside it that serves `precision`; weights that are missing,
 * truncated or altered are refused (FASTRETINA_ENGINE_ERROR). Takes over `engine`, also when it fails (but for a wrong
 * struct_size): engine->release is called in the end, and engine->user lives until then. */
FASTRETINA_API fastretina_error fastretina_model_load(const char* manifest_path, fastretina_precision precision,
                                                      const fastretina_engine* engine, fastretina_model** model);

/* The same from memory, for devices without files. weights (copied): the file that the manifest names for `precision`,
 * which must not be AUTO then; or NULL for an engine that brings its own. */
FASTRETINA_API fastretina_error fastretina_model_from_memory(const char* manifest, size_t manifest_size,
                                                             const void* weights, size_t weights_size,
                                                             fastretina_precision precision,
                                                             const fastretina_engine* engine, fastretina_model** model);
FASTRETINA_API void fastretina_model_destroy(fastretina_model* model);

/* For the device's log. The texts live as long as the model. */
typedef struct fastretina_model_info {
  uint32_t struct_size;
  const char* name;
  const char* engine;
  const char* weights_sha256; /* of the f32 weights, the network's identity in every precision: 64 hexadecimal digits */
  fastretina_precision precision; /* what AUTO became */
} fastretina_model_info;
FASTRETINA_API void fastretina_model_info_init(fastretina_model_info* info);
FASTRETINA_API fastretina_error fastretina_model_describe(const fastretina_model* model, fastretina_model_info* info);

/* ---- session ---------------------------------------------------------------------------------------------------- */

typedef int32_t fastretina_kind;
enum {
  FASTRETINA_EMPTY = -1, /* of a transform that holds none */
  FASTRETINA_IDENTITY = 0,
  FASTRETINA_SIMILARITY = 1,
  FASTRETINA_AFFINE = 2,
  FASTRETINA_HOMOGRAPHY = 3,
  FASTRETINA_QUADRATIC = 4,
  FASTRETINA_DENSE = 5,    /* x' = x + d(x), d a cubic B-spline on a grid of control displacements */
  FASTRETINA_COMPOSITE = 6 /* several in a row, or the inverse of one that has no closed inverse */
};
#define FASTRETINA_TRANSFORM_AUTO 0 /* for fastretina_options.transform: chosen by what the images support */

typedef struct fastretina_options {
  uint32_t struct_size;
  int32_t threads;       /* 1 ... 1024, also of the engine; the same bits for any number, if the engine keeps that */
  int32_t working_size;  /* 64 ... 8192 px: longer side at which the network sees an image; 0: what it is meant for */
  int32_t max_keypoints; /* 16 ... 65536 */
  int32_t transform;     /* FASTRETINA_TRANSFORM_AUTO, or the kind to fit: SIMILARITY ... DENSE (gives a composite) */
  int32_t max_attempts;  /* 1 or more: further scales, turns and mirroring tried on a weak pair. 1 bounds the latency */
  uint64_t seed;
  double min_confidence; /* 0 ... 1: below it, a result is refused */
} fastretina_options;
FASTRETINA_API void fastretina_options_default(fastretina_options* options);

typedef struct fastretina_session fastretina_session;

/* options: NULL for the defaults. Opens an instance of the model's engine. */
FASTRETINA_API fastretina_error fastretina_session_create(const fastretina_model* model,
                                                          const fastretina_options* options,
                                                          fastretina_session** session);
FASTRETINA_API void fastretina_session_destroy(fastretina_session* session);

typedef struct fastretina_prepared fastretina_prepared;
FASTRETINA_API fastretina_error fastretina_prepared_create(fastretina_prepared** prepared); /* empty */
FASTRETINA_API void fastretina_prepared_destroy(fastretina_prepared* prepared);

/* The features of `image`, for many registrations by the same session. May be repeated. */
FASTRETINA_API fastretina_error fastretina_prepare(fastretina_session* session, const fastretina_image* image,
                                                   fastretina_prepared* prepared);

/* ---- registration ----------------------------------------------------------------------------------------------- */

typedef int32_t fastretina_status;
enum {
  FASTRETINA_STATUS_OK = 0,
  FASTRETINA_STATUS_NO_CONTENT = 1,      /* an image shows nothing: a blink, a black or a blurred frame */
  FASTRETINA_STATUS_TOO_FEW_MATCHES = 2, /* no transform could be estimated */
  FASTRETINA_STATUS_IMPLAUSIBLE = 3,     /* scale or shear that no two retinal cameras differ by; a pole or a fold */
  FASTRETINA_STATUS_LOW_AGREEMENT = 4    /* the vessels do not agree: confidence below min_confidence */
};
FASTRETINA_API const char* fastretina_status_name(fastretina_status status); /* "ok", "no_content" ...; "unknown" */

/* Lengths in network px: the working size is the longer side. */
typedef struct fastretina_result {
  uint32_t struct_size;
  fastretina_status status; /* anything but OK is a refusal: do not use the transform */
  double confidence; /* calibrated probability that the mean error is below 5 px of a 640-px frame; also when refused */
  double ridge_correlation; /* of the vessels under the transform, -1 ... 1 */
  double peak_to_sidelobe;  /* how far that stands out among shifted copies */
  double inlier_similarity; /* mean cosine of the inliers' descriptors */
  double overlap;           /* of the smaller frame, 0 ... 1 */
  double coverage;          /* share of the frame that inliers are spread over, 0 ... 1 */
  double inlier_rms_px;
  double scale; /* FIXED px a MOVING px at the centre of the MOVING frame */
  double rotation_deg;
  double anisotropy; /* largest ratio of the local map's singular values */
  int32_t mirrored;
  int32_t matches, inliers;
  int32_t keypoints_fixed, keypoints_moving;
  int32_t attempts;
} fastretina_result;
FASTRETINA_API void fastretina_result_init(fastretina_result* result);

/* ---- transform -------------------------------------------------------------------------------------------------- */

typedef struct fastretina_transform fastretina_transform;
FASTRETINA_API fastretina_error fastretina_transform_create(fastretina_transform** transform); /* empty */
FASTRETINA_API void fastretina_transform_destroy(fastretina_transform* transform);
FASTRETINA_API fastretina_kind fastretina_transform_kind(const fastretina_transform* transform); /* EMPTY for NULL */

/* Matrix kinds: 9 numbers, row-major 3 x 3. Quadratic: 12, x' = p0 + p1 x + p2 y + p3 x^2 + p4 xy + p5 y^2, y' = p6 +
 * ... Others: 0 numbers, see the JSON. Writes at most `capacity` numbers; count: how many there are. */
FASTRETINA_API fastretina_error fastretina_transform_parameters(const fastretina_transform* transform,
                                                                double* parameters, size_t capacity, size_t* count);

/* count MOVING points (x, y) -> FIXED points; `fixed` may be `moving`. NaN or infinity where the map is undefined. */
FASTRETINA_API fastretina_error fastretina_transform_points(const fastretina_transform* transform, const double* moving,
                                                            size_t count, double* fixed);

/* The map FIXED -> MOVING. `inverse` may be `transform`. */
FASTRETINA_API fastretina_error fastretina_transform_inverse(const fastretina_transform* transform,
                                                             fastretina_transform* inverse);

/* The text that the Python package writes for the same transform; reading it gives the same bits. size: bytes without
 * the closing NUL. Called with capacity 0 it tells the size; a capacity of size or less is FASTRETINA_INVALID_ARGUMENT.
 */
FASTRETINA_API fastretina_error fastretina_transform_to_json(const fastretina_transform* transform, char* text,
                                                             size_t capacity, size_t* size);
/* Also reads the whole text of a transform.json; that of a refused pair is FASTRETINA_INVALID_ARGUMENT. */
FASTRETINA_API fastretina_error fastretina_transform_from_json(const char* text, size_t size,
                                                               fastretina_transform* transform);

/* ---- the work --------------------------------------------------------------------------------------------------- */

/* Registers MOVING to FIXED. transform: the best candidate even when refused, empty if there is none. */
FASTRETINA_API fastretina_error fastretina_register(fastretina_session* session, fastretina_prepared* fixed,
                                                    const fastretina_image* moving, fastretina_transform* transform,
                                                    fastretina_result* result);
/* The same with both images prepared by this session; they may be the same one. */
FASTRETINA_API fastretina_error fastretina_register_prepared(fastretina_session* session, fastretina_prepared* fixed,
                                                             fastretina_prepared* moving,
                                                             fastretina_transform* transform,
                                                             fastretina_result* result);

typedef int32_t fastretina_interpolation;
enum { FASTRETINA_NEAREST = 0, FASTRETINA_LINEAR = 1, FASTRETINA_CUBIC = 2 };

/* Resamples `moving` into the frame of `out` (same format, any size). valid: out->height rows of out->width bytes,
 * valid_row_bytes apart, 1 where the source lies inside `moving`, else 0 and `out` is 0; or NULL. Any size from 1 px.
 */
FASTRETINA_API fastretina_error fastretina_warp(fastretina_session* session, const fastretina_image* moving,
                                                const fastretina_transform* transform,
                                                fastretina_interpolation interpolation,
                                                const fastretina_mutable_image* out, uint8_t* valid,
                                                int64_t valid_row_bytes);

#ifdef __cplusplus
}
#endif
#endif
