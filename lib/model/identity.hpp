// Whether a file is the network that was asked for, with PyTorch's strict loading as the measure: a tensor
// that is the network's by name and is not used means a file of another network, and another answer than that
// network's. What is foreign beside it (moving averages, an optimiser's state) may be passed over.
#pragma once
#include "model/architecture.hpp"
#include "model/fold.hpp"
#include "model/weight_source.hpp"

namespace replk::model {

/// Throws bad_file where the source's metadata name another model of the table (`model`, which convert.py
/// writes). Kernels in the name are not compared: the tensors' shapes have them. A name that is not the
/// table's says nothing.
void check_model_name(const Architecture& architecture, const WeightSource& weights);

/// After all layers were read; architecture.classes is what was built. Throws bad_file naming the tensors
/// left that are the network's by their name's first part (`stages` of stages.2.9.gamma), a stage's norm
/// apart and, without a head, what belongs to it. Warns of the others.
void check_leftovers(const Architecture& architecture, const TensorReader& reader);

}  // namespace replk::model
