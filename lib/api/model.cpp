// Networks behind the C API.
#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "api/guard.hpp"
#include "api/pool.hpp"
#include "image/decode.hpp"
#include "model/labels.hpp"
#include "model/network.hpp"
#include "model/picture.hpp"

using namespace replk;
using api::guarded;
using api::not_null;
using core::fail;
using core::Status;

static_assert(static_cast<int>(Precision::fp32) + 1 == REPLK_PRECISION_FP32 &&
              static_cast<int>(Precision::bf16) + 1 == REPLK_PRECISION_BF16 &&
              static_cast<int>(Precision::bf16x3) + 1 == REPLK_PRECISION_BF16X3 &&
              static_cast<int>(Precision::int8) + 1 == REPLK_PRECISION_INT8);

struct replk_model {
  model::Network network;
  std::vector<std::string> labels;
};

struct replk_cancel {
  std::atomic<bool> requested{false};
};

namespace {

std::unique_ptr<replk_model> load(const char* name, const char* weights_file,
                                  const replk_model_options* given) {
  const replk_model_options o = given ? api::read(given, replk_model_options_default(),
                                                  offsetof(replk_model_options, precision), "options")
                                      : replk_model_options_default();
  if (o.numerics != REPLK_FAST && o.numerics != REPLK_EXACT)
    fail(Status::invalid_argument, "numerics is {}; allowed: 0 to 1", static_cast<int>(o.numerics));
  const int precision = o.precision;
  if (precision < REPLK_PRECISION_OF_WEIGHTS || precision > REPLK_PRECISION_INT8)
    fail(Status::invalid_argument, "precision is {}; allowed: {} to {}", precision,
         int{REPLK_PRECISION_OF_WEIGHTS}, int{REPLK_PRECISION_INT8});
  if (o.threads < 0) fail(Status::invalid_argument, "threads is {}; allowed: at least 0", o.threads);
  const model::Architecture architecture = model::find_architecture(&not_null(name, "name"));
  const auto weights =
      weights_file ? model::open_safetensors(weights_file) : model::seeded_weights(architecture, o.seed);
  model::NetworkOptions options;
  options.threads = o.threads;
  options.numerics = static_cast<depthwise::Numerics>(o.numerics);
  if (precision != REPLK_PRECISION_OF_WEIGHTS) options.precision = static_cast<Precision>(precision - 1);
  options.norm_intermediate_features = o.norm_intermediate_features != 0;
  if (o.progress)
    options.progress = [&o](double fraction) { return o.progress(fraction, o.progress_user) == 0; };
  model::Network network(architecture, *weights, options);
  return std::unique_ptr<replk_model>(new replk_model{
      std::move(network), model::parse_labels(weights->metadata("labels"), weights->describe())});
}

void check_side(const char* field, int32_t side) {
  if (side < 1 || side > image::max_side)
    fail(Status::invalid_argument, "{} is {}; allowed: 1 to {}", field, side, image::max_side);
}

void prepare(const model::Network& network, const image::Image& picture, int32_t height, int32_t width,
             float* pixels) {
  check_side("height", height);
  check_side("width", width);
  model::prepare_picture(picture, network.architecture().preprocessing, height, width, pixels);
}

}  // namespace

replk_status replk_model_load(const char* name, const char* weights_file, const replk_model_options* options,
                              replk_model** model) {
  return guarded([&] {
    not_null(model, "model") = nullptr;
    *model = load(name, weights_file, options).release();
  });
}

void replk_model_destroy(replk_model* model) {
  delete model;
}

replk_status replk_model_get_info(const replk_model* model, replk_model_info* info) {
  return guarded([&] {
    const model::Network& network = not_null(model, "model").network;
    const model::Preprocessing& preprocessing = network.architecture().preprocessing;
    replk_model_info filled{};
    filled.classes = network.classes();
    filled.threads = network.threads();
    filled.weight_bytes = network.weight_bytes();
    std::copy(preprocessing.mean.begin(), preprocessing.mean.end(), filled.mean);
    std::copy(preprocessing.std.begin(), preprocessing.std.end(), filled.std);
    filled.size = preprocessing.size;
    filled.crop_fraction = preprocessing.crop_fraction;
    filled.warp_from = preprocessing.warp_from;
    filled.precision = static_cast<replk_precision>(static_cast<int>(network.precision()) + 1);
    api::write(filled, info, offsetof(replk_model_info, precision), "info");
  });
}

const char* replk_model_label(const replk_model* model, int32_t index) {
  if (!model || index < 0 || static_cast<std::size_t>(index) >= model->labels.size()) return "";
  return model->labels[static_cast<std::size_t>(index)].c_str();
}

replk_status replk_model_feature_shape(const replk_model* model, int32_t stage, int32_t height, int32_t width,
                                       int32_t* feature_channels, int32_t* feature_height,
                                       int32_t* feature_width) {
  return guarded([&] {
    const model::FeatureShape shape = not_null(model, "model").network.feature_shape(stage, height, width);
    not_null(feature_channels, "feature_channels") = shape.channels;
    not_null(feature_height, "feature_height") = shape.height;
    not_null(feature_width, "feature_width") = shape.width;
  });
}

replk_status replk_model_prepare(replk_model* model, int64_t batch, int32_t height, int32_t width) {
  return guarded([&] { not_null(model, "model").network.prepare(batch, height, width); });
}

replk_status replk_model_read_image(const replk_model* model, const char* path, int32_t height, int32_t width,
                                    float* pixels) {
  return guarded([&] {
    prepare(not_null(model, "model").network, image::read_image(&not_null(path, "path")), height, width,
            &not_null(pixels, "pixels"));
  });
}

replk_status replk_model_read_encoded(const replk_model* model, const void* bytes, size_t size,
                                      const char* name, int32_t height, int32_t width, float* pixels) {
  return guarded([&] {
    const model::Network& network = not_null(model, "model").network;
    const std::string said = &not_null(name, "name");
    if (size > image::max_file_bytes)
      fail(Status::bad_file, "{}: file size is {} bytes; at most {} are read", said, size,
           image::max_file_bytes);
    const auto* content = static_cast<const std::uint8_t*>(bytes);
    if (size > 0) not_null(content, "bytes");
    prepare(network, image::decode_image({content, size}, said), height, width, &not_null(pixels, "pixels"));
  });
}

replk_status replk_model_read_rgb(const replk_model* model, const uint8_t* rgb, int32_t rows, int32_t columns,
                                  int32_t height, int32_t width, float* pixels) {
  return guarded([&] {
    const model::Network& network = not_null(model, "model").network;
    check_side("rows", rows);
    check_side("columns", columns);
    if (std::int64_t{rows} * columns > image::max_pixels)
      fail(Status::invalid_argument, "rows x columns is {}x{}; allowed: at most {} pixels", rows, columns,
           image::max_pixels);
    not_null(rgb, "rgb");
    image::Image picture(rows, columns);
    std::copy_n(rgb, picture.pixels.size(), picture.pixels.data());
    prepare(network, picture, height, width, &not_null(pixels, "pixels"));
  });
}

replk_status replk_cancel_create(replk_cancel** cancel) {
  return guarded([&] {
    not_null(cancel, "cancel") = nullptr;
    *cancel = new replk_cancel;
  });
}

void replk_cancel_destroy(replk_cancel* cancel) {
  delete cancel;
}

void replk_cancel_request(replk_cancel* cancel, int requested) {
  if (cancel) cancel->requested = requested != 0;
}

replk_status replk_model_run(replk_model* model, const float* pixels, int64_t batch, int32_t height,
                             int32_t width, float* logits, float* const* features,
                             const replk_cancel* cancel) {
  replk_model_run_options options = replk_model_run_options_default();
  options.cancel = cancel;
  return replk_model_run_with(model, pixels, batch, height, width, logits, features, &options);
}

replk_status replk_model_run_with(replk_model* model, const float* pixels, int64_t batch, int32_t height,
                                  int32_t width, float* logits, float* const* features,
                                  const replk_model_run_options* options) {
  return guarded([&] {
    replk_model_run_options o = replk_model_run_options_default();
    if (options) o = api::read(options, o, sizeof(replk_model_run_options), "options");
    model::Output output{logits, {}};
    if (features) std::copy(features, features + 4, output.features.begin());
    model::RunOptions run;
    if (o.cancel) run.cancel = &o.cancel->requested;
    const api::Pool pool(o.pool, o.user);
    not_null(model, "model").network.run({pixels, batch, height, width}, output, run);
  });
}
