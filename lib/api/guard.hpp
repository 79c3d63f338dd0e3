// What every function of the C API is wrapped in: exceptions end here, as a status and this thread's message.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstring>
#include <exception>
#include <new>

#include "core/error.hpp"
#include "replk/replk.h"

namespace replk::api {

void set_last_error(const char* message) noexcept;

inline replk_status failed(replk_status status, const char* message) noexcept {
  set_last_error(message);
  return status;
}

template <class Body>
replk_status guarded(Body&& body) noexcept {
  try {
    body();
    return REPLK_OK;
  } catch (const core::Error& e) {
    return failed(static_cast<replk_status>(e.status()), e.what());
  } catch (const std::bad_alloc&) {
    return failed(REPLK_OUT_OF_MEMORY, "no memory");
  } catch (const std::exception& e) {
    return failed(REPLK_INTERNAL, e.what());
  } catch (...) {
    return failed(REPLK_INTERNAL, "unknown error");
  }
}

template <class T>
T& not_null(T* pointer, const char* name) {
  if (!pointer) core::fail(core::Status::invalid_argument, "{} is NULL; allowed: a pointer", name);
  return *pointer;
}

/// A caller's structure, which may be of an older (shorter) or newer (longer) header: what is missing is as
/// in `standard`; what this library does not know must be zero.
template <class T>
T read(const T* given, T standard, std::size_t first_size, const char* name) {
  const std::size_t size = not_null(given, name).struct_size;
  if (size < first_size || size > 65536)
    core::fail(core::Status::invalid_argument, "{}.struct_size is {}; allowed: {} to 65536 (sizeof)", name,
               size, first_size);
  const auto* bytes = reinterpret_cast<const unsigned char*>(given);
  if (size > sizeof(T) &&
      std::any_of(bytes + sizeof(T), bytes + size, [](unsigned char b) { return b != 0; }))
    core::fail(core::Status::unsupported, "{} sets fields that are newer than this library, version {}", name,
               replk_version());
  std::memcpy(&standard, given, std::min(size, sizeof(T)));
  return standard;
}

/// Fills a caller's structure, whose struct_size is set and stays: as much of it as an older header had.
template <class T>
void write(const T& filled, T* into, std::size_t first_size, const char* name) {
  const std::size_t size = not_null(into, name).struct_size;
  if (size < first_size || size > 65536)
    core::fail(core::Status::invalid_argument, "{}.struct_size is {}; allowed: {} to 65536 (sizeof)", name,
               size, first_size);
  std::memcpy(into, &filled, std::min(size, sizeof(T)));
  into->struct_size = size;
}

}  // namespace replk::api
