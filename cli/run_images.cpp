#include "cli/run_images.hpp"

#include <algorithm>
#include <string>

#include "core/error.hpp"
#include "core/threads.hpp"
#include "model/picture.hpp"

namespace replk::cli {

std::int64_t run_images(model::Network& network, const Dataset& dataset,
                        const std::vector<std::int64_t>& chosen, Size size, int most,
                        const std::function<void(std::int64_t, const float*)>& judge) {
  if (chosen.empty()) return 0;
  const std::size_t batch = std::min<std::size_t>(static_cast<std::size_t>(most), chosen.size());
  const std::size_t pixels_of_one = static_cast<std::size_t>(size.height) * size.width * 3;
  std::vector<float> pixels(pixels_of_one * batch);
  std::vector<float> logits(static_cast<std::size_t>(network.classes()) * batch);
  std::vector<std::string> faults(batch);
  std::int64_t failed = 0;
  Progress progress(std::ssize(chosen), "images");
  for (std::size_t begin = 0; begin < chosen.size(); begin += batch) {
    const std::size_t count = std::min(batch, chosen.size() - begin);
    core::parallel_for(static_cast<std::int64_t>(count), network.threads(), [&](std::int64_t i, int) {
      faults[i].clear();
      try {
        model::prepare_picture(dataset.read(chosen[begin + i]), network.architecture().preprocessing,
                               size.height, size.width, &pixels[pixels_of_one * i]);
      } catch (const core::Error& error) {
        faults[i] = error.what();
      }
    });
    network.run({pixels.data(), static_cast<std::int64_t>(batch), size.height, size.width},
                {.logits = logits.data()});
    for (std::size_t i = 0; i < count; ++i) {
      if (faults[i].empty()) {
        judge(chosen[begin + i], &logits[i * network.classes()]);
        continue;
      }
      progress.clear();
      report_failure(faults[i]);
      ++failed;
    }
    progress.advance(static_cast<std::int64_t>(count));
  }
  return failed;
}

}  // namespace replk::cli
