/* A program of yesterday: compiled against the header of release 0.1.0 (header_0.1.0/), linked to today's
 * library. Whatever lies in its structures' padding must not matter. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "replk/replk.h"

_Static_assert(sizeof(replk_depthwise_problem) == 88, "this is the old header");

#define CHECK(condition)                                                     \
  do {                                                                       \
    if (!(condition)) {                                                      \
      printf("line %d: %s: %s\n", __LINE__, #condition, replk_last_error()); \
      return 1;                                                              \
    }                                                                        \
  } while (0)

enum { channels = 24, side = 9, taps = 25 };

static float weights[channels * taps], bias[channels];
static float src[2 * side * side * channels], dst[2 * side * side * channels];

/* The whole structure is ones before its fields are set, its padding too. */
static int made_from_fields(replk_depthwise** plan) {
  static const replk_branch branch = {5, 5, 1, 1};
  replk_depthwise_problem p;
  replk_depthwise_options o;
  memset(&p, 0xff, sizeof p);
  memset(&o, 0xff, sizeof o);
  p.struct_size = sizeof p;
  p.batch = 2;
  p.channels = channels;
  p.height = p.width = side;
  p.branches = &branch;
  p.branch_count = 1;
  p.pad_h = p.pad_w = -1;
  p.stride_h = p.stride_w = 1;
  p.layout = REPLK_NHWC;
  p.type = REPLK_F32;
  p.numerics = REPLK_FAST;
  p.activation = REPLK_RELU;
  p.bias = 1;
  p.residual = 0;
  o.struct_size = sizeof o;
  o.threads = 1;
  o.algorithm = NULL;
  o.tiling = NULL;
  const float* all[] = {weights};
  return replk_depthwise_create(&p, all, bias, &o, plan) == REPLK_OK;
}

int main(void) {
  for (int c = 0; c < channels; c++) {
    bias[c] = (float)c;
    for (int t = 0; t < taps; t++) weights[c * taps + t] = 1;
  }
  for (size_t i = 0; i < sizeof src / sizeof *src; i++) src[i] = 1;
  replk_depthwise* plan = NULL;
  CHECK(made_from_fields(&plan));
  CHECK(strcmp(replk_depthwise_shape(plan), "n2c24h9w9k5+relu") == 0);
  CHECK(replk_depthwise_run(plan, src, dst, NULL, NULL, 0) == REPLK_OK);
  for (int image = 0; image < 2; image++)
    for (int c = 0; c < channels; c++) {
      CHECK(fabsf(dst[((image * side + 4) * side + 4) * channels + c] - (float)(25 + c)) < 1e-3f);
      CHECK(fabsf(dst[image * side * side * channels + c] - (float)(9 + c)) < 1e-3f);
    }
  replk_depthwise_destroy(plan);
  replk_cpu_info info;
  info.struct_size = sizeof info;
  CHECK(replk_get_cpu_info(&info) == REPLK_OK && info.cores > 0);
  replk_tuning tuning = replk_tuning_default();
  CHECK(replk_get_tuning(&tuning) == REPLK_OK);
  replk_model_options options = replk_model_options_default();
  replk_model* model = NULL;
  CHECK(replk_model_load("replknet-nano", NULL, &options, &model) == REPLK_OK);
  replk_model_info about;
  about.struct_size = sizeof about;
  CHECK(replk_model_get_info(model, &about) == REPLK_OK);
  replk_model_destroy(model);
  puts("runs unchanged");
  return 0;
}
