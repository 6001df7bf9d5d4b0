// SPDX-License-Identifier: Apache-2.0
//! A chip, and the interface that it shares with a mesh. The order of the first virtual functions is that of TT-Metal.
#pragma once

#include <memory>
#include <span>

#include "types.hpp"

namespace tt::tt_metal {

class AllocatorImpl;

class IDevice {
public:
    virtual ~IDevice() = default;
    virtual ARCH arch() const = 0;
    virtual int id() const = 0;
    virtual std::uint64_t build_id() const = 0;
    virtual std::uint8_t num_hw_cqs() const = 0;
    virtual bool is_initialized() const = 0;
    virtual bool initialize(
        std::uint8_t num_hw_cqs,
        std::size_t l1_small_size,
        std::size_t trace_region_size,
        std::size_t worker_l1_size,
        std::span<const std::uint32_t> l1_bank_remap,
        bool minimal) = 0;
    virtual bool close() = 0;
    virtual AllocatorImpl* allocator_impl() const = 0;
    virtual SubDeviceManagerId get_active_sub_device_manager_id() const = 0;
};

class Device : public IDevice {
public:
    explicit Device(int id);
    ~Device() override;
    ARCH arch() const override;
    __attribute__((visibility("hidden"))) int id() const override;
    std::uint64_t build_id() const override;
    std::uint8_t num_hw_cqs() const override;
    bool is_initialized() const override;
    bool initialize(
        std::uint8_t num_hw_cqs,
        std::size_t l1_small_size,
        std::size_t trace_region_size,
        std::size_t worker_l1_size,
        std::span<const std::uint32_t> l1_bank_remap,
        bool minimal) override;
    bool close() override;
    AllocatorImpl* allocator_impl() const override;
    SubDeviceManagerId get_active_sub_device_manager_id() const override;

private:
#if defined(LOOKALIKE_SHUFFLED)
    [[maybe_unused]] std::array<std::byte, 0x24> padding_{};
#elif defined(LOOKALIKE_PIMPL)
    [[maybe_unused]] std::array<std::byte, 0x10> padding_{};
#endif
    int id_;
    bool initialized_ = false;
    std::unique_ptr<AllocatorImpl> allocator_;
};

}  // namespace tt::tt_metal
