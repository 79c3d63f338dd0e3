/* libreplk_cpu: large-kernel depthwise convolution on x86-64 CPUs. The C API.
 *
 * Every function that can fail returns a status; replk_last_error() then has one line that names the field,
 * the value and what is allowed. No function prints, aborts or lets a C++ exception out. Structures begin
 * with struct_size, to be set to sizeof, so that a program keeps working with a later library whose
 * structures are longer.
 */
#ifndef REPLK_REPLK_H
#define REPLK_REPLK_H

#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32)
#error "libreplk_cpu runs on Linux"
#endif
#define REPLK_API __attribute__((visibility("default")))

/* A value without a name is an error that is reported. C++ needs a fixed type to let an enumeration hold it.
 */
#ifdef __cplusplus
#define REPLK_INT : int
extern "C" {
#else
#define REPLK_INT
#endif

/* The library's version, "major.minor.patch"; never NULL. Thread-safe. */
REPLK_API const char* replk_version(void);

/* ---- Errors ---- */

typedef enum replk_status REPLK_INT {
  REPLK_OK = 0,
  REPLK_INVALID_ARGUMENT = 1, /* a value that the caller passed is wrong */
  REPLK_BAD_FILE = 2,         /* a file's content is wrong */
  REPLK_NOT_FOUND = 3,        /* a file or a name does not exist */
  REPLK_UNSUPPORTED = 4,      /* valid, but not on this machine or not in this build */
  REPLK_OUT_OF_MEMORY = 5,
  REPLK_CANCELLED = 6,
  REPLK_INTERNAL = 7
} replk_status;

/* A short name such as "invalid argument"; never NULL. */
REPLK_API const char* replk_status_string(replk_status status);

/* What went wrong in the last call that failed on this thread; "" if none did. Valid until the next one
 * fails. */
REPLK_API const char* replk_last_error(void);

/* ---- Logging, threads, the machine ---- */

typedef enum replk_log_level REPLK_INT {
  REPLK_LOG_WARNING = 0,
  REPLK_LOG_INFO = 1,
  REPLK_LOG_DEBUG = 2
} replk_log_level;
typedef void (*replk_log_callback)(replk_log_level level, const char* message, void* user);

/* The library is silent unless a callback is set (or REPLK_VERBOSE is in the environment). NULL makes it
 * silent again. Thread-safe; the callback may be called from any thread. */
REPLK_API replk_status replk_set_log_callback(replk_log_callback callback, void* user);

/* The number of threads of a call that asks for 0: OMP_NUM_THREADS, else the CPUs that this process may use
 * (affinity, and the CPU quotas of its control groups, rounded up); at most OMP_THREAD_LIMIT. Determined
 * once.
 *
 * Planning and running use at most the number of threads that is asked for: a depthwise layer no more than
 * its work feeds (docs/algorithms.md). If the system refuses threads (limits of processes, of memory, of a
 * control group), a call runs on fewer, with the same results, and warns once. OpenMP's runtime would end the
 * process in this case, so the library first creates and ends as many threads on trial. It remains possible
 * that something else takes the last ones in the moment between. */
REPLK_API int replk_default_threads(void);

/* A forked process may use the library, and what its parent made with it; every call then runs on one thread.
 * While a process forks, no other thread of it may be inside the library. After dlclose the library stays in
 * memory, once however often it is loaded and closed. */

typedef void (*replk_task)(int index, void* context);
typedef void (*replk_pool_run)(int count, replk_task task, void* context, void* user);
/* Runs the library's work on threads of the caller instead of OpenMP's: `run` must call task(i, context) for
 * every i in [0, count), at the same time where it can, and return when all have ended. Process-wide; NULL
 * restores OpenMP. Not to be changed while another thread is inside the library. (replk_run_options gives a
 * pool to one run.) */
REPLK_API replk_status replk_set_thread_pool(replk_pool_run run, void* user);

typedef enum replk_isa REPLK_INT {
  REPLK_ISA_PORTABLE = 0,
  REPLK_ISA_AVX2 = 1,
  REPLK_ISA_AVX512 = 2
} replk_isa;

/* Bits of replk_cpu_info.features. */
enum {
  REPLK_FEATURE_AVX2 = 1 << 0,   /* AVX2, FMA and F16C */
  REPLK_FEATURE_AVX512 = 1 << 1, /* AVX-512 F, BW, DQ, VL and CD */
  REPLK_FEATURE_AVX_VNNI = 1 << 2,
  REPLK_FEATURE_AVX512_VNNI = 1 << 3,
  REPLK_FEATURE_AVX512_BF16 = 1 << 4,
  REPLK_FEATURE_AMX_TILE = 1 << 5, /* tiles, if Linux lets this process use them */
  REPLK_FEATURE_AMX_BF16 = 1 << 6,
  REPLK_FEATURE_AMX_INT8 = 1 << 7
};

typedef struct replk_cpu_info {
  size_t struct_size;
  char vendor[16], brand[64];
  int32_t family, model, stepping;
  int32_t cores;           /* logical CPUs that this process may use (affinity and quotas, rounded up) */
  replk_isa hardware;      /* the best that CPU and operating system can run */
  replk_isa isa;           /* the one in use: hardware, lowered by REPLK_MAX_ISA */
  int32_t code_generation; /* 0 where the system forbids executable memory */
  uint64_t l1d_bytes, l2_bytes, l3_bytes;
  uint32_t features; /* in use: the hardware's that REPLK_MAX_ISA leaves (README), REPLK_FEATURE_... */
} replk_cpu_info;

/* Fills *info, whose struct_size is set. */
REPLK_API replk_status replk_get_cpu_info(replk_cpu_info* info);

/* ---- Tuning ---- */

/* How a plan chooses its tiling. OFF: by the cost model. CACHED: by what was measured before on this machine
 * for this problem, else for a near one, else by the cost model; never measures. NOW: by what was measured
 * before, else by measuring when the plan is made, which takes up to the budget and is remembered. Results
 * keep their accuracy class whichever is chosen. */
typedef enum replk_tuning_mode REPLK_INT {
  REPLK_TUNING_OFF = 0,
  REPLK_TUNING_CACHED = 1,
  REPLK_TUNING_NOW = 2
} replk_tuning_mode;

typedef struct replk_tuning {
  size_t struct_size;
  replk_tuning_mode mode;
  double budget_seconds; /* for measuring one problem; 0 (one run of one candidate) to 86400 */
} replk_tuning;

/* CACHED and 4 seconds. */
static inline replk_tuning replk_tuning_default(void) {
  replk_tuning t = {sizeof(replk_tuning), REPLK_TUNING_CACHED, 4.0};
  return t;
}

/* How this process tunes; the initial mode is that of REPLK_TUNING in the environment, else CACHED. Plans
 * that exist, and those of a model's prepared sizes, stay as they are. Both calls are thread-safe; a plan
 * that is being made uses what was set when it began. tuning->struct_size must be set. */
REPLK_API replk_status replk_set_tuning(const replk_tuning* tuning);
REPLK_API replk_status replk_get_tuning(replk_tuning* tuning);

/* ---- Depthwise convolution ---- */

typedef enum replk_layout REPLK_INT { REPLK_NHWC = 0, REPLK_NCHW = 1 } replk_layout;
typedef enum replk_type REPLK_INT { REPLK_F32 = 0, REPLK_BF16 = 1, REPLK_F16 = 2 } replk_type;
/* GELU: by erf. */
typedef enum replk_activation REPLK_INT {
  REPLK_NONE = 0,
  REPLK_RELU = 1,
  REPLK_GELU = 2,
  REPLK_SILU = 3,      /* x / (1 + exp(-x)) */
  REPLK_HARD_SWISH = 4 /* x * min(max(x / 6 + 1/2, 0), 1) */
} replk_activation;
/* FAST: in every algorithm the error is at most 1e-6 of the largest value of the channel of its image (before
 * the epilogue, with the bias, or after all of it, whichever is largest), or 2^-24 times the norms of the
 * channel's weights and inputs if that is larger. So one large value costs the whole channel accuracy: a
 * pixel of 1e30 leaves the other outputs an error of up to 6e-8 * |w| * 1e30. Finite numbers give finite
 * results wherever the exact result is finite in fp32; if sums overflow on the way, that channel takes some
 * hundred times longer (docs/algorithms.md). EXACT: fp32 in one fixed order, the same bits everywhere; what
 * overflows in this order is infinite. */
typedef enum replk_numerics REPLK_INT { REPLK_FAST = 0, REPLK_EXACT = 1 } replk_numerics;

/* One linear branch; the branches of a problem are summed. Kernel sides 1 to 63, or to 127 where the other is
 * 1; dilation 1 to 64; dilation * (kernel - 1) + 1 at most 1024. */
typedef struct replk_branch {
  int32_t kernel_h, kernel_w;
  int32_t dilation_h, dilation_w;
} replk_branch;

/* The distance between neighbouring elements along each axis of a tensor, in elements. All 0: no gaps.
 * Channels-last: channel is 1 and pixel <= row <= image; NCHW: pixel is 1 and row <= channel <= image; each
 * leaves room for what lies between. So a tensor may be a slice of another's channels or a window of a larger
 * map. What lies in the gaps is neither read nor written. */
typedef struct replk_strides {
  int64_t image, row, pixel, channel;
} replk_strides;

/* A cross-correlation, as in PyTorch, of `batch` images; height and width are the input's. After the sum come
 * bias, activation, scale and residual, in this order. The output's height is (height + padding above +
 * padding below - the bounding kernel's height) / stride_h + 1, rounded down, and so its width. A plan is
 * tuned for `batch` images and runs any number of them (replk_depthwise_run_with). */
typedef struct replk_depthwise_problem {
  size_t struct_size;
  int64_t batch;
  int32_t channels, height, width;
  const replk_branch* branches;
  int32_t branch_count;
  int32_t pad_h, pad_w; /* on both sides; -1: floor(dilation * (kernel - 1) / 2) of the largest branch */
  int32_t stride_h, stride_w; /* 1 to 16 */
  replk_layout layout;        /* of input, output and residual, unless output_layout says another */
  replk_type type;            /* of input, output and residual; weights, bias and sums are fp32 */
  replk_numerics numerics;
  replk_activation activation;
  int32_t bias, residual;                      /* whether there is one */
  replk_strides input_strides, output_strides; /* the residual's are the output's */
  int32_t output_layout; /* of output and residual: a replk_layout, or -1 for the input's */
  /* 1: padding is that of the four sides instead of pad_h and pad_w, each -65535 to 1023; less than 0 crops.
   */
  int32_t explicit_padding, pad_top, pad_bottom, pad_left, pad_right;
  int32_t scale; /* whether there is one, a factor a channel, which replk_depthwise_options.scale gives */
  /* Outputs a channel, 1 to 4: the output has channels * channel_multiplier channels, of which c reads input
   * channel c / channel_multiplier, and so many have weights, bias and scale. */
  int32_t channel_multiplier;
} replk_depthwise_problem;

/* A problem of one fp32 channels-last image with "same" padding and stride 1, and a bias; the sizes and
 * branches remain to be set. */
static inline replk_depthwise_problem replk_depthwise_problem_default(void) {
  /* clang-format off */
  replk_depthwise_problem p = {sizeof(replk_depthwise_problem), 1, 0, 0, 0, NULL, 0, -1, -1, 1, 1,
                               REPLK_NHWC, REPLK_F32, REPLK_FAST, REPLK_NONE, 1, 0,
                               {0, 0, 0, 0}, {0, 0, 0, 0}, -1, 0, 0, 0, 0, 0, 0, 1};
  /* clang-format on */
  return p;
}

typedef struct replk_depthwise_options {
  size_t struct_size;
  int32_t threads;       /* 0: replk_default_threads(). Small work gets fewer, unless a tiling is given */
  const char* algorithm; /* NULL: the tuner's choice; else the best tiling of this one, such as "direct" */
  const char* tiling;    /* NULL, or exactly this one, as replk_depthwise_tiling() prints it */
  const float* scale;    /* [channels], of a problem that has one; copied. NULL otherwise */
} replk_depthwise_options;

static inline replk_depthwise_options replk_depthwise_options_default(void) {
  replk_depthwise_options o = {sizeof(replk_depthwise_options), 0, NULL, NULL, NULL};
  return o;
}

/* A plan: a problem with its weights packed and its code generated. Many threads may run one plan. Code is
 * kept for the process, so that a second plan of the same problem takes hardly longer than packing its
 * weights. */
typedef struct replk_depthwise replk_depthwise;

/* weights[i] holds branch i's, [channels][kernel_h][kernel_w]; bias [channels], or NULL for none. Both are
 * copied. options may be NULL. On failure *plan is NULL. */
REPLK_API replk_status replk_depthwise_create(const replk_depthwise_problem* problem,
                                              const float* const* weights, const float* bias,
                                              const replk_depthwise_options* options, replk_depthwise** plan);
/* The same from a shape such as "n1c128h56w56k31,5+relu" (docs/shapes.md). */
REPLK_API replk_status replk_depthwise_create_from_shape(const char* shape, const float* const* weights,
                                                         const float* bias,
                                                         const replk_depthwise_options* options,
                                                         replk_depthwise** plan);
/* Gives the plan other weights and another bias, in the form that its creation takes (bias NULL: none). The
 * plan keeps its tiling and gives the same bits as a new one with these weights. Copies them, merging
 * branches; allocates nothing; takes at most about as long as a run. Needs the plan to itself: no run and no
 * other set_weights at the same time. On failure the old weights stay. */
REPLK_API replk_status replk_depthwise_set_weights(replk_depthwise* plan, const float* const* weights,
                                                   const float* bias);
/* NULL is allowed. */
REPLK_API void replk_depthwise_destroy(replk_depthwise* plan);

/* Height and width of the output. */
REPLK_API replk_status replk_depthwise_output_size(const replk_depthwise* plan, int32_t* height,
                                                   int32_t* width);
/* Bytes of workspace that one run needs, whatever its batch; may be 0. */
REPLK_API replk_status replk_depthwise_workspace_bytes(const replk_depthwise* plan, size_t* bytes);

/* Runs the plan. Allocates nothing and uses at most 64 KiB of the stack.
 *
 * src, dst and residual have the problem's layout and type, at any multiple of that type's size; the memory
 * around them is neither read nor written. residual is NULL if the problem has none, and may be dst (class
 * FAST then scans src first); neither may overlap src. workspace: 64-byte aligned, of workspace_bytes >=
 * replk_depthwise_workspace_bytes(), used by one run at a time; or NULL for one that the library keeps for
 * each thread.
 *
 * The caller's floating-point modes (MXCSR) are used and left as they are: promises about results hold for
 * the usual ones, round to nearest with denormals. Threads of the pool keep the modes that they began with. A
 * NaN or an infinity reaches, in class EXACT, the outputs that its input meets and no others; in class FAST
 * these and perhaps more of its channel of its image. */
REPLK_API replk_status replk_depthwise_run(const replk_depthwise* plan, const void* src, void* dst,
                                           const void* residual, void* workspace, size_t workspace_bytes);

typedef struct replk_run_options {
  size_t struct_size;
  int64_t batch;   /* images of src, dst and residual, at least 1; 0: the problem's */
  void* workspace; /* as for replk_depthwise_run */
  size_t workspace_bytes;
  /* Runs the tasks of this run, as replk_set_thread_pool's does: must call task(i, context) once for every i
   * in [0, count), at the same time or one after another, in any order; no task waits for another. NULL: the
   * process's pool. */
  replk_pool_run pool;
  void* user; /* passed to pool */
} replk_run_options;

/* The problem's batch, the library's workspace, the process's pool. */
static inline replk_run_options replk_run_options_default(void) {
  replk_run_options o = {sizeof(replk_run_options), 0, NULL, 0, NULL, NULL};
  return o;
}

/* replk_depthwise_run with options, which may be NULL. An image's result does not depend on how many there
 * are, nor on the pool. */
REPLK_API replk_status replk_depthwise_run_with(const replk_depthwise* plan, const void* src, void* dst,
                                                const void* residual, const replk_run_options* options);

/* The shape in its canonical spelling, the tiling in use, and where the choice came from (analytic, forced,
 * cache, measured, near(...)). Valid as long as the plan; "" for NULL. */
REPLK_API const char* replk_depthwise_shape(const replk_depthwise* plan);
REPLK_API const char* replk_depthwise_tiling(const replk_depthwise* plan);
REPLK_API const char* replk_depthwise_source(const replk_depthwise* plan);

/* ---- Gradients of a depthwise convolution ---- */

/* A plan for the gradients of a layer (docs/gradients.md). Many threads may run one plan. A gradient is that
 * of the convolution and its bias: a problem with an activation, a scale or a residual is an error. Its
 * accuracy class is the problem's. Its bits do not depend on the number of threads; dx of an image does not
 * depend on the batch. */
typedef struct replk_depthwise_gradient replk_depthwise_gradient;

/* Values of replk_depthwise_gradient_options.wanted; 3 is both. */
enum { REPLK_GRADIENT_INPUT = 1, REPLK_GRADIENT_WEIGHTS = 2 };

typedef struct replk_depthwise_gradient_options {
  size_t struct_size;
  int32_t threads; /* 0: replk_default_threads() */
  int32_t wanted;  /* the gradients that the plan is made for; 0: both */
  /* NULL, or a forward plan of the same sizes, with the same weights: if what it has packed serves the
   * gradient of the input too, it is shared, and kept as long as either lives. Then set new weights in the
   * layer first and in its gradient next, with no run of either in between: any other order is an error. */
  const replk_depthwise* layer;
} replk_depthwise_gradient_options;

static inline replk_depthwise_gradient_options replk_depthwise_gradient_options_default(void) {
  replk_depthwise_gradient_options o = {sizeof(replk_depthwise_gradient_options), 0, 0, NULL};
  return o;
}

/* weights: as for replk_depthwise_create, copied; the gradient of the input needs them. NULL if that is not
 * wanted. options may be NULL. On failure *plan is NULL. */
REPLK_API replk_status replk_depthwise_gradient_create(const replk_depthwise_problem* problem,
                                                       const float* const* weights,
                                                       const replk_depthwise_gradient_options* options,
                                                       replk_depthwise_gradient** plan);
/* The same from a shape such as "n8c384h14w14k7". */
REPLK_API replk_status replk_depthwise_gradient_create_from_shape(
    const char* shape, const float* const* weights, const replk_depthwise_gradient_options* options,
    replk_depthwise_gradient** plan);
/* Other weights for the gradient of the input, as replk_depthwise_set_weights: allocates nothing, needs the
 * plan to itself; on failure the old ones stay. */
REPLK_API replk_status replk_depthwise_gradient_set_weights(replk_depthwise_gradient* plan,
                                                            const float* const* weights);
/* Bytes of workspace that a run of either gradient needs, whatever its batch. */
REPLK_API replk_status replk_depthwise_gradient_workspace_bytes(const replk_depthwise_gradient* plan,
                                                                size_t* bytes);

/* The gradient of the input, dx, from that of the output, dy. dx has the layout, type and strides of the
 * problem's input, dy those of its output, at any multiple of the type's size. All elements of dx are
 * written, zeros where no tap reaches; what lies between them is not. dx must not overlap dy. options: as for
 * replk_depthwise_run_with; may be NULL. Allocates nothing if a workspace is given. */
REPLK_API replk_status replk_depthwise_gradient_input(const replk_depthwise_gradient* plan, const void* dy,
                                                      void* dx, const replk_run_options* options);

/* The gradients of weights and bias, fp32, summed over the batch, from the layer's input, src, and dy.
 * dweights[i]: [channels][kernel_h][kernel_w] of branch i, or NULL if it is not wanted. dbias: [channels]
 * (the output's), or NULL. accumulate: 1 adds to what is there, 0 overwrites it. No two tensors may overlap.
 * options as above. */
REPLK_API replk_status replk_depthwise_gradient_weights(const replk_depthwise_gradient* plan, const void* src,
                                                        const void* dy, float* const* dweights, float* dbias,
                                                        int32_t accumulate, const replk_run_options* options);
/* NULL is allowed. */
REPLK_API void replk_depthwise_gradient_destroy(replk_depthwise_gradient* plan);

/* ---- Networks ---- */

/* A loaded network, its weights folded and packed. Any number of threads may run it at once. Plans are made
 * at the first run of a size (batch, height, width) and kept for the four sizes used last; a later run of a
 * kept size allocates nothing. */
typedef struct replk_model replk_model;

/* What a network's pointwise and dense layers multiply in (docs/precision.md). The head, depthwise sums, the
 * stem's 3x3 layers and what is carried from block to block are always fp32. OF_WEIGHTS: fp32, or int8 for a
 * file of `replk quantize`. BF16X3, three bf16 products for a multiplication, needs AMX. */
typedef enum replk_precision REPLK_INT {
  REPLK_PRECISION_OF_WEIGHTS = 0,
  REPLK_PRECISION_FP32 = 1,
  REPLK_PRECISION_BF16 = 2,
  REPLK_PRECISION_BF16X3 = 3,
  REPLK_PRECISION_INT8 = 4
} replk_precision;

typedef struct replk_model_options {
  size_t struct_size;
  int32_t threads;         /* 0: replk_default_threads() */
  replk_numerics numerics; /* of the depthwise layers */
  /* Whether features pass through their stage's norm, which the file must hold: RepLKNet's batch norms, or
   * the layer norms norm0 to norm3 of a backbone of SLaK, ConvNeXt or UniRepLKNet. */
  int32_t norm_intermediate_features;
  uint64_t seed; /* of random weights, if no file is given */
  /* Called by the loading thread with the fraction done, 0 to 1; returning a value other than 0 cancels. May
   * be NULL. */
  int (*progress)(double fraction, void* user);
  void* progress_user;
  /* Nothing is computed in a narrower type than this. INT8 with fp32 weights quantises them while loading, as
   * `replk quantize` does without images. REPLK_INVALID_ARGUMENT: another precision for int8 weights;
   * REPLK_UNSUPPORTED: one that this CPU lacks. */
  replk_precision precision;
} replk_model_options;

static inline replk_model_options replk_model_options_default(void) {
  replk_model_options o = {sizeof(replk_model_options), 0, REPLK_FAST, 0, 1, NULL, NULL,
                           REPLK_PRECISION_OF_WEIGHTS};
  return o;
}

/* name: such as "replknet-31b", or with options "replknet-31b:k=3,3,3,3:small=0". weights_file: a
 * .safetensors file in train, merged, fused or int8 form (docs/models.md), refused (REPLK_BAD_FILE) if it is
 * not exactly this network; NULL: random weights from options->seed, for measurements. options may be NULL.
 * On failure *model is NULL. */
REPLK_API replk_status replk_model_load(const char* name, const char* weights_file,
                                        const replk_model_options* options, replk_model** model);
/* NULL is allowed. */
REPLK_API void replk_model_destroy(replk_model* model);

typedef struct replk_model_info {
  size_t struct_size;
  int32_t classes; /* 0: a backbone without a head, which gives features only */
  int32_t threads;
  uint64_t weight_bytes;
  float mean[3], std[3]; /* an input is (RGB in 0..1 - mean) / std */
  int32_t size;          /* of the default input, a square */
  /* Evaluation resizes the short side to size / crop_fraction and takes the central crop; at sizes of
   * warp_from and more it resizes to size x size. Bicubic, as Pillow does it. */
  double crop_fraction;
  int32_t warp_from;
  replk_precision precision; /* what it computes in, never OF_WEIGHTS */
} replk_model_info;

/* Fills *info, whose struct_size is set. */
REPLK_API replk_status replk_model_get_info(const replk_model* model, replk_model_info* info);
/* A class's name from the file's metadata; "" where there is none. Valid as long as the model. */
REPLK_API const char* replk_model_label(const replk_model* model, int32_t index);
/* The shape of a stage's map for an input of this size. stage: 0 to 3. */
REPLK_API replk_status replk_model_feature_shape(const replk_model* model, int32_t stage, int32_t height,
                                                 int32_t width, int32_t* feature_channels,
                                                 int32_t* feature_height, int32_t* feature_width);
/* Makes the plans of a size now rather than at its first run. */
REPLK_API replk_status replk_model_prepare(replk_model* model, int64_t batch, int32_t height, int32_t width);

/* Makes an input for replk_model_run from a picture, as the network's own evaluation does. If height and
 * width are equal and below info.warp_from, the picture is resized and cropped to the middle, else it is
 * warped to the size (bicubic, as Pillow does it); then it is normalised. pixels: [height][width][3]; sides 1
 * to 16384. Thread-safe. read_image: a JPEG or PNG file, at most 64 MiB. */
REPLK_API replk_status replk_model_read_image(const replk_model* model, const char* path, int32_t height,
                                              int32_t width, float* pixels);
/* The same from a file's content in memory (a member of an archive, a column of a table): size bytes, at most
 * 64 MiB. name stands for the file in messages. */
REPLK_API replk_status replk_model_read_encoded(const replk_model* model, const void* bytes, size_t size,
                                                const char* name, int32_t height, int32_t width,
                                                float* pixels);
/* rgb: 8-bit red, green and blue, [rows][columns][3]; sides 1 to 16384, at most 2^26 pixels. */
REPLK_API replk_status replk_model_read_rgb(const replk_model* model, const uint8_t* rgb, int32_t rows,
                                            int32_t columns, int32_t height, int32_t width, float* pixels);

/* Lets one thread stop the runs of others; these end between two layers with REPLK_CANCELLED. */
typedef struct replk_cancel replk_cancel;
REPLK_API replk_status replk_cancel_create(replk_cancel** cancel);
REPLK_API void replk_cancel_destroy(replk_cancel* cancel);
/* requested: 1 stops all runs that were or will be given this; 0 lets later ones run again. */
REPLK_API void replk_cancel_request(replk_cancel* cancel, int requested);

/* pixels: normalised RGB, [batch][height][width][3]; height and width 32 (replknet-nano: 16) to 16384.
 * logits: [batch][classes], or NULL. features: NULL, or four pointers, each NULL or
 * [batch][channels][height][width] of that stage, before any norm. cancel: NULL, or what may stop the run. */
REPLK_API replk_status replk_model_run(replk_model* model, const float* pixels, int64_t batch, int32_t height,
                                       int32_t width, float* logits, float* const* features,
                                       const replk_cancel* cancel);

typedef struct replk_model_run_options {
  size_t struct_size;
  const replk_cancel* cancel; /* NULL, or what may stop the run */
  /* Runs the tasks of this run (and of planning, if the size is new), as replk_run_options.pool does for a
   * depthwise layer. Dense layers that oneDNN computes, because it is faster at them, stay with OpenMP's
   * threads. NULL: the process's pool. */
  replk_pool_run pool;
  void* user; /* passed to pool */
} replk_model_run_options;

/* Not cancellable, on the process's pool. */
static inline replk_model_run_options replk_model_run_options_default(void) {
  replk_model_run_options o = {sizeof(replk_model_run_options), NULL, NULL, NULL};
  return o;
}

/* replk_model_run with options, which may be NULL. The pool changes no bit of the results. */
REPLK_API replk_status replk_model_run_with(replk_model* model, const float* pixels, int64_t batch,
                                            int32_t height, int32_t width, float* logits,
                                            float* const* features, const replk_model_run_options* options);

#ifdef __cplusplus
}
#endif

#endif /* REPLK_REPLK_H */
