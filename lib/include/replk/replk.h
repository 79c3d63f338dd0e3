/* libreplk_cpu: large-kernel depthwise convolution on x86-64 CPUs. The C API. */
#ifndef REPLK_REPLK_H
#define REPLK_REPLK_H

#if defined(_WIN32)
#error "libreplk_cpu runs on Linux"
#endif
#define REPLK_API __attribute__((visibility("default")))

#ifdef __cplusplus
extern "C" {
#endif

/* The library's version, "major.minor.patch"; never NULL. Thread-safe. */
REPLK_API const char* replk_version(void);

#ifdef __cplusplus
}
#endif

#endif /* REPLK_REPLK_H */
