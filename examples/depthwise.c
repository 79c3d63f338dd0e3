/* A 31x31 depthwise convolution of one 56x56 image of 128 channels, channels-last, with the library's choice
 * of algorithm.
 *
 *   cc depthwise.c $(pkg-config --cflags --libs replk_cpu) -o depthwise
 */
#include <replk/replk.h>
#include <stdio.h>
#include <stdlib.h>

static int failed(const char* what) {
  fprintf(stderr, "%s: %s\n", what, replk_last_error());
  return 1;
}

int main(void) {
  enum { channels = 128, height = 56, width = 56, kernel = 31 };
  const size_t pixels = (size_t)height * width;
  float* weights = malloc(sizeof(float) * channels * kernel * kernel);
  float* src = malloc(sizeof(float) * pixels * channels);
  float* dst = malloc(sizeof(float) * pixels * channels);
  if (!weights || !src || !dst) return 1;
  for (size_t i = 0; i < (size_t)channels * kernel * kernel; i++)
    weights[i] = 1.0f / (kernel * kernel); /* a mean */
  for (size_t i = 0; i < pixels * channels; i++) src[i] = 1.0f;

  const float* branches[] = {weights};
  replk_depthwise* plan = NULL;
  if (replk_depthwise_create_from_shape("n1c128h56w56k31", branches, NULL, NULL, &plan) != REPLK_OK)
    return failed("create");
  if (replk_depthwise_run(plan, src, dst, NULL, NULL, 0) != REPLK_OK) return failed("run");
  printf("%s by %s (%s)\n", replk_depthwise_shape(plan), replk_depthwise_tiling(plan),
         replk_depthwise_source(plan));
  printf("corner %.4f, centre %.4f\n", dst[0], dst[(28 * width + 28) * channels]);

  replk_depthwise_destroy(plan);
  free(weights);
  free(src);
  free(dst);
  return 0;
}
