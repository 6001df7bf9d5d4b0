// SPDX-License-Identifier: Apache-2.0
//! The log that the library keeps of what it did, for tests to compare with what was seen from outside.
#pragma once

#include "api.h"
#include "buffer.hpp"

namespace tt::tt_metal {

/// TT-Metal asks here, in each of the functions that can be replayed, whether somebody records the calls.
class LightMetalCaptureContext {
public:
    static LightMetalCaptureContext& get();
    bool is_tracing() const;
    void set_tracing(bool tracing);

private:
    bool tracing_ = true;
};

void CaptureBufferDelete(const Buffer& buffer);

}  // namespace tt::tt_metal

namespace lookalike {

/// What the log says about a buffer.
struct Seen {
    std::uint64_t unique_id;
    std::uint64_t address;
    std::uint64_t size;
    tt::tt_metal::BufferType type;
    std::uint8_t status;
    bool owns;
    bool hooked;
};

/// The one who may look into a buffer.
struct Observer {
    static Seen see(const tt::tt_metal::Buffer& buffer);
    /// Another owner of the same block, as an operation that moves a tensor without copying it would make.
    static std::shared_ptr<tt::tt_metal::Buffer> adopt(const tt::tt_metal::Buffer& buffer);
    /// Runs the free of an owner on a buffer, whether it owns its block or not.
    static void release(tt::tt_metal::Buffer& buffer);
    /// Never called: there to be compiled.
    static void check_layout();
};

enum class Action : std::uint32_t {
    ALLOCATED = LA_ALLOCATED,
    REPORTED = LA_REPORTED,
    RELEASED = LA_RELEASED,
    DEALLOCATE = LA_DEALLOCATE,
    MARKED = LA_MARKED,
    DESTROYED = LA_DESTROYED,
    BULK = LA_BULK,
    CLOSED = LA_CLOSED,
};

void note(Action action, const tt::tt_metal::Buffer& buffer);
/// An action that is about a device.
void note(Action action, int mesh_id);
std::size_t log_size();
la_entry log_entry(std::size_t index);

}  // namespace lookalike
