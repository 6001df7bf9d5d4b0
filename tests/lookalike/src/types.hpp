// SPDX-License-Identifier: Apache-2.0
//! The small types that appear in the signatures, and so in the mangled names, of TT-Metal's buffer classes.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <vector>

namespace ttsl {

template <typename T, typename Tag>
class StrongType {
public:
    constexpr StrongType() = default;
    explicit constexpr StrongType(T value) : value_(value) {}
    constexpr const T& operator*() const { return value_; }
    friend constexpr bool operator==(const StrongType& a, const StrongType& b) { return a.value_ == b.value_; }

private:
    T value_{};
};

}  // namespace ttsl

namespace tt::tt_metal {

using DeviceAddr = std::uint64_t;

struct SubDeviceIdTag;
struct SubDeviceManagerIdTag;
struct AllocatorIDTag;
using SubDeviceId = ttsl::StrongType<std::uint8_t, SubDeviceIdTag>;
using SubDeviceManagerId = ttsl::StrongType<std::uint64_t, SubDeviceManagerIdTag>;

enum class BufferType : std::int32_t { DRAM = 0, L1 = 1, SYSTEM_MEMORY = 2, L1_SMALL = 3, TRACE = 4 };
enum class TensorMemoryLayout : std::int32_t { INTERLEAVED = 0, HEIGHT_SHARDED = 2 };
enum class AllocationStatus : std::uint8_t { ALLOCATION_REQUESTED = 0, ALLOCATED = 1, DEALLOCATED = 2 };
enum class ARCH : std::int32_t { WORMHOLE_B0 = 2, BLACKHOLE = 3 };

class CoreRangeSet {
    std::vector<std::array<std::uint64_t, 4>> ranges_;
};

struct BufferShardingArgs {
    TensorMemoryLayout buffer_layout = TensorMemoryLayout::INTERLEAVED;
};

struct BufferRegion {
    DeviceAddr offset = 0;
    DeviceAddr size = 0;
};

[[noreturn]] void fatal(const char* condition);

}  // namespace tt::tt_metal
