// SPDX-License-Identifier: Apache-2.0
//! The log, filled from the places where TT-Metal itself lets others look on.

#include "truth.hpp"

#include <mutex>
#include <vector>

#include "graph_tracker.hpp"

namespace lookalike {

namespace {

struct Log {
    std::mutex mutex;
    std::vector<la_entry> entries;
};

// Never destroyed: buffers may be, after static destructors ran.
Log& the_log() {
    static Log& log = *new Log();
    return log;
}

void append(const la_entry& entry) {
    if (!tt::tt_metal::LightMetalCaptureContext::get().is_tracing()) {
        return;
    }
    std::lock_guard lock(the_log().mutex);
    the_log().entries.push_back(entry);
}

class Recorder : public tt::tt_metal::IGraphProcessor {
    void track_allocate(const tt::tt_metal::Buffer* buffer) override { note(Action::ALLOCATED, *buffer); }
    void track_deallocate(tt::tt_metal::Buffer* buffer) override { note(Action::REPORTED, *buffer); }
};

[[gnu::constructor]] void record() {
    tt::tt_metal::GraphTracker::instance().push_processor(std::make_shared<Recorder>());
}

}  // namespace

void note(Action action, const tt::tt_metal::Buffer& buffer) {
    const Seen seen = Observer::see(buffer);
    append({
        .unique_id = seen.unique_id,
        .address = seen.address,
        .size = seen.size,
        .action = static_cast<std::uint32_t>(action),
        .buffer_type = static_cast<std::int32_t>(seen.type),
        .device_id = -1,
        .status = seen.status,
        .owns = seen.owns,
        .hooked = seen.hooked,
        .padding = 0,
    });
}

void note(Action action, int mesh_id) {
    la_entry entry{};
    entry.action = static_cast<std::uint32_t>(action);
    entry.device_id = mesh_id;
    append(entry);
}

std::size_t log_size() {
    std::lock_guard lock(the_log().mutex);
    return the_log().entries.size();
}

la_entry log_entry(std::size_t index) {
    std::lock_guard lock(the_log().mutex);
    return the_log().entries.at(index);
}

#if !defined(LOOKALIKE_SHUFFLED) && !defined(LOOKALIKE_MIRRORED)
/// The offsets in the released libraries 0.66.0 and 0.81.1, which all of the plain variants must have.
void Observer::check_layout() {
    using Fields = tt::tt_metal::BufferFields;
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Winvalid-offsetof"
#ifdef LOOKALIKE_PIMPL
    constexpr std::size_t start = 0;
    static_assert(offsetof(tt::tt_metal::Buffer, pimpl_) == 0x10);
    static_assert(offsetof(Fields, unique_id_) == 0x218);
#else
    constexpr std::size_t start = 0x10;
    static_assert(offsetof(Fields, unique_id_) == 0x1d8);
#endif
    static_assert(offsetof(Fields, device_) == start);
    static_assert(offsetof(Fields, size_) == start + 0x8);
    static_assert(offsetof(Fields, buffer_type_) == start + 0x10);
    static_assert(offsetof(Fields, owns_data_) == start + 0x1b);
    static_assert(offsetof(Fields, allocator_) == start + 0x30);
    static_assert(offsetof(Fields, allocation_status_) == start + 0x38);
    static_assert(offsetof(Fields, hooked_allocation_) == start + 0x39);
    static_assert(offsetof(Fields, address_) == start + 0x40);
    static_assert(offsetof(Fields, page_size_) == start + 0x48);
#pragma GCC diagnostic pop
}
#endif

Seen Observer::see(const tt::tt_metal::Buffer& buffer) {
    const auto& fields = buffer.fields();
    const tt::tt_metal::AllocationStatus status = fields.allocation_status_;
    return {
        .unique_id = fields.unique_id_,
        .address = fields.address_,
        .size = fields.size_,
        .type = fields.buffer_type_,
        .status = static_cast<std::uint8_t>(status),
        .owns = fields.owns_data_,
        .hooked = fields.hooked_allocation_,
    };
}

std::shared_ptr<tt::tt_metal::Buffer> Observer::adopt(const tt::tt_metal::Buffer& buffer) {
    const auto& from = buffer.fields();
    auto twin = tt::tt_metal::BufferFields::create(
        from.device_, from.address_, from.size_, from.page_size_, from.buffer_type_);
    twin->fields().owns_data_ = true;
    tt::tt_metal::GraphTracker::instance().track_allocate(twin.get());
    return twin;
}

void Observer::release(tt::tt_metal::Buffer& buffer) {
    note(Action::DEALLOCATE, buffer);
#ifdef LOOKALIKE_PIMPL
    buffer.fields().deallocate_impl(buffer);
#else
    buffer.deallocate_impl();
#endif
}

}  // namespace lookalike

namespace tt::tt_metal {

LightMetalCaptureContext& LightMetalCaptureContext::get() {
    static LightMetalCaptureContext context;
    return context;
}

bool LightMetalCaptureContext::is_tracing() const { return tracing_; }

void LightMetalCaptureContext::set_tracing(bool tracing) { tracing_ = tracing; }

void CaptureBufferDelete(const Buffer& buffer) { lookalike::note(lookalike::Action::DESTROYED, buffer); }

}  // namespace tt::tt_metal
