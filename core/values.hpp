// Values of a tensor together with the type they have, for tensors whose type is known only at run time.
#pragma once
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "core/error.hpp"
#include "core/half.hpp"
#include "core/types.hpp"

namespace replk {

template <class T>
constexpr Element element_of = Element::f32;
template <>
inline constexpr Element element_of<core::Bf16> = Element::bf16;
template <>
inline constexpr Element element_of<std::uint8_t> = Element::u8;
template <class T>
concept ElementType =
    std::is_same_v<T, float> || std::is_same_v<T, core::Bf16> || std::is_same_v<T, std::uint8_t>;

/// Where contiguous values begin, and what they are; none where it is false. Owns nothing. Byte is std::byte,
/// or const std::byte of values that are only read.
template <class Byte>
class TypedValues {
  template <class T>
  using Like = std::conditional_t<std::is_const_v<Byte>, const T, T>;  // as constant as the bytes

 public:
  TypedValues() = default;
  TypedValues(std::nullptr_t) {}
  TypedValues(Like<void>* data, Element type) : data_(static_cast<Byte*>(data)), type_(type) {}
  template <class T>
  requires(ElementType<std::remove_const_t<T>> && (std::is_const_v<Byte> || !std::is_const_v<T>))
      TypedValues(T* data)
      : TypedValues(data, element_of<std::remove_const_t<T>>) {}
  /// What may be written may be read.
  operator TypedValues<const std::byte>() const { return {data_, type_}; }

  explicit operator bool() const { return data_ != nullptr; }
  Element type() const { return type_; }
  Byte* bytes() const { return data_; }
  /// Of this type: an internal error where they have another one. Null where there are none.
  template <ElementType T>
  Like<T>* as() const {
    if (data_ && type_ != element_of<T>)
      core::fail(core::Status::internal, "values are {}, but are read as {}", name(type_),
                 name(element_of<T>));
    return reinterpret_cast<Like<T>*>(data_);
  }
  /// From the value `count` behind the first one on.
  TypedValues operator+(std::int64_t count) const {
    return {data_ + count * std::int64_t(size_of(type_)), type_};
  }

 private:
  Byte* data_ = nullptr;
  Element type_ = Element::f32;
};

using Values = TypedValues<std::byte>;
using ConstValues = TypedValues<const std::byte>;

}  // namespace replk
