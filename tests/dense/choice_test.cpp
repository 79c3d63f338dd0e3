#include "dense/choice.hpp"

#include <gtest/gtest.h>

#include <filesystem>
#include <set>

#include "core/features.hpp"
#include "dense/constants.hpp"
#include "jit/x64/fingerprint.hpp"

namespace replk::dense {
namespace {

TEST(DenseSpelling, WhatIsPrintedIsRead) {
  for (Activation activation : {Activation::none, Activation::relu, Activation::gelu})
    for (bool bias : {false, true}) {
      for (bool residual : {false, true}) {
        const Linear l{3136, 128, 512, bias, activation, residual};
        EXPECT_EQ(parse_linear(to_string(l)), l);
        EXPECT_FALSE(parse_convolution(to_string(l)));
      }
      const Convolution c{2, 3, 128, 224, 225, 3, 5, 2, 1, 1, 2, bias, activation};
      EXPECT_EQ(parse_convolution(to_string(c)), c);
      EXPECT_FALSE(parse_linear(to_string(c)));
    }
  for (Precision precision : {Precision::bf16, Precision::bf16x3, Precision::int8})
    for (Element src : {Element::f32, Element::bf16, Element::u8})
      for (Element copy : {Element::f32, Element::bf16, Element::u8}) {
        const Linear l{.rows = 7,
                       .inputs = 2,
                       .outputs = 3,
                       .precision = precision,
                       .src = src,
                       .result = copy == Element::f32,
                       .copy = copy};
        EXPECT_EQ(parse_linear(to_string(l)), l) << to_string(l);
      }
  EXPECT_EQ(to_string(Linear{.rows = 7,
                             .inputs = 2,
                             .outputs = 3,
                             .activation = Activation::gelu,
                             .residual = true,
                             .precision = Precision::int8,
                             .src = Element::u8,
                             .copy = Element::bf16}),
            "linear-r7i2o3+bias+gelu+residual+int8+from-u8+also-bf16");
  for (const char* text :
       {"", "linear", "linear-r1i2", "linear-r1i2o3x", "linear-r1i2o3+bias+bias", "linear-r01i2o3",
        "linear-r99999999999999999999i2o3", "dense-n1i3o128h224w224k3x3s2x2p1x1+residual"}) {
    EXPECT_FALSE(parse_linear(text)) << text;
    EXPECT_FALSE(parse_convolution(text)) << text;
  }
}

TEST(DenseKey, WhatWasMeasuredWithAnotherConstantIsNotFound) {
  auto values = jit::values_of<Constants>;
  const std::string version = key_version(values);
  for (const tuner::Key& key : {question(Linear{}, 1).key, question(Convolution{}, 1).key})
    EXPECT_NE(key.json().find('"' + version + '"'), std::string::npos);
  std::set<std::string> seen{version};
  for (std::int32_t& value : values) {
    value++;
    seen.insert(key_version(values));
    value--;
  }
  EXPECT_EQ(seen.size(), values.size() + 1);
}

class DenseChoice : public ::testing::Test {
 protected:
  DenseChoice() {
    char name[] = "/tmp/replk-dense-XXXXXX";
    directory = mkdtemp(name);
    settings.mode = tuner::Mode::now;
    settings.budget_seconds = 0.05;
  }
  ~DenseChoice() override { std::filesystem::remove_all(directory); }

  void tune(const tuner::Question& q) {
    tuner::Cache cache(directory + "/tune.jsonl", {});
    const tuner::Choice first = tuner::choose(q, settings, cache);
    EXPECT_EQ(first.source, "measured") << q.key.shape;
    for (std::size_t i = 0; i < first.raced.size(); i++)
      EXPECT_NE(first.standings[i].fate, tuner::Standing::wrong)
          << q.key.shape << ": " << first.raced[i].text;
    EXPECT_EQ(tuner::choose(q, settings, cache).source, "cache");
  }
  std::string directory;
  tuner::Settings settings;
};

TEST_F(DenseChoice, EveryCandidateIsRightAndThePickIsRemembered) {
  tune(question(Linear{49, 24, 40, true, Activation::gelu, true}, 2));
  tune(question(Linear{100, 32, 16, false, Activation::relu, false}, 1));
  tune(question(Convolution{2, 3, 16, 20, 22, 3, 3, 2, 2, 1, 1, true, Activation::relu}, 2));
}

TEST_F(DenseChoice, NarrowCandidatesAreRightToo) {
  for (const Precision precision : {Precision::bf16, Precision::int8, Precision::bf16x3})
    for (const bool narrow : {false, true}) {
      const bool three = precision == Precision::bf16x3;
      if (three && (narrow || !core::features().has(Feature::amx_bf16))) continue;
      Linear l{
          .rows = 49, .inputs = 66, .outputs = 40, .activation = Activation::gelu, .precision = precision};
      l.residual = !narrow;
      if (narrow) l.src = precision == Precision::bf16 ? Element::bf16 : Element::u8;
      l.copy = narrow ? l.src : Element::f32;
      l.result = !narrow;
      tune(question(l, 2));
    }
}

TEST_F(DenseChoice, WithoutACacheThePickIsTheFirstCandidate) {
  settings.mode = tuner::Mode::off;
  const Linear l{49, 24, 40, true, Activation::none, false};
  tuner::Cache cache("", {});
  EXPECT_EQ(tuner::choose(question(l, 1), settings, cache).text, candidates(l, 1).front());
}

TEST_F(DenseChoice, OnlyListedChoicesAreLegal) {
  const Linear l{49, 24, 40, true, Activation::none, false};
  const tuner::Question q = question(l, 1);
  for (const tuner::Candidate& each : q.candidates()) EXPECT_TRUE(q.legal(each.text));
  for (const char* text : {"", "onednn", "onednn primitive=matmul implementation=ref:any", "portable"})
    EXPECT_FALSE(q.legal(text));
}

}  // namespace
}  // namespace replk::dense
