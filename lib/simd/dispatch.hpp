// One loop, compiled for every instruction set; the one in use is picked when it is called. For .cpp files
// only.
#pragma once
#include <cmath>
#include <cstdint>

#include "core/cpu.hpp"
#include "core/fma.hpp"

#define REPLK_INLINE static inline __attribute__((always_inline))

/// Defines name(...) that calls name_body<Fma>(...), an REPLK_INLINE template, compiled for core::cpu().isa.
#define REPLK_DISPATCH(name, parameters, arguments)                                                      \
  __attribute__((target("avx2,fma"))) void name##_avx2 parameters {                                      \
    name##_body<::replk::simd::FusedFma> arguments;                                                      \
  }                                                                                                      \
  __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma"))) void name##_avx512 parameters { \
    name##_body<::replk::simd::FusedFma> arguments;                                                      \
  }                                                                                                      \
  void name##_portable parameters {                                                                      \
    name##_body<::replk::simd::EmulatedFma> arguments;                                                   \
  }                                                                                                      \
  void name parameters {                                                                                 \
    switch (::replk::core::cpu().isa) {                                                                  \
      case Isa::avx512:                                                                                  \
        return name##_avx512 arguments;                                                                  \
      case Isa::avx2:                                                                                    \
        return name##_avx2 arguments;                                                                    \
      default:                                                                                           \
        return name##_portable arguments;                                                                \
    }                                                                                                    \
  }

namespace replk::simd {

/// Both round once; the first becomes one instruction where it is inlined into code that may use it.
struct FusedFma {
  __attribute__((always_inline)) float operator()(float a, float b, float c) const {
    return __builtin_fmaf(a, b, c);
  }
};
struct EmulatedFma {
  __attribute__((always_inline)) float operator()(float a, float b, float c) const {
    return core::emulated_fma(a, b, c);
  }
};

}  // namespace replk::simd
