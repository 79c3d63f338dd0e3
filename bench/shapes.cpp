#include "bench/shapes.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace replk::bench {
namespace {

using Shapes = std::vector<std::string>;

// Tables of stages: channels, map, kernel.
struct Stage {
  int channels, map;
  const char* kernel;
};

void add(Shapes& shapes, std::initializer_list<Stage> stages) {
  for (const Stage& s : stages)
    shapes.push_back(fmt::format("n1c{}h{}w{}{}", s.channels, s.map, s.map, s.kernel));
}

Shapes replknet() {
  Shapes s;
  add(s, {{128, 56, "k31"}, {256, 28, "k29"}, {512, 14, "k27"}, {1024, 7, "k13"}});   // 31B at 224
  add(s, {{128, 96, "k31"}, {256, 48, "k29"}, {512, 24, "k27"}, {1024, 12, "k13"}});  // 31B at 384
  add(s, {{192, 56, "k31"}, {1536, 7, "k13"}});                                       // 31L at 224
  add(s, {{128, 56, "k9"}, {128, 56, "k13"}, {128, 56, "k17"}, {128, 56, "k21"}, {512, 14, "k13"}});
  add(s, {{128, 56, "k3"}, {128, 56, "k5"}});  // where large-kernel code has the least to gain
  s.push_back("n1c64h512w128k31");
  return s;
}

Shapes slak() {
  Shapes s;
  add(s, {{128, 56, "k51x5"}, {128, 56, "k5x51"}, {128, 56, "k51"}});
  add(s, {{124, 56, "k51x5,5x51,5x5"},
          {249, 28, "k49x5,5x49,5x5"},
          {499, 14, "k47x5,5x47,5x5"},
          {998, 7, "k13x5,5x13,5x5"}});
  return s;
}

Shapes convnext() {
  Shapes s;
  add(s, {{96, 56, "k7"}, {192, 28, "k7"}, {384, 14, "k7"}, {768, 7, "k7"}});   // T at 224
  add(s, {{96, 96, "k7"}, {192, 48, "k7"}, {384, 24, "k7"}, {768, 12, "k7"}});  // T at 384
  return s;
}

Shapes table1() {
  Shapes s;
  for (int map : {16, 32, 64})
    for (int kernel : {3, 5, 7, 9, 13, 17, 21, 27, 29, 31})
      s.push_back(fmt::format("n1c384h{}w{}k{}", map, map, kernel));
  return s;
}

Shapes sizes() {
  Shapes s;
  struct Map {
    int channels, side;
  };
  for (auto [channels, side] :
       {Map{512, 7}, Map{256, 14}, Map{128, 28}, Map{128, 56}, Map{64, 112}, Map{32, 256}})
    for (int kernel : {3, 5, 7, 9, 13, 21, 31, 45, 61})
      s.push_back(fmt::format("n1c{}h{}w{}k{}", channels, side, side, kernel));
  return s;
}

Shapes ragged() {
  return {"n1c1h56w56k31",          "n1c3h224w224k13",   "n1c124h56w56k31",     "n1c249h28w28k29",
          "n1c499h14w14k27",        "n1c128h57w55k31",   "n2c100h33w47k15",     "n1c128h56w56k30",
          "n1c128h56w56k7x21",      "n1c128h56w56k13s2", "n1c144h56w56k3s2",    "n1c128h56w56k5d3",
          "n1c64h56w56k13,5d2,3d5", "n1c128h56w56k31p0", "n1c128h56w56k31nchw", "n1c128h56w56k31bf16"};
}

}  // namespace

const std::vector<Suite>& suites() {
  static const std::vector<Suite> all = {
      {"replknet", "RepLKNet-31B and 31L's layers, and smaller kernels on the same maps", replknet()},
      {"slak", "SLaK's stripes, alone and as one problem", slak()},
      {"convnext", "ConvNeXt-T's layers", convnext()},
      {"table1", "RepLKNet's table 1, one of its 24 layers and batch 1 of its 64", table1()},
      {"sizes", "kernel 3 to 61 on maps of 7 to 256", sizes()},
      {"ragged", "odd channels and maps, stride, dilation, branches, other layouts and types", ragged()},
  };
  return all;
}

std::vector<std::string> tuning_shapes() {
  Shapes s;
  add(s, {{128, 56, "k31"}, {256, 28, "k29"}, {512, 14, "k27"}, {1024, 7, "k13"}, {384, 32, "k31"}});
  add(s, {{384, 16, "k31"}, {128, 96, "k31"}, {256, 48, "k29"}, {512, 24, "k27"}, {1024, 12, "k13"}});
  Shapes batch8 = s;
  for (std::string& shape : batch8) shape.replace(0, 2, "n8");
  add(s, {{128, 56, "k51x5"}, {128, 56, "k5x51"}, {124, 56, "k51x5,5x51,5x5"}, {249, 28, "k49x5,5x49,5x5"}});
  add(s, {{499, 14, "k47x5,5x47,5x5"},
          {998, 7, "k13x5,5x13,5x5"},
          {128, 56, "k9"},
          {128, 56, "k13"},
          {128, 56, "k17"}});
  add(s,
      {{128, 56, "k21"}, {512, 14, "k13"}, {96, 56, "k7"}, {192, 28, "k7"}, {384, 14, "k7"}, {768, 7, "k7"}});
  add(s, {{96, 96, "k7"}, {192, 48, "k7"}, {384, 24, "k7"}, {768, 12, "k7"}, {128, 56, "k3"}});
  s.insert(s.end(), batch8.begin(), batch8.end());
  return s;
}

}  // namespace replk::bench
