// JPEG through libjpeg-turbo.
#include <csetjmp>
#include <cstddef>
#include <cstdio>
// jpeglib.h needs size_t and FILE from above.
#include <jerror.h>
#include <jpeglib.h>

#include "core/error.hpp"
#include "image/codecs.hpp"
#include "image/decode.hpp"

namespace replk::image {
namespace {

using core::Status;

// libjpeg reports errors by a callback that must not return: it jumps back into guarded(), which throws.
struct ErrorManager {
  jpeg_error_mgr base;  // first: the callbacks get its address
  std::jmp_buf escape;
  char message[JMSG_LENGTH_MAX];
};

[[noreturn]] void leave(j_common_ptr info) {
  auto* errors = reinterpret_cast<ErrorManager*>(info->err);
  info->err->format_message(info, errors->message);
  std::longjmp(errors->escape, 1);
}

// Damaged data is a warning to libjpeg and to Pillow, which show what they can. A file that ends early is an
// error.
void warn(j_common_ptr info, int level) {
  if (level < 0 && info->err->msg_code == JWRN_JPEG_EOF) leave(info);
}

void be_silent(j_common_ptr) {}

void limit_scans(j_common_ptr info) {
  if (reinterpret_cast<j_decompress_ptr>(info)->input_scan_number <= max_jpeg_scans) return;
  auto* errors = reinterpret_cast<ErrorManager*>(info->err);
  std::snprintf(errors->message, sizeof errors->message, "more than %d scans", max_jpeg_scans);
  std::longjmp(errors->escape, 1);
}

// a * b / 255, rounded, for bytes.
int multiply_bytes(int a, int b) {
  const int product = a * b + 128;
  return ((product >> 8) + product) >> 8;
}

// Ink values are stored inverted (255 is none), as Adobe does and Pillow takes for granted.
void cmyk_to_rgb(const JSAMPLE* cmyk, int width, std::uint8_t* rgb) {
  for (int x = 0; x < width; ++x, cmyk += 4, rgb += 3) {
    const int light = cmyk[3];
    for (int c = 0; c < 3; ++c) {
      rgb[c] = static_cast<std::uint8_t>(light - multiply_bytes(255 - cmyk[c], light));
    }
  }
}

class Decoder {
 public:
  Decoder(std::span<const std::uint8_t> bytes, const std::string& name) : name_(name) {
    info_.err = jpeg_std_error(&errors_.base);
    errors_.base.error_exit = leave;
    errors_.base.emit_message = warn;
    errors_.base.output_message = be_silent;
    progress_.progress_monitor = limit_scans;
    guarded([&] {
      jpeg_create_decompress(&info_);
      info_.progress = &progress_;
      jpeg_mem_src(&info_, bytes.data(), bytes.size());
    });
  }
  ~Decoder() { jpeg_destroy_decompress(&info_); }
  Decoder(const Decoder&) = delete;
  Decoder& operator=(const Decoder&) = delete;

  Image decode() {
    // Not in the constructor: a bad header would throw there, and what libjpeg holds by then would never be
    // freed.
    guarded([&] { jpeg_read_header(&info_, TRUE); });
    check_size(name_, info_.image_height, info_.image_width);
    const int components = info_.num_components;
    if (components != 1 && components != 3 && components != 4) {
      core::fail(Status::bad_file, "{}: {} colour components; expected 1, 3 or 4", name_, components);
    }
    info_.out_color_space = components == 4 ? JCS_CMYK : JCS_RGB;
    Image image(static_cast<int>(info_.image_height), static_cast<int>(info_.image_width));
    core::Buffer<JSAMPLE> cmyk(components == 4 ? static_cast<std::size_t>(image.width) * 4 : 0);
    guarded([&] {
      jpeg_start_decompress(&info_);
      for (int y = 0; y < image.height; ++y) {
        JSAMPROW row = components == 4 ? cmyk.data() : image.row(y);
        jpeg_read_scanlines(&info_, &row, 1);
        if (components == 4) cmyk_to_rgb(row, image.width, image.row(y));
      }
    });
    return image;
  }

 private:
  // Runs calls of libjpeg. The jump back runs no destructors, so `step` owns nothing.
  template <class Step>
  void guarded(Step step) {
    if (setjmp(errors_.escape) == 0) {
      step();
    } else {
      core::fail(Status::bad_file, "{}: JPEG: {}", name_, errors_.message);
    }
  }

  const std::string& name_;
  ErrorManager errors_{};
  jpeg_progress_mgr progress_{};
  jpeg_decompress_struct info_{};
};

}  // namespace

Image decode_jpeg(std::span<const std::uint8_t> bytes, const std::string& name) {
  return Decoder(bytes, name).decode();
}

}  // namespace replk::image
