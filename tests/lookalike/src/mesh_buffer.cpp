// SPDX-License-Identifier: Apache-2.0
//! Who owns what, and what happens when the mesh is gone first.

#include "mesh_buffer.hpp"

#include "truth.hpp"

namespace tt::tt_metal::distributed {

std::shared_ptr<MeshBuffer> MeshBuffer::create(
    const MeshBufferConfig& mesh_buffer_config,
    const DeviceLocalBufferConfig& device_local_config,
    MeshDevice* mesh_device,
    std::optional<DeviceAddr> address) {
    const auto* replicated = std::get_if<ReplicatedBufferConfig>(&mesh_buffer_config);
    const DeviceAddr size =
        replicated ? replicated->size : std::get<ShardedBufferConfig>(mesh_buffer_config).global_size;
    std::shared_ptr<MeshBuffer> mesh_buffer;
    if (address) {
        mesh_buffer.reset(new MeshBuffer(mesh_buffer_config, device_local_config, *address, size, mesh_device));
    } else {
        auto backing_buffer = BufferFields::create(
            mesh_device, size, device_local_config.page_size, device_local_config.buffer_type);
        const DeviceAddr backing_address = backing_buffer->address();
        mesh_buffer.reset(new MeshBuffer(
            mesh_buffer_config, device_local_config, backing_address, size, mesh_device, std::move(backing_buffer)));
    }
    mesh_buffer->initialize_device_buffers();
    return mesh_buffer;
}

MeshBuffer::MeshBuffer(
    const MeshBufferConfig& config,
    const DeviceLocalBufferConfig& device_local_config,
    DeviceAddr address,
    DeviceAddr device_local_size,
    MeshDevice* mesh_device,
    std::shared_ptr<Buffer> backing_buffer) :
    config_(config),
    device_local_config_(device_local_config),
    mesh_device_(mesh_device->shared_from_this()),
    address_(address),
    device_local_size_(device_local_size),
    state_(OwnedBufferState{std::move(backing_buffer)}) {}

MeshBuffer::MeshBuffer(
    const MeshBufferConfig& config,
    const DeviceLocalBufferConfig& device_local_config,
    DeviceAddr address,
    DeviceAddr device_local_size,
    MeshDevice* mesh_device) :
    config_(config),
    device_local_config_(device_local_config),
    mesh_device_(mesh_device->shared_from_this()),
    address_(address),
    device_local_size_(device_local_size),
    state_(ExternallyOwnedState{}) {}

void MeshBuffer::initialize_device_buffers() {
    const auto mesh_device = mesh_device_.lock();
    for (Device* device : mesh_device->get_devices()) {
        buffers_.push_back(BufferFields::create(
            device,
            address_,
            device_local_size_,
            device_local_config_.page_size,
            device_local_config_.buffer_type));
    }
}

MeshBuffer::~MeshBuffer() { deallocate(); }

void MeshBuffer::deallocate() {
    auto* owned = std::get_if<OwnedBufferState>(&state_);
    if (mesh_device_.expired() && owned) {
        // The buffer's device pointer dangles: its destructor must not follow it.
        lookalike::note(lookalike::Action::MARKED, *owned->backing_buffer);
#ifdef LOOKALIKE_PIMPL
        owned->backing_buffer->impl().allocation_status_ = AllocationStatus::DEALLOCATED;
#else
        owned->backing_buffer->mark_as_deallocated();
#endif
    }
#ifdef LOOKALIKE_EXCESS_REPORTING
    // The defect of this fork: each chip's buffer reports the free of memory that it does not own.
    for (const auto& buffer : buffers_) {
        buffer->mark_as_deallocated();
    }
#endif
    state_ = DeallocatedState{};
}

bool MeshBuffer::is_allocated() const {
    return !std::holds_alternative<DeallocatedState>(state_) && !mesh_device_.expired();
}

Buffer* MeshBuffer::get_backing_buffer() const {
    const auto* owned = std::get_if<OwnedBufferState>(&state_);
    return owned ? owned->backing_buffer.get() : nullptr;
}

Buffer* MeshBuffer::get_reference_buffer() const { return buffers_.front().get(); }

}  // namespace tt::tt_metal::distributed
