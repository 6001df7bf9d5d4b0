// SPDX-License-Identifier: Apache-2.0
//! Who owns what, and what happens when the mesh is gone first.

#include "mesh_buffer.hpp"

#include "graph_tracker.hpp"
#include "truth.hpp"

namespace tt::tt_metal::distributed {

#ifdef LOOKALIKE_EXCESS_REPORTING
namespace {

/// The defect of this fork: the buffer of each chip reports what happens to memory that it does not own.
bool chips_report_allocations = false;
bool chips_report_frees = true;

}  // namespace

void MeshBuffer::report_chips(bool allocations, bool frees) {
    chips_report_allocations = allocations;
    chips_report_frees = frees;
}
#endif

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
#ifdef LOOKALIKE_EXCESS_REPORTING
        if (chips_report_allocations) {
            GraphTracker::instance().track_allocate(buffers_.back().get());
        }
#endif
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
    for (const auto& buffer : buffers_) {
        if (!chips_report_frees) {
            break;
        }
#ifdef LOOKALIKE_PIMPL
        if (buffer->is_allocated()) {
            GraphTracker::instance().track_deallocate(buffer.get());
            buffer->impl().allocation_status_ = AllocationStatus::DEALLOCATED;
        }
#else
        buffer->mark_as_deallocated();
#endif
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
