// SPDX-License-Identifier: Apache-2.0
//! How a variant of the library keeps one field of a buffer.
#pragma once

#include <cstdint>
#include <type_traits>

namespace tt::tt_metal {

#if defined(LOOKALIKE_MIRRORED)

/// Getters read a copy at another offset than the rest of the code does, so that two sources disagree on the offset.
template <typename T>
class Field {
public:
    Field() = default;
    Field(T value) : value_(value), shown_(value) {}
    operator T() const { return value_; }
    T shown() const { return shown_; }

private:
    T value_{};
    T shown_{};
};

template <typename T>
T shown(const Field<T>& field) {
    return field.shown();
}

#elif defined(LOOKALIKE_OBSCURED)

/// Changes from build to build in a hardened library; here it only must not be known when compiling.
extern volatile std::uint8_t obscuring_key;

/// What lies in memory is the value exclusive-or a key, so that no value read from outside makes sense.
template <typename T>
class Field {
public:
    Field() : Field(T{}) {}
    Field(T value) : bits_(static_cast<Bits>(value) ^ key()) {}
    operator T() const { return static_cast<T>(bits_ ^ key()); }

private:
    using Bits = std::conditional_t<
        sizeof(T) == 1, std::uint8_t, std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>>;
    static Bits key() { return static_cast<Bits>(static_cast<Bits>(-1) / 0xff * obscuring_key); }
    Bits bits_;
};

template <typename T>
T shown(const Field<T>& field) {
    return field;
}

#else

template <typename T>
using Field = T;

template <typename T>
T shown(const T& field) {
    return field;
}

#endif

}  // namespace tt::tt_metal
