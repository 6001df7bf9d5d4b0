// SPDX-License-Identifier: Apache-2.0
//! The place that every allocation and free of an owner passes through.
#pragma once

#include <memory>

#include "types.hpp"

namespace tt::tt_metal {

class Buffer;
class IDevice;

class IGraphProcessor {
public:
    virtual void track_allocate(const Buffer* buffer) = 0;
    virtual void track_deallocate(Buffer* buffer) = 0;
    virtual ~IGraphProcessor() = default;
};

/// Stands in the way of an allocation: `true` means that it is not to happen.
class IGraphHooks {
public:
    virtual bool hook_allocate(const Buffer* buffer) = 0;
    virtual bool hook_deallocate(Buffer* buffer) = 0;
    virtual ~IGraphHooks() = default;
};

class GraphTracker {
public:
    static GraphTracker& instance();
    void push_processor(const std::shared_ptr<IGraphProcessor>& processor);
    bool add_hook(const std::shared_ptr<IGraphHooks>& hook);
    void clear_hook();

    void track_allocate(const Buffer* buffer);
    void track_deallocate(Buffer* buffer);
    bool hook_allocate(const Buffer* buffer);
    bool hook_deallocate(Buffer* buffer);
    void track_allocate_cb(
        const CoreRangeSet& core_range_set,
        std::uint64_t address,
        std::uint64_t size,
        bool is_globally_allocated,
        const IDevice* device);
    void track_deallocate_cb(const IDevice* device);

private:
    std::vector<std::shared_ptr<IGraphProcessor>> processors_;
    std::shared_ptr<IGraphHooks> hook_;
};

}  // namespace tt::tt_metal
