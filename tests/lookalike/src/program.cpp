// SPDX-License-Identifier: Apache-2.0
//! A pooled reference only makes a buffer live longer: it is no second free.

#include "program.hpp"

#include "graph_tracker.hpp"

namespace tt::tt_metal {

namespace detail {

ProgramImpl::~ProgramImpl() {
#ifdef LOOKALIKE_PIMPL
    deallocate_circular_buffers();
#endif
}

void ProgramImpl::add_buffer(std::shared_ptr<Buffer> buffer) { owned_buffer_pool_.push_back(std::move(buffer)); }

void ProgramImpl::release_buffers() { owned_buffer_pool_.clear(); }

void ProgramImpl::allocate_circular_buffers(const IDevice* device) {
    // The place of circular buffers is a matter of the program alone: computed once.
    if (circular_buffers_on_ != nullptr) {
        return;
    }
    circular_buffers_on_ = device;
    GraphTracker::instance().track_allocate_cb(CoreRangeSet(), 101376, 4096, false, device);
}

#ifdef LOOKALIKE_PIMPL
void ProgramImpl::deallocate_circular_buffers() {
    if (circular_buffers_on_ != nullptr) {
        GraphTracker::instance().track_deallocate_cb(circular_buffers_on_);
        circular_buffers_on_ = nullptr;
    }
}
#endif

}  // namespace detail

Program::Program() : internal_(std::make_shared<detail::ProgramImpl>()) {}
Program::~Program() = default;

void AssignGlobalBufferToProgram(const std::shared_ptr<Buffer>& buffer, Program& program) {
    program.impl().add_buffer(buffer);
}

void DeallocateBuffer(Buffer& buffer) {
#ifdef LOOKALIKE_PIMPL
    buffer.impl().deallocate(buffer);
#else
    buffer.deallocate();
#endif
}

}  // namespace tt::tt_metal
