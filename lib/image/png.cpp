// PNG through libpng.
#include <png.h>

#include <csetjmp>
#include <cstdio>
#include <cstring>

#include "core/error.hpp"
#include "image/codecs.hpp"

namespace replk::image {
namespace {

using core::Status;

// libpng reads from and reports errors to this.
struct Stream {
  std::span<const std::uint8_t> rest;
  char message[256] = "";
};

void read_bytes(png_structp png, png_bytep destination, std::size_t count) {
  auto* stream = static_cast<Stream*>(png_get_io_ptr(png));
  if (count > stream->rest.size()) png_error(png, "the file ends early");
  std::memcpy(destination, stream->rest.data(), count);
  stream->rest = stream->rest.subspan(count);
}

[[noreturn]] void leave(png_structp png, png_const_charp message) {
  auto* stream = static_cast<Stream*>(png_get_error_ptr(png));
  std::snprintf(stream->message, sizeof stream->message, "%s", message);
  png_longjmp(png, 1);
}

void be_silent(png_structp, png_const_charp) {}

class Decoder {
 public:
  Decoder(std::span<const std::uint8_t> bytes, const std::string& name) : name_(name), stream_{bytes} {
    png_ = png_create_read_struct(PNG_LIBPNG_VER_STRING, &stream_, leave, be_silent);
    if (png_) info_ = png_create_info_struct(png_);
    if (!info_) {
      png_destroy_read_struct(&png_, nullptr, nullptr);
      core::fail(Status::out_of_memory, "{}: no memory for a PNG decoder", name_);
    }
  }
  ~Decoder() { png_destroy_read_struct(&png_, &info_, nullptr); }
  Decoder(const Decoder&) = delete;
  Decoder& operator=(const Decoder&) = delete;

  Image decode() {
    guarded([&] {
      png_set_read_fn(png_, &stream_, read_bytes);
      png_set_user_limits(png_, PNG_UINT_31_MAX, PNG_UINT_31_MAX);  // check_size says it better
      png_read_info(png_, info_);
    });
    check_size(name_, png_get_image_height(png_, info_), png_get_image_width(png_, info_));
    Image image(static_cast<int>(png_get_image_height(png_, info_)),
                static_cast<int>(png_get_image_width(png_, info_)));
    const bool wide_grey =
        png_get_color_type(png_, info_) == PNG_COLOR_TYPE_GRAY && png_get_bit_depth(png_, info_) == 16;
    if (wide_grey) {
      read_wide_grey(image);
    } else {
      read_rgb(image);
    }
    return image;
  }

 private:
  // Any format but 16-bit grey; of 16-bit values the high byte is taken, as Pillow does.
  void read_rgb(Image& image) {
    guarded([&] {
      png_set_strip_16(png_);
      png_set_strip_alpha(png_);
      png_set_palette_to_rgb(png_);
      png_set_expand_gray_1_2_4_to_8(png_);
      png_set_gray_to_rgb(png_);
      const int passes = png_set_interlace_handling(png_);
      png_read_update_info(png_, info_);
      if (png_get_rowbytes(png_, info_) != static_cast<std::size_t>(image.width) * 3) {
        png_error(png_, "rows are not 8-bit RGB after conversion");
      }
      for (int pass = 0; pass < passes; ++pass) {
        for (int y = 0; y < image.height; ++y) png_read_row(png_, image.row(y), nullptr);
      }
    });
  }

  // 16-bit grey is a mode of its own in Pillow (I;16), and what is above 255 becomes 255 in its conversion to
  // RGB.
  void read_wide_grey(Image& image) {
    const std::size_t row_bytes = static_cast<std::size_t>(image.width) * 2;
    core::Buffer<png_byte> grey(row_bytes * image.height);
    guarded([&] {
      const int passes = png_set_interlace_handling(png_);
      png_read_update_info(png_, info_);
      for (int pass = 0; pass < passes; ++pass) {
        for (int y = 0; y < image.height; ++y) png_read_row(png_, grey.data() + y * row_bytes, nullptr);
      }
    });
    for (std::size_t i = 0; i < grey.size() / 2; ++i) {
      const png_byte value = grey[2 * i] != 0 ? 255 : grey[2 * i + 1];
      std::memset(image.pixels.data() + 3 * i, value, 3);
    }
  }

  // Runs calls of libpng. The jump back runs no destructors, so `step` owns nothing.
  template <class Step>
  void guarded(Step step) {
    if (setjmp(png_jmpbuf(png_)) == 0) {
      step();
    } else {
      core::fail(Status::bad_file, "{}: PNG: {}", name_, stream_.message);
    }
  }

  const std::string& name_;
  Stream stream_;
  png_structp png_ = nullptr;
  png_infop info_ = nullptr;
};

}  // namespace

Image decode_png(std::span<const std::uint8_t> bytes, const std::string& name) {
  return Decoder(bytes, name).decode();
}

}  // namespace replk::image
