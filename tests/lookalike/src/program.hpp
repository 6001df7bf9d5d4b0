// SPDX-License-Identifier: Apache-2.0
//! A program: a pool of buffers that it keeps alive, and circular buffers.
#pragma once

#include "buffer.hpp"

namespace tt::tt_metal {

namespace detail {

class ProgramImpl {
public:
    ~ProgramImpl();
    void add_buffer(std::shared_ptr<Buffer> buffer);
    void release_buffers();
    void allocate_circular_buffers(const IDevice* device);
#ifdef LOOKALIKE_PIMPL
    void deallocate_circular_buffers();
#endif

private:
    std::vector<std::shared_ptr<Buffer>> owned_buffer_pool_;
    const IDevice* circular_buffers_on_ = nullptr;
};

}  // namespace detail

class Program {
public:
    Program();
    ~Program();
    detail::ProgramImpl& impl() { return *internal_; }

private:
    std::shared_ptr<detail::ProgramImpl> internal_;
};

void AssignGlobalBufferToProgram(const std::shared_ptr<Buffer>& buffer, Program& program);
void DeallocateBuffer(Buffer& buffer);

}  // namespace tt::tt_metal
