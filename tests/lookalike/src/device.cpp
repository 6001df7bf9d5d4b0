// SPDX-License-Identifier: Apache-2.0
//! One chip.

#include "device.hpp"

#include "allocator.hpp"

namespace tt::tt_metal {

[[gnu::cold]] void fatal(const char* condition) { throw std::runtime_error(std::string("TT_FATAL: ") + condition); }

#ifdef LOOKALIKE_OBSCURED
volatile std::uint8_t obscuring_key = 0xa5;
#endif

Device::Device(int id) : id_(id), allocator_(std::make_unique<AllocatorImpl>()) {}
Device::~Device() = default;
ARCH Device::arch() const { return ARCH::BLACKHOLE; }
int Device::id() const { return id_; }
std::uint64_t Device::build_id() const { return 0; }
std::uint8_t Device::num_hw_cqs() const { return 1; }
bool Device::is_initialized() const { return initialized_; }
bool Device::initialize(
    std::uint8_t, std::size_t, std::size_t, std::size_t, std::span<const std::uint32_t>, bool) {
    initialized_ = true;
    return true;
}
bool Device::close() {
    initialized_ = false;
    return true;
}
AllocatorImpl* Device::allocator_impl() const { return allocator_.get(); }
SubDeviceManagerId Device::get_active_sub_device_manager_id() const { return SubDeviceManagerId(0); }

}  // namespace tt::tt_metal
