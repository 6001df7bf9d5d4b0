// SPDX-License-Identifier: Apache-2.0
//! `Buffer`, in both generations: with its fields inside (up to 0.78), or in a `BufferImpl` behind a pointer (from 0.79).
#pragma once

#include <atomic>
#include <memory>

#include "field.hpp"
#include "types.hpp"

namespace lookalike {
struct Observer;
}

namespace tt::tt_metal {

class AllocatorImpl;
class Buffer;
class IDevice;
namespace distributed {
class MeshBuffer;
}

#ifdef LOOKALIKE_PIMPL
/// The buffer, as a parameter of what is a method of the implementation.
#define LOOKALIKE_BUFFER Buffer &buffer
#define LOOKALIKE_AND_BUFFER LOOKALIKE_BUFFER,

class BufferImpl {
public:
    BufferImpl(
        IDevice* device,
        DeviceAddr size,
        DeviceAddr page_size,
        BufferType buffer_type,
        const BufferShardingArgs& sharding_args,
        std::optional<bool> bottom_up,
        std::optional<SubDeviceId> sub_device_id,
        bool owns_data);
    BufferImpl(BufferImpl&&) = default;
    __attribute__((visibility("hidden"))) ~BufferImpl();
#else
#define LOOKALIKE_BUFFER
#define LOOKALIKE_AND_BUFFER

class Buffer : public std::enable_shared_from_this<Buffer> {
    struct Private {
        explicit Private() = default;
    };

public:
    Buffer(
        IDevice* device,
        DeviceAddr size,
        DeviceAddr page_size,
        BufferType buffer_type,
        const BufferShardingArgs& sharding_args,
        std::optional<bool> bottom_up,
        std::optional<SubDeviceId> sub_device_id,
        bool owns_data,
        Private);
    ~Buffer();
#endif

    /// Takes memory from the device's allocator.
    static std::shared_ptr<Buffer> create(
        IDevice* device,
        DeviceAddr size,
        DeviceAddr page_size,
        BufferType buffer_type,
        const BufferShardingArgs& sharding_args = {},
        std::optional<bool> bottom_up = std::nullopt,
        std::optional<SubDeviceId> sub_device_id = std::nullopt);
    /// Stands for memory that is somebody else's.
    static std::shared_ptr<Buffer> create(
        IDevice* device,
        DeviceAddr address,
        DeviceAddr size,
        DeviceAddr page_size,
        BufferType buffer_type,
        const BufferShardingArgs& sharding_args = {},
        std::optional<bool> bottom_up = std::nullopt,
        std::optional<SubDeviceId> sub_device_id = std::nullopt);
    std::shared_ptr<Buffer> view(LOOKALIKE_AND_BUFFER const BufferRegion& region);
    void deallocate(LOOKALIKE_BUFFER);

#ifdef LOOKALIKE_PIMPL
private:
    void allocate_impl(LOOKALIKE_BUFFER);
    void deallocate_impl(LOOKALIKE_BUFFER);
    static std::atomic<std::size_t> next_unique_id;

    friend class Buffer;
    friend class distributed::MeshBuffer;
    friend struct lookalike::Observer;
#include "buffer_fields.inc"
};

class Buffer : public std::enable_shared_from_this<Buffer> {
public:
    explicit Buffer(BufferImpl impl);
    ~Buffer();
    BufferImpl& impl();
    const BufferImpl& impl() const;
    DeviceAddr size() const;
    IDevice* device() const;
    BufferType buffer_type() const;
    TensorMemoryLayout buffer_layout() const;
    std::size_t unique_id() const;
#else
    void mark_as_deallocated();
#endif

    std::uint32_t address() const;
    DeviceAddr page_size() const;
    bool is_allocated() const;
    bool is_l1() const;
    bool is_dram() const;
    std::uint32_t num_pages() const;
    DeviceAddr aligned_page_size() const;
    DeviceAddr aligned_size() const;
    AllocatorImpl* allocator() const;

#ifdef LOOKALIKE_PIMPL
private:
    friend class BufferImpl;
    friend struct lookalike::Observer;
    BufferImpl& fields() const { return *pimpl_; }
#ifdef LOOKALIKE_SHUFFLED
    [[maybe_unused]] std::array<std::byte, 0x28> padding_{};
#endif
    std::unique_ptr<BufferImpl> pimpl_;
};

using BufferFields = BufferImpl;
#else
private:
    void allocate_impl();
    void deallocate_impl();
    static std::atomic<std::size_t> next_unique_id;

    friend struct lookalike::Observer;
    Buffer& fields() { return *this; }
    const Buffer& fields() const { return *this; }
#include "buffer_fields.inc"
};

using BufferFields = Buffer;
#endif

}  // namespace tt::tt_metal
