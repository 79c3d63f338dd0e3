// Which of a layer's three convolutions is asked for.
#pragma once

namespace replk::depthwise {

enum class Pass { forward, input_gradient, weight_gradient };

}  // namespace replk::depthwise
