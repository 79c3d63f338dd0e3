// The categories that a decision between shape and texture is made among.
#pragma once
#include <string>
#include <vector>

namespace replk::cli {

/// Categories have a word each, of small letters and digits: what cue-conflict images are named by.
struct Categories {
  std::vector<std::string> words;
  std::vector<int> of_class;  // each class's category; -1: none

  int find(const std::string& word) const;  // -1: none
  /// The category whose classes have the highest mean probability; of equal ones the first. -1 where a logit
  /// that counts is not a number.
  int decide(const float* logits) const;
};

/// ImageNet's 1,000 classes in the 16 categories of Geirhos et al., arXiv 1811.12231 (207 classes; the others
/// count for none); of another number of classes each is a category, whose word its label is, without what is
/// no letter or digit. Throws invalid_argument where two have the same word, or one has none.
Categories categories_of(int classes, const std::vector<std::string>& labels);

}  // namespace replk::cli
