#include "cli/categories.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <initializer_list>
#include <utility>

#include "core/error.hpp"

namespace replk::cli {
namespace {

struct Category {
  const char* word;
  std::initializer_list<std::pair<int, int>> classes;  // first and last of each run, in ILSVRC's order
};

// The 16 categories as their authors publish them by WordNet's ids (github.com/bethgelab/model-vs-human,
// helper/human_categories.py), in the order of the ids, which is that of the classes of all checkpoints.
const Category geirhos[] = {
    {"airplane", {{404, 404}}},
    {"bear", {{294, 297}}},
    {"bicycle", {{444, 444}, {671, 671}}},
    {"bird", {{8, 8}, {10, 16}, {18, 20}, {22, 24}, {80, 83}, {87, 96}, {98, 100}, {127, 133}, {135, 145}}},
    {"boat", {{472, 472}, {554, 554}, {625, 625}, {814, 814}, {914, 914}}},
    {"bottle", {{440, 440}, {720, 720}, {737, 737}, {898, 899}, {901, 901}, {907, 907}}},
    {"car", {{436, 436}, {511, 511}, {817, 817}}},
    {"cat", {{281, 286}}},
    {"chair", {{423, 423}, {559, 559}, {765, 765}, {857, 857}}},
    {"clock", {{409, 409}, {530, 530}, {892, 892}}},
    {"dog",
     {{152, 191},
      {193, 203},
      {205, 226},
      {228, 241},
      {243, 250},
      {252, 257},
      {259, 259},
      {261, 263},
      {265, 268}}},
    {"elephant", {{385, 386}}},
    {"keyboard", {{508, 508}, {878, 878}}},
    {"knife", {{499, 499}}},
    {"oven", {{766, 766}}},
    {"truck",
     {{555, 555}, {569, 569}, {656, 656}, {675, 675}, {717, 717}, {734, 734}, {864, 864}, {867, 867}}},
};
constexpr int imagenet_classes = 1000;

std::string word_of(const std::string& label) {
  std::string word;
  for (const unsigned char c : label)
    if (std::isalnum(c)) word += static_cast<char>(std::tolower(c));
  return word;
}

}  // namespace

Categories categories_of(int classes, const std::vector<std::string>& labels) {
  Categories all;
  all.of_class.assign(static_cast<std::size_t>(classes), -1);
  if (classes == imagenet_classes) {
    for (const Category& each : geirhos) {
      for (const auto& [first, last] : each.classes)
        for (int c = first; c <= last; ++c)
          all.of_class[static_cast<std::size_t>(c)] = static_cast<int>(all.words.size());
      all.words.emplace_back(each.word);
    }
    return all;
  }
  for (int c = 0; c < classes; ++c) {
    const std::string word = c < std::ssize(labels) ? word_of(labels[static_cast<std::size_t>(c)]) : "";
    if (word.empty() || all.find(word) >= 0)
      core::fail(
          core::Status::invalid_argument,
          "--shape-bias: class {} of the weights has {}; allowed: labels that differ in their letters and "
          "digits, or ImageNet's 1,000 classes",
          c, word.empty() ? "no label" : fmt::format("'{}', as another has", word));
    all.of_class[static_cast<std::size_t>(c)] = c;
    all.words.push_back(word);
  }
  return all;
}

int Categories::find(const std::string& word) const {
  const auto found = std::find(words.begin(), words.end(), word);
  return found == words.end() ? -1 : static_cast<int>(found - words.begin());
}

int Categories::decide(const float* logits) const {
  const double highest = *std::max_element(logits, logits + of_class.size());
  std::vector<double> sums(words.size());
  std::vector<int> counts(words.size());
  for (std::size_t c = 0; c < of_class.size(); ++c) {
    if (of_class[c] < 0) continue;
    sums[static_cast<std::size_t>(of_class[c])] += std::exp(static_cast<double>(logits[c]) - highest);
    ++counts[static_cast<std::size_t>(of_class[c])];
  }
  int best = 0;
  for (std::size_t k = 0; k < sums.size(); ++k) {
    sums[k] /= counts[k];
    if (std::isnan(sums[k])) return -1;
    if (sums[k] > sums[static_cast<std::size_t>(best)]) best = static_cast<int>(k);
  }
  return best;
}

}  // namespace replk::cli
