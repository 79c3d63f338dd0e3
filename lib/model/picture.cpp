#include "model/picture.hpp"

#include "image/preprocess.hpp"
#include "image/resize.hpp"

namespace replk::model {

void prepare_picture(const image::Image& picture, const Preprocessing& preprocessing, int height, int width,
                     float* destination) {
  if (height != width || preprocessing.warps(height)) {
    prepare_warped(picture, preprocessing, height, width, destination);
    return;
  }
  const int short_side = preprocessing.resized_short_side(height);
  image::normalise(image::resize_and_crop(picture, short_side, height, width),
                   {preprocessing.mean, preprocessing.std}, destination);
}

void prepare_warped(const image::Image& picture, const Preprocessing& preprocessing, int height, int width,
                    float* destination) {
  image::normalise(image::resize_bicubic(picture, height, width), {preprocessing.mean, preprocessing.std},
                   destination);
}

}  // namespace replk::model
