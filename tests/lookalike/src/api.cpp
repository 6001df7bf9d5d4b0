// SPDX-License-Identifier: Apache-2.0
//! The C interface: no exception leaves it.

#include "api.h"

#include <string>

#include "graph_tracker.hpp"
#include "mesh_buffer.hpp"
#include "program.hpp"
#include "shelf.hpp"
#include "truth.hpp"
#include "weight_cache.hpp"

using namespace tt::tt_metal;
using distributed::MeshBuffer;
using distributed::MeshDevice;

struct la_mesh {
    std::shared_ptr<MeshDevice> device;
};
struct la_tensor {
    std::shared_ptr<MeshBuffer> mesh_buffer;
};
struct la_buffer {
    std::shared_ptr<Buffer> buffer;
};
struct la_cache : model::WeightCache {};
struct la_program : Program {};
struct la_shelf : model::Shelf {
    using Shelf::Shelf;
};

namespace {

thread_local std::string last_error;

/// A new object with what `make` gives, or null with the reason kept.
template <typename Handle, typename Make>
Handle* guarded(Make make) {
    try {
        return new Handle{make()};
    } catch (const std::exception& error) {
        last_error = error.what();
        return nullptr;
    }
}

std::shared_ptr<MeshBuffer> make_mesh_buffer(
    la_mesh* mesh, int type, uint64_t size, uint64_t page_size, std::optional<DeviceAddr> address) {
    return MeshBuffer::create(
        distributed::ReplicatedBufferConfig{size},
        {.page_size = page_size, .buffer_type = static_cast<BufferType>(type)},
        mesh->device.get(),
        address);
}

/// The buffer that owns a tensor's memory; of a tensor that owns none, its first chip's.
Buffer& buffer_of(const la_tensor* tensor) {
    Buffer* backing = tensor->mesh_buffer->get_backing_buffer();
    return backing != nullptr ? *backing : *tensor->mesh_buffer->get_reference_buffer();
}

void describe(const Buffer& buffer, la_entry* entry) {
    const lookalike::Seen seen = lookalike::Observer::see(buffer);
    *entry = {
        .unique_id = seen.unique_id,
        .address = seen.address,
        .size = seen.size,
        .action = 0,
        .buffer_type = static_cast<int32_t>(seen.type),
        .device_id = -1,
        .status = seen.status,
        .owns = seen.owns,
        .hooked = seen.hooked,
        .padding = 0,
    };
}

void deallocate(Buffer& buffer) {
    lookalike::note(lookalike::Action::DEALLOCATE, buffer);
    DeallocateBuffer(buffer);
}

/// Refuses every allocation, as a graph capture without dispatch does.
class NoDispatch : public IGraphHooks {
    bool hook_allocate(const Buffer*) override { return true; }
    bool hook_deallocate(Buffer*) override { return true; }
};

}  // namespace

extern "C" {

const char* la_last_error(void) { return last_error.c_str(); }

la_mesh* la_mesh_open(int chips) {
    return guarded<la_mesh>([&] { return MeshDevice::create({static_cast<uint32_t>(chips)}); });
}
la_mesh* la_mesh_submesh(la_mesh* mesh, int chips) {
    return guarded<la_mesh>([&] { return mesh->device->create_submesh({static_cast<uint32_t>(chips)}); });
}
int la_mesh_id(const la_mesh* mesh) { return mesh->device->id(); }
void la_mesh_close(la_mesh* mesh) { mesh->device->close(); }
void la_mesh_drop(la_mesh* mesh) { delete mesh; }
void la_mesh_release_all(la_mesh* mesh) {
    Allocator(mesh->device->allocator_impl()).deallocate_buffers();
    lookalike::note(lookalike::Action::BULK, mesh->device->id());
}
void la_mesh_release_address(la_mesh* mesh, int type, uint64_t address) {
    mesh->device->allocator_impl()->deallocate_address(static_cast<BufferType>(type), address);
}

void la_mesh_cache_program(la_mesh* mesh, la_buffer* buffer) { mesh->device->cache_program(buffer->buffer); }
void la_mesh_clear_program_cache(la_mesh* mesh) {
    mesh->device->disable_and_clear_program_cache();
    asm volatile("");  // keeps this frame on the stack
}

la_tensor* la_tensor_create(la_mesh* mesh, int type, uint64_t size, uint64_t page_size) {
    return guarded<la_tensor>([&] { return make_mesh_buffer(mesh, type, size, page_size, std::nullopt); });
}
la_tensor* la_tensor_at(la_mesh* mesh, int type, uint64_t size, uint64_t page_size, uint64_t address) {
    return guarded<la_tensor>([&] { return make_mesh_buffer(mesh, type, size, page_size, address); });
}
void la_tensor_deallocate(la_tensor* tensor) { deallocate(buffer_of(tensor)); }
void la_tensor_drop(la_tensor* tensor) { delete tensor; }
void la_tensor_describe(const la_tensor* tensor, la_entry* entry) { describe(buffer_of(tensor), entry); }

la_buffer* la_buffer_share(la_tensor* tensor) {
    return guarded<la_buffer>([&] { return buffer_of(tensor).shared_from_this(); });
}
la_buffer* la_buffer_view(la_tensor* tensor) {
    return guarded<la_buffer>([&] {
        Buffer& buffer = buffer_of(tensor);
        const DeviceAddr half = buffer.num_pages() / 2 * buffer.page_size();
#ifdef LOOKALIKE_PIMPL
        return buffer.impl().view(buffer, {.offset = half, .size = half});
#else
        return buffer.view({.offset = half, .size = half});
#endif
    });
}
la_buffer* la_buffer_adopt(la_tensor* tensor) {
    return guarded<la_buffer>([&] { return lookalike::Observer::adopt(buffer_of(tensor)); });
}
void la_buffer_deallocate(la_buffer* buffer) { deallocate(*buffer->buffer); }
void la_buffer_drop(la_buffer* buffer) { delete buffer; }
void la_buffer_release(la_buffer* buffer) { lookalike::Observer::release(*buffer->buffer); }
void la_buffer_describe(const la_buffer* buffer, la_entry* entry) { describe(*buffer->buffer, entry); }

la_cache* la_cache_new(void) { return new la_cache; }
void la_cache_keep(la_cache* cache, la_tensor* tensor) { cache->keep(buffer_of(tensor).shared_from_this()); }
void la_cache_clear(la_cache* cache) {
    cache->clear();
    asm volatile("");  // keeps this frame on the stack
}
void la_cache_drop(la_cache* cache) { delete cache; }

la_program* la_program_new(void) { return new la_program; }
void la_program_keep(la_program* program, la_tensor* tensor) {
    AssignGlobalBufferToProgram(buffer_of(tensor).shared_from_this(), *program);
}
void la_program_keep_buffer(la_program* program, la_buffer* buffer) {
    AssignGlobalBufferToProgram(buffer->buffer, *program);
}
void la_program_run(la_program* program, la_mesh* mesh) {
    program->impl().allocate_circular_buffers(mesh->device.get());
}
void la_program_drop(la_program* program) { delete program; }

la_shelf* la_shelf_new(int kind) { return new la_shelf(static_cast<model::Shelf::Kind>(kind)); }
void la_shelf_put(la_shelf* shelf, la_buffer* buffer) { shelf->put(buffer->buffer); }
void la_shelf_clear(la_shelf* shelf) { shelf->clear(); }
void la_shelf_drop(la_shelf* shelf) { delete shelf; }

void la_report_chips([[maybe_unused]] int allocations, [[maybe_unused]] int frees) {
#ifdef LOOKALIKE_EXCESS_REPORTING
    MeshBuffer::report_chips(allocations != 0, frees != 0);
#endif
}

int la_capture_begin(void) { return GraphTracker::instance().add_hook(std::make_shared<NoDispatch>()) ? 0 : -1; }
void la_capture_end(void) { GraphTracker::instance().clear_hook(); }

void la_log_enable(int enabled) { LightMetalCaptureContext::get().set_tracing(enabled != 0); }
size_t la_log_size(void) { return lookalike::log_size(); }
int la_log_entry(size_t index, la_entry* entry) {
    if (index >= lookalike::log_size()) {
        return -1;
    }
    *entry = lookalike::log_entry(index);
    return 0;
}

}  // extern "C"
