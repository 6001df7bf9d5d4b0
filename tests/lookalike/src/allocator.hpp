// SPDX-License-Identifier: Apache-2.0
//! Where addresses come from. Frees by address only: it does not know whose a block is.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <unordered_set>

#include "types.hpp"

namespace tt::tt_metal {

class Buffer;

namespace allocator {

/// First fit in a bank; all banks of a manager are alike.
class FreeListOpt {
public:
    FreeListOpt(DeviceAddr base, DeviceAddr size);
    std::optional<DeviceAddr> allocate(DeviceAddr size, bool bottom_up, DeviceAddr address_limit);
    void deallocate(DeviceAddr address);
    void clear();
    DeviceAddr size() const { return size_; }
    DeviceAddr allocated() const;
    DeviceAddr largest_free() const;

private:
    std::optional<DeviceAddr> find(DeviceAddr size, bool bottom_up) const;

    DeviceAddr base_;
    DeviceAddr size_;
    /// Address to size.
    std::map<DeviceAddr, DeviceAddr> blocks_;
};

}  // namespace allocator

class BankManager {
public:
    using AllocatorID = ttsl::StrongType<std::uint32_t, AllocatorIDTag>;

    BankManager(BufferType type, std::uint32_t banks, DeviceAddr base, DeviceAddr bank_size, std::uint32_t alignment);
    /// Throws `std::runtime_error` where no block of a bank is large enough.
    DeviceAddr allocate_buffer(
        DeviceAddr size,
        DeviceAddr page_size,
        bool bottom_up,
        const CoreRangeSet& compute_grid,
        std::optional<std::uint32_t> num_shards,
        AllocatorID allocator_id
#ifdef LOOKALIKE_PIMPL
        ,
        const std::vector<std::pair<DeviceAddr, DeviceAddr>>& excluded_ranges,
        const std::optional<std::unordered_set<std::uint32_t>>& excluded_banks
#endif
    );
    void deallocate_buffer(DeviceAddr address, AllocatorID allocator_id);
    void deallocate_all();
    std::uint32_t alignment() const { return alignment_; }

private:
    [[noreturn]] void out_of_memory(DeviceAddr size, DeviceAddr size_per_bank) const;

    BufferType type_;
    std::uint32_t banks_;
    std::uint32_t alignment_;
    allocator::FreeListOpt bank_;
};

class AllocatorImpl {
public:
    AllocatorImpl();
#ifdef LOOKALIKE_PIMPL
    virtual ~AllocatorImpl();
#else
    ~AllocatorImpl();
#endif
    DeviceAddr allocate_buffer(Buffer* buffer);
    void deallocate_buffer(Buffer* buffer);
    void deallocate_buffers();
    std::uint32_t get_alignment(BufferType type) const;
    std::unordered_set<Buffer*> get_allocated_buffers() const;
    std::size_t get_num_allocated_buffers() const;
    /// What no code of TT-Metal does, and a bug may: frees a block behind its owner's back.
    void deallocate_address(BufferType type, DeviceAddr address);

private:
    BankManager& manager(BufferType type) const;

    mutable std::mutex mutex_;
    // Brings what follows to where it is in the released libraries, or elsewhere.
#ifdef LOOKALIKE_SHUFFLED
    [[maybe_unused]] std::array<std::byte, 0x50> configuration_;
#elif defined(LOOKALIKE_PIMPL)
    [[maybe_unused]] std::array<std::byte, 0xe0> configuration_{};
#else
    [[maybe_unused]] std::array<std::byte, 0xe8> configuration_{};
#endif
    std::unique_ptr<BankManager> dram_;
    std::unique_ptr<BankManager> l1_;
    std::unique_ptr<BankManager> l1_small_;
    std::unique_ptr<BankManager> trace_;
    std::unordered_set<Buffer*> allocated_buffers_;
};

/// What a user of TT-Metal sees of an allocator.
class Allocator {
public:
    explicit Allocator(AllocatorImpl* impl);
    void deallocate_buffers();

private:
    AllocatorImpl* impl_;
};

}  // namespace tt::tt_metal
