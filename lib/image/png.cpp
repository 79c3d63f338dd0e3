// PNG through libpng.
#include <png.h>

#include <algorithm>
#include <csetjmp>
#include <cstdint>
#include <cstdio>
#include <cstring>

#include "core/error.hpp"
#include "image/codecs.hpp"

namespace replk::image {
namespace {

using core::Status;

std::uint32_t big_endian(const std::uint8_t* bytes) {
  return std::uint32_t{bytes[0]} << 24 | std::uint32_t{bytes[1]} << 16 | std::uint32_t{bytes[2]} << 8 |
         bytes[3];
}

// libpng reads from and reports errors to this.
struct Stream {
  std::span<const std::uint8_t> rest;
  std::size_t until_header = 8;  // bytes before the next chunk's length and name; in front of the first, 8
  char message[256] = "";

  // What libpng reads of a length and a name: of data that the file is cut in, libpng asks for all at once,
  // and would not look at what there is.
  void shorten_cut_data(png_bytep header) const {
    const std::uint32_t length = big_endian(header);
    if (std::memcmp(header + 4, "IDAT", 4) == 0 && length > rest.size())
      for (int i = 0; i < 4; i++) header[i] = static_cast<png_byte>(rest.size() >> (24 - 8 * i));
  }
};

void read_bytes(png_structp png, png_bytep destination, std::size_t count) {
  auto* stream = static_cast<Stream*>(png_get_io_ptr(png));
  if (count > stream->rest.size()) png_error(png, "the file ends early");
  std::memcpy(destination, stream->rest.data(), count);
  stream->rest = stream->rest.subspan(count);
  if (stream->until_header > 0 || count < 8) {
    stream->until_header -= std::min(count, stream->until_header);
    return;
  }
  stream->until_header = std::size_t{big_endian(destination)} + 4;  // and its checksum
  stream->shorten_cut_data(destination);
}

[[noreturn]] void leave(png_structp png, png_const_charp message) {
  auto* stream = static_cast<Stream*>(png_get_error_ptr(png));
  std::snprintf(stream->message, sizeof stream->message, "%s", message);
  png_longjmp(png, 1);
}

void be_silent(png_structp, png_const_charp) {}
int pass_over(png_structp, png_unknown_chunkp) {
  return 1;  // as if it had been made use of
}

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
      // As Pillow: in front of the pixels every checksum counts, theirs do not; what is compressed may reach
      // back further than its header says, and a chunk of an unknown kind is passed over.
      png_set_option(png_, PNG_MAXIMUM_INFLATE_WINDOW, PNG_OPTION_ON);
      png_set_crc_action(png_, PNG_CRC_ERROR_QUIT, PNG_CRC_ERROR_QUIT);
      png_set_read_user_chunk_fn(png_, nullptr, pass_over);
      png_read_info(png_, info_);
      png_set_crc_action(png_, PNG_CRC_QUIET_USE, PNG_CRC_NO_CHANGE);
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
    });
    read_rows(image.pixels.data(), image.height, static_cast<std::size_t>(image.width) * 3);
  }

  // 16-bit grey is a mode of its own in Pillow (I;16), and what is above 255 becomes 255 in its conversion to
  // RGB.
  void read_wide_grey(Image& image) {
    const std::size_t row_bytes = static_cast<std::size_t>(image.width) * 2;
    core::Buffer<png_byte> grey(row_bytes * image.height);
    read_rows(grey.data(), image.height, row_bytes);
    for (std::size_t i = 0; i < grey.size() / 2; ++i) {
      const png_byte value = grey[2 * i] != 0 ? 255 : grey[2 * i + 1];
      std::memset(image.pixels.data() + 3 * i, value, 3);
    }
  }

  // Once all pixels are there, nothing behind them is asked for: as with Pillow, the checksum of what was
  // compressed may be missing, and the end of the file as well.
  void read_rows(png_bytep first, int height, std::size_t row_bytes) {
    const bool ended = tried([&] {
      const int passes = png_set_interlace_handling(png_);
      png_read_update_info(png_, info_);
      if (png_get_rowbytes(png_, info_) != row_bytes)
        png_error(png_, "rows are of another length after conversion");
      for (int pass = 0; pass < passes; ++pass) {
        for (int y = 0; y < height; ++y) png_read_row(png_, first + y * row_bytes, nullptr);
      }
    });
    // libpng counts a row, or the last pass of an interlaced picture, when it has written it, and then looks
    // for the end.
    constexpr int passes_of_interlaced = 7;
    const bool complete = png_get_interlace_type(png_, info_) == PNG_INTERLACE_NONE
                              ? png_get_current_row_number(png_) == static_cast<png_uint_32>(height)
                              : png_get_current_pass_number(png_) == passes_of_interlaced;
    if (!ended && !complete) refuse();
  }

  // Runs calls of libpng; false where it gave up. The jump back runs no destructors, so `step` owns nothing.
  template <class Step>
  bool tried(Step step) {
    if (setjmp(png_jmpbuf(png_)) != 0) return false;
    step();
    return true;
  }

  template <class Step>
  void guarded(Step step) {
    if (!tried(step)) refuse();
  }

  [[noreturn]] void refuse() const { core::fail(Status::bad_file, "{}: PNG: {}", name_, stream_.message); }

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
