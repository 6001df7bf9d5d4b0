// SPDX-License-Identifier: Apache-2.0
//! One tensor's memory on a mesh: an owning buffer on the mesh, and a non-owning one for each chip.
#pragma once

#include <variant>

#include "buffer.hpp"
#include "mesh_device.hpp"

namespace tt::tt_metal::distributed {

struct DeviceLocalBufferConfig {
    DeviceAddr page_size = 0;
    BufferType buffer_type = BufferType::DRAM;
};
struct ReplicatedBufferConfig {
    DeviceAddr size = 0;
};
struct ShardedBufferConfig {
    DeviceAddr global_size = 0;
};
using MeshBufferConfig = std::variant<ReplicatedBufferConfig, ShardedBufferConfig>;

class MeshBuffer {
public:
    static std::shared_ptr<MeshBuffer> create(
        const MeshBufferConfig& mesh_buffer_config,
        const DeviceLocalBufferConfig& device_local_config,
        MeshDevice* mesh_device,
        std::optional<DeviceAddr> address = std::nullopt);
    ~MeshBuffer();
    void deallocate();
    bool is_allocated() const;
    Buffer* get_backing_buffer() const;
    Buffer* get_reference_buffer() const;
#ifdef LOOKALIKE_EXCESS_REPORTING
    /// What the buffers of the chips report to the graph tracker.
    static void report_chips(bool allocations, bool frees);
#endif

private:
    struct OwnedBufferState {
        std::shared_ptr<Buffer> backing_buffer;
    };
    struct ExternallyOwnedState {};
    struct DeallocatedState {};

    __attribute__((visibility("hidden"))) MeshBuffer(
        const MeshBufferConfig& config,
        const DeviceLocalBufferConfig& device_local_config,
        DeviceAddr address,
        DeviceAddr device_local_size,
        MeshDevice* mesh_device,
        std::shared_ptr<Buffer> backing_buffer);
    __attribute__((visibility("hidden"))) MeshBuffer(
        const MeshBufferConfig& config,
        const DeviceLocalBufferConfig& device_local_config,
        DeviceAddr address,
        DeviceAddr device_local_size,
        MeshDevice* mesh_device);
    void initialize_device_buffers();

    MeshBufferConfig config_;
    DeviceLocalBufferConfig device_local_config_;
    std::weak_ptr<MeshDevice> mesh_device_;
    DeviceAddr address_;
    DeviceAddr device_local_size_;
    std::vector<std::shared_ptr<Buffer>> buffers_;
    std::variant<OwnedBufferState, ExternallyOwnedState, DeallocatedState> state_;
};

}  // namespace tt::tt_metal::distributed
