/* Registers two raw images and prints the result as one line of JSON.
 *
 *   c_register MANIFEST FIXED WIDTHxHEIGHT MOVING WIDTHxHEIGHT [PRECISION [THREADS]]
 *
 * FIXED and MOVING hold rows of 8-bit pixels without a header: gray or interleaved RGB, told by the file's size.
 * PRECISION: auto (the default), f32, bf16 or int8. Exit status: 0 registered, 3 refused, 2 misuse, 1 another error. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fastretina.h"
#include "fastretina_openvino.h"

static int failed(const char* what) {
  fprintf(stderr, "c_register: %s: %s\n", what, fastretina_last_error());
  return 1;
}

static int misuse(const char* what) {
  fprintf(stderr, "c_register: %s\n", what);
  return 2;
}

/* The caller frees image->data. 0: done. */
static int read_raw(const char* path, const char* size, fastretina_image* image) {
  FILE* file;
  unsigned char* data;
  long bytes, pixels;
  int width, height;
  if (sscanf(size, "%dx%d", &width, &height) != 2 || width <= 0 || height <= 0 || width > 32767 || height > 32767)
    return misuse("a size: expected WIDTHxHEIGHT");
  file = fopen(path, "rb");
  if (file == NULL) return misuse("an image cannot be opened");
  fseek(file, 0, SEEK_END);
  bytes = ftell(file);
  rewind(file);
  pixels = (long)width * height;
  if (bytes != pixels && bytes != 3 * pixels) {
    fclose(file);
    return misuse("an image: its file's size is neither WIDTH x HEIGHT nor three times that");
  }
  data = malloc((size_t)bytes);
  if (data == NULL || fread(data, 1, (size_t)bytes, file) != (size_t)bytes) {
    free(data);
    fclose(file);
    return misuse("an image cannot be read");
  }
  fclose(file);
  image->data = data;
  image->width = width;
  image->height = height;
  image->row_bytes = bytes / height;
  image->format = bytes == pixels ? FASTRETINA_GRAY_U8 : FASTRETINA_RGB_U8;
  return 0;
}

static fastretina_precision precision_of(const char* name) {
  if (strcmp(name, "f32") == 0) return FASTRETINA_PRECISION_F32;
  if (strcmp(name, "bf16") == 0) return FASTRETINA_PRECISION_BF16;
  if (strcmp(name, "int8") == 0) return FASTRETINA_PRECISION_INT8;
  return strcmp(name, "auto") == 0 ? FASTRETINA_PRECISION_AUTO : -2; /* -2: the library refuses it */
}

static int print_result(const fastretina_result* result, const fastretina_transform* transform) {
  char json[4096] = "null";
  size_t size;
  if (fastretina_transform_kind(transform) != FASTRETINA_EMPTY &&
      fastretina_transform_to_json(transform, json, sizeof json, &size) != FASTRETINA_SUCCESS)
    return failed("transform");
  printf("{\"status\": \"%s\", \"confidence\": %.17g, \"transform\": %s}\n", fastretina_status_name(result->status),
         result->confidence, json);
  return result->status == FASTRETINA_STATUS_OK ? 0 : 3;
}

static int run(fastretina_session* session, const fastretina_image* fixed, const fastretina_image* moving) {
  fastretina_prepared* prepared = NULL;
  fastretina_transform* transform = NULL;
  fastretina_result result;
  int status;
  fastretina_result_init(&result);
  if (fastretina_prepared_create(&prepared) != FASTRETINA_SUCCESS ||
      fastretina_transform_create(&transform) != FASTRETINA_SUCCESS ||
      fastretina_prepare(session, fixed, prepared) != FASTRETINA_SUCCESS ||
      fastretina_register(session, prepared, moving, transform, &result) != FASTRETINA_SUCCESS)
    status = failed("registration");
  else
    status = print_result(&result, transform);
  fastretina_transform_destroy(transform);
  fastretina_prepared_destroy(prepared);
  return status;
}

static int load_and_run(const char* manifest, const char* precision, int threads, const fastretina_image* fixed,
                        const fastretina_image* moving) {
  fastretina_engine engine;
  fastretina_model* model = NULL;
  fastretina_session* session = NULL;
  fastretina_options options;
  int status;
  fastretina_options_default(&options);
  options.threads = threads;
  if (fastretina_openvino_engine(&engine) != FASTRETINA_SUCCESS) return failed("engine");
  if (fastretina_model_load(manifest, precision_of(precision), &engine, &model) != FASTRETINA_SUCCESS)
    return failed("model");
  if (fastretina_session_create(model, &options, &session) != FASTRETINA_SUCCESS)
    status = failed("session");
  else
    status = run(session, fixed, moving);
  fastretina_session_destroy(session);
  fastretina_model_destroy(model);
  return status;
}

int main(int argc, char** argv) {
  fastretina_image fixed = {0}, moving = {0};
  int status;
  if (argc < 6 || argc > 8)
    return misuse("usage: c_register MANIFEST FIXED WIDTHxHEIGHT MOVING WIDTHxHEIGHT [PRECISION [THREADS]]");
  status = read_raw(argv[2], argv[3], &fixed);
  if (status == 0) status = read_raw(argv[4], argv[5], &moving);
  if (status == 0)
    status = load_and_run(argv[1], argc > 6 ? argv[6] : "auto", argc > 7 ? atoi(argv[7]) : 1, &fixed, &moving);
  free((void*)fixed.data);
  free((void*)moving.data);
  return status;
}
