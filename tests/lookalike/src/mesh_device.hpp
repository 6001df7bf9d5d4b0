// SPDX-License-Identifier: Apache-2.0
//! Several chips that allocate in lock step: one address, valid on all of them.
#pragma once

#include "allocator.hpp"
#include "device.hpp"

namespace tt::tt_metal::distributed {

struct MeshShape {
    std::uint32_t chips;
};
struct MeshCoordinate {
    std::uint32_t first;
};

class MeshDevice;

class MeshDeviceImpl : public IDevice {
public:
    /// The chips; they are closed when the last mesh that uses them is.
    struct ScopedDevices {
        explicit ScopedDevices(std::uint32_t chips);
        ~ScopedDevices();
        std::vector<std::unique_ptr<Device>> devices;
    };

    MeshDeviceImpl(std::shared_ptr<ScopedDevices> scoped_devices, std::uint32_t first, std::uint32_t chips);
    ~MeshDeviceImpl() override;
    ARCH arch() const override;
    int id() const override;
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
    bool close_impl(MeshDevice* mesh);
    AllocatorImpl* allocator_impl() const override;
    SubDeviceManagerId get_active_sub_device_manager_id() const override;
    void cache_program(std::shared_ptr<Buffer> buffer);
    void disable_and_clear_program_cache();
    const std::vector<Device*>& devices() const { return devices_; }
    const std::shared_ptr<ScopedDevices>& scoped_devices() const { return scoped_devices_; }

private:
    std::shared_ptr<ScopedDevices> scoped_devices_;
    std::vector<Device*> devices_;
#if defined(LOOKALIKE_SHUFFLED)
    [[maybe_unused]] std::array<std::byte, 0x34> padding_{};
#elif defined(LOOKALIKE_PIMPL)
    [[maybe_unused]] std::array<std::byte, 0x38> padding_{};
#else
    [[maybe_unused]] std::array<std::byte, 0x18> padding_{};
#endif
    int mesh_id_;
    bool initialized_ = false;
    std::unique_ptr<AllocatorImpl> allocator_;
    /// What the cached programs hold.
    std::vector<std::shared_ptr<Buffer>> program_cache_;
};

class MeshDevice : public IDevice, public std::enable_shared_from_this<MeshDevice> {
public:
    explicit MeshDevice(std::unique_ptr<MeshDeviceImpl> impl);
    ~MeshDevice() override;
    static std::shared_ptr<MeshDevice> create(const MeshShape& shape);
    std::shared_ptr<MeshDevice> create_submesh(
        const MeshShape& shape, const std::optional<MeshCoordinate>& offset = std::nullopt);
    ARCH arch() const override;
    int id() const override;
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
    const std::vector<Device*>& get_devices() const;
    void cache_program(std::shared_ptr<Buffer> buffer);
    void disable_and_clear_program_cache();

private:
#ifdef LOOKALIKE_SHUFFLED
    [[maybe_unused]] std::array<std::byte, 0x18> padding_{};
#endif
    std::unique_ptr<MeshDeviceImpl> pimpl_;
};

}  // namespace tt::tt_metal::distributed
