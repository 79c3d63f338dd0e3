// GELU for the epilogues of products whose sums are in fp32.
#pragma once

namespace replk::jit {

// gelu(x) = max(x, 0) - bump(|x|) as in core/gelu.hpp, shorter: with u = min(|x|, L) - L/2,
// bump = (L^2/4 - u^2) * P(u), L = 5.5, P of degree 14 (Lawson's iteration). Error at most 2e-7 * max(1,
// |x|).
constexpr float gelu_limit = 5.5f;
constexpr float gelu_coefficients[] = {
    0x1.1c0c1ap-10f,  -0x1.7dca6cp-9f, 0x1.c91decp-9f,   -0x1.33bd9ep-9f, 0x1.cabc56p-11f,
    -0x1.7f97a8p-14f, -0x1.40bf5p-14f, 0x1.46f7c2p-15f,  -0x1.0948p-18f,  -0x1.7e9e7ep-19f,
    0x1.ee9c52p-21f,  0x1.394caep-24f, -0x1.f25798p-25f, 0x1.7f5244p-33f, 0x1.896e0ep-30f,
};

}  // namespace replk::jit
