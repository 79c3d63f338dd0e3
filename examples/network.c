/* A network that is loaded once and run by many threads at once, each with a batch of images of its own;
 * progress while it loads; and how a run is cancelled. Without a file its weights are random.
 *
 *   cc network.c $(pkg-config --cflags --libs replk_cpu) -pthread -o network
 *   ./network replknet-nano replknet-nano.safetensors
 */
#include <pthread.h>
#include <replk/replk.h>
#include <stdio.h>
#include <stdlib.h>

enum { callers = 4, batch = 2 };

struct caller {
  replk_model* model;
  const float* pixels; /* [batch][size][size][3] */
  int32_t size;
  float* logits; /* [batch][classes] */
  replk_status status;
};

static void* run(void* memory) {
  struct caller* c = memory;
  c->status = replk_model_run(c->model, c->pixels, batch, c->size, c->size, c->logits, NULL, NULL);
  if (c->status != REPLK_OK) fprintf(stderr, "%s\n", replk_last_error()); /* each thread has its own */
  return NULL;
}

static int show_progress(double fraction, void* user) {
  (void)user;
  fprintf(stderr, "\rloading: %3.0f %%%s", 100 * fraction, fraction < 1 ? "" : "\n");
  return 0; /* anything else cancels */
}

static int largest(const float* logits, int32_t classes) {
  int best = 0;
  for (int32_t i = 1; i < classes; i++)
    if (logits[i] > logits[best]) best = i;
  return best;
}

int main(int argc, char** argv) {
  replk_model_options options = replk_model_options_default();
  options.threads = 1; /* of a run: here the callers are the threads */
  options.progress = show_progress;
  replk_model* model = NULL;
  if (replk_model_load(argc > 1 ? argv[1] : "replknet-nano", argc > 2 ? argv[2] : NULL, &options, &model) !=
      REPLK_OK) {
    fprintf(stderr, "load: %s\n", replk_last_error());
    return 1;
  }
  replk_model_info info = {.struct_size = sizeof info};
  replk_model_get_info(model, &info);

  const size_t count = (size_t)batch * info.size * info.size * 3;
  float* pixels = malloc(sizeof(float) * count);
  float* logits = malloc(sizeof(float) * callers * batch * info.classes);
  if (!pixels || !logits) return 1;
  for (size_t i = 0; i < count; i++) pixels[i] = (float)(i * 7919 % 2001) / 1000 - 1;

  pthread_t threads[callers];
  struct caller all[callers];
  for (int t = 0; t < callers; t++) {
    all[t] =
        (struct caller){model, pixels, info.size, logits + (size_t)t * batch * info.classes, REPLK_INTERNAL};
    if (pthread_create(&threads[t], NULL, run, &all[t]) != 0) return 1;
  }
  for (int t = 0; t < callers; t++) pthread_join(threads[t], NULL);
  for (int t = 0; t < callers; t++) {
    if (all[t].status != REPLK_OK) return 1;
    const int best = largest(all[t].logits, info.classes);
    printf("thread %d: class %d %s\n", t, best, replk_model_label(model, best));
  }

  replk_cancel* cancel = NULL;
  if (replk_cancel_create(&cancel) != REPLK_OK) return 1;
  replk_cancel_request(cancel, 1); /* any thread may, at any time: runs end at their next layer */
  const replk_status status =
      replk_model_run(model, pixels, batch, info.size, info.size, logits, NULL, cancel);
  printf("a run that is stopped: %s\n", replk_status_string(status));

  replk_cancel_destroy(cancel);
  replk_model_destroy(model);
  free(logits);
  free(pixels);
  return status == REPLK_CANCELLED ? 0 : 1;
}
