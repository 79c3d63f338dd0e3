// What a network makes of noise, where nothing better is known of its layers' inputs.
#pragma once
#include <map>

#include "model/architecture.hpp"
#include "model/quantise.hpp"
#include "model/weight_source.hpp"

namespace replk::model {

/// Calibrates with one picture of seeded noise, half as large again as the network's default, so that most of
/// it lies away from the borders. Of every linear layer over pixels, by its index in the graph. The same on
/// every CPU and with any number of threads: the fp32 network runs in class exact and in fixed order.
/// Throws as loading does.
std::map<int, InputKnowledge> calibrate_with_noise(const Architecture& architecture,
                                                   const WeightSource& source, int threads);

}  // namespace replk::model
