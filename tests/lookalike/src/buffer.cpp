// SPDX-License-Identifier: Apache-2.0
//! The life of a buffer. One text for both generations; only who holds the fields differs.

#include "buffer.hpp"

#include "allocator.hpp"
#include "device.hpp"
#include "graph_tracker.hpp"
#include "truth.hpp"

#ifdef LOOKALIKE_PIMPL
/// The buffer, seen from a method of whoever holds the fields.
#define LOOKALIKE_SELF buffer
#define LOOKALIKE_CALL_IMPL(self, method, ...) (self).impl().method(self __VA_OPT__(, ) __VA_ARGS__)
#else
#define LOOKALIKE_SELF (*this)
#define LOOKALIKE_CALL_IMPL(self, method, ...) (self).method(__VA_ARGS__)
#endif

namespace tt::tt_metal {

namespace {

/// Memory belongs to a set of sub-devices, which must be the one that is loaded.
inline void check_sub_device_manager(std::optional<SubDeviceManagerId> id, IDevice* device) {
    if (id.has_value() && !(*id == device->get_active_sub_device_manager_id())) {
        fatal("sub-device manager is not active");
    }
}

inline bool is_dram_type(BufferType type) { return type == BufferType::DRAM || type == BufferType::TRACE; }

#ifdef LOOKALIKE_PIMPL
std::shared_ptr<Buffer> make_buffer(
    IDevice* device,
    DeviceAddr size,
    DeviceAddr page_size,
    BufferType type,
    const BufferShardingArgs& sharding_args,
    std::optional<bool> bottom_up,
    std::optional<SubDeviceId> sub_device_id,
    bool owns_data) {
    BufferImpl impl(device, size, page_size, type, sharding_args, bottom_up, sub_device_id, owns_data);
    return std::make_shared<Buffer>(std::move(impl));
}
#define LOOKALIKE_MAKE_BUFFER(...) make_buffer(__VA_ARGS__)
#else
#define LOOKALIKE_MAKE_BUFFER(...) std::make_shared<Buffer>(__VA_ARGS__, Private())
#endif

}  // namespace

std::atomic<std::size_t> BufferFields::next_unique_id = 0;

#ifdef LOOKALIKE_PIMPL
BufferImpl::BufferImpl(
#else
Buffer::Buffer(
#endif
    IDevice* device,
    DeviceAddr size,
    DeviceAddr page_size,
    BufferType buffer_type,
    const BufferShardingArgs& sharding_args,
    std::optional<bool> bottom_up,
    std::optional<SubDeviceId> sub_device_id,
#ifdef LOOKALIKE_PIMPL
    bool owns_data) {
#else
    bool owns_data,
    Private) {
#endif
    device_ = device;
    size_ = size;
    buffer_type_ = buffer_type;
    buffer_layout_ = sharding_args.buffer_layout;
    bottom_up_ = bottom_up.value_or(is_dram_type(buffer_type));
    sub_device_id_ = sub_device_id;
    owns_data_ = owns_data;
    page_size_ = page_size;
    if (device == nullptr) {
        fatal("device is null");
    }
    if (sub_device_id.has_value()) {
        sub_device_manager_id_ = device->get_active_sub_device_manager_id();
    }
    allocator_ = device->allocator_impl();
    if (size != 0 && (page_size == 0 || size % page_size != 0)) {
        fatal("size is no multiple of the page size");
    }
    unique_id_ = next_unique_id.fetch_add(1);
}

std::shared_ptr<Buffer> BufferFields::create(
    IDevice* device,
    DeviceAddr size,
    DeviceAddr page_size,
    BufferType buffer_type,
    const BufferShardingArgs& sharding_args,
    std::optional<bool> bottom_up,
    std::optional<SubDeviceId> sub_device_id) {
    auto buffer = LOOKALIKE_MAKE_BUFFER(
        device, size, page_size, buffer_type, sharding_args, bottom_up, sub_device_id, /*owns_data=*/true);
    BufferFields& fields = buffer->fields();
    if (fields.size_ == 0) {
        fields.allocation_status_ = AllocationStatus::ALLOCATED;
        return buffer;
    }
    LOOKALIKE_CALL_IMPL(*buffer, allocate_impl);
    return buffer;
}

std::shared_ptr<Buffer> BufferFields::create(
    IDevice* device,
    DeviceAddr address,
    DeviceAddr size,
    DeviceAddr page_size,
    BufferType buffer_type,
    const BufferShardingArgs& sharding_args,
    std::optional<bool> bottom_up,
    std::optional<SubDeviceId> sub_device_id) {
    auto buffer = LOOKALIKE_MAKE_BUFFER(
        device, size, page_size, buffer_type, sharding_args, bottom_up, sub_device_id, /*owns_data=*/false);
    BufferFields& fields = buffer->fields();
    fields.address_ = address;
    fields.allocation_status_ = AllocationStatus::ALLOCATED;
    return buffer;
}

std::shared_ptr<Buffer> BufferFields::view(LOOKALIKE_AND_BUFFER const BufferRegion& region) {
    if (region.offset == 0 && region.size == size_) {
        return LOOKALIKE_SELF.shared_from_this();
    }
    auto part = create(device_, address_, region.size, page_size_, buffer_type_, {.buffer_layout = buffer_layout_});
    BufferFields& fields = part->fields();
    fields.root_buffer_ = root_buffer_ ? root_buffer_ : LOOKALIKE_SELF.shared_from_this();
    fields.root_buffer_offset_ = root_buffer_offset_ + region.offset;
    return part;
}

void BufferFields::allocate_impl(LOOKALIKE_BUFFER) {
    if (GraphTracker::instance().hook_allocate(&LOOKALIKE_SELF)) {
        address_ = 0;
        hooked_allocation_ = true;
    } else {
        check_sub_device_manager(sub_device_manager_id_, device_);
        address_ = allocator_->allocate_buffer(&LOOKALIKE_SELF);
    }
    allocation_status_ = AllocationStatus::ALLOCATED;
    GraphTracker::instance().track_allocate(&LOOKALIKE_SELF);
}

void BufferFields::deallocate(LOOKALIKE_BUFFER) {
    if (owns_data_) {
#ifdef LOOKALIKE_PIMPL
        deallocate_impl(buffer);
#else
        deallocate_impl();
#endif
    }
}

void BufferFields::deallocate_impl(LOOKALIKE_BUFFER) {
    if (allocation_status_ != AllocationStatus::ALLOCATED) {
        return;
    }
    if (device_->is_initialized() && size_ != 0) {
        GraphTracker::instance().track_deallocate(&LOOKALIKE_SELF);
        if (!GraphTracker::instance().hook_deallocate(&LOOKALIKE_SELF) && !hooked_allocation_) {
            check_sub_device_manager(sub_device_manager_id_, device_);
            allocator_->deallocate_buffer(&LOOKALIKE_SELF);
        }
    }
    allocation_status_ = AllocationStatus::DEALLOCATED;
}

#ifdef LOOKALIKE_PIMPL
BufferImpl::~BufferImpl() = default;

Buffer::Buffer(BufferImpl impl) : pimpl_(std::make_unique<BufferImpl>(std::move(impl))) {}

Buffer::~Buffer() {
    if (LightMetalCaptureContext::get().is_tracing()) {
        CaptureBufferDelete(*this);
    }
    if (pimpl_ && pimpl_->allocation_status_ != AllocationStatus::DEALLOCATED && pimpl_->owns_data_) {
        pimpl_->deallocate_impl(*this);
    }
}

BufferImpl& Buffer::impl() {
    if (!pimpl_) {
        fatal("buffer was moved from");
    }
    return *pimpl_;
}
const BufferImpl& Buffer::impl() const {
    if (!pimpl_) {
        fatal("buffer was moved from");
    }
    return *pimpl_;
}
DeviceAddr Buffer::size() const { return shown(fields().size_); }
IDevice* Buffer::device() const { return fields().device_; }
BufferType Buffer::buffer_type() const { return shown(fields().buffer_type_); }
TensorMemoryLayout Buffer::buffer_layout() const { return fields().buffer_layout_; }
std::size_t Buffer::unique_id() const { return shown(fields().unique_id_); }
#else
Buffer::~Buffer() {
    if (LightMetalCaptureContext::get().is_tracing()) {
        CaptureBufferDelete(*this);
    }
    if (allocation_status_ != AllocationStatus::DEALLOCATED && owns_data_) {
        deallocate_impl();
    }
}

void Buffer::mark_as_deallocated() {
#ifdef LOOKALIKE_EXCESS_REPORTING
    if (allocation_status_ == AllocationStatus::ALLOCATED) {
        GraphTracker::instance().track_deallocate(this);
    }
#endif
    allocation_status_ = AllocationStatus::DEALLOCATED;
}
#endif

std::uint32_t Buffer::address() const {
    const auto& fields = this->fields();
    if (shown(fields.allocation_status_) == AllocationStatus::ALLOCATION_REQUESTED) {
        fatal("buffer has no address yet");
    }
    return static_cast<std::uint32_t>(shown(fields.address_));
}
DeviceAddr Buffer::page_size() const { return shown(fields().page_size_); }
bool Buffer::is_allocated() const { return shown(fields().allocation_status_) == AllocationStatus::ALLOCATED; }
bool Buffer::is_l1() const {
    const BufferType type = shown(fields().buffer_type_);
    return type == BufferType::L1 || type == BufferType::L1_SMALL;
}
bool Buffer::is_dram() const { return is_dram_type(shown(fields().buffer_type_)); }
std::uint32_t Buffer::num_pages() const {
    const auto& fields = this->fields();
    const DeviceAddr page_size = shown(fields.page_size_);
    return page_size == 0 ? 0 : static_cast<std::uint32_t>(shown(fields.size_) / page_size);
}
DeviceAddr Buffer::aligned_page_size() const {
    const auto& fields = this->fields();
    const DeviceAddr alignment = fields.allocator_->get_alignment(shown(fields.buffer_type_));
    return (shown(fields.page_size_) + alignment - 1) / alignment * alignment;
}
DeviceAddr Buffer::aligned_size() const { return num_pages() * aligned_page_size(); }
AllocatorImpl* Buffer::allocator() const { return fields().allocator_; }

}  // namespace tt::tt_metal
