// SPDX-License-Identifier: Apache-2.0
//! First fit, per bank, DRAM from the bottom and L1 from the top.

#include "allocator.hpp"

#include "buffer.hpp"
#include "truth.hpp"

namespace tt::tt_metal {

namespace {

const char* type_name(BufferType type) {
    switch (type) {
        case BufferType::DRAM: return "DRAM";
        case BufferType::L1: return "L1";
        case BufferType::L1_SMALL: return "L1_SMALL";
        case BufferType::TRACE: return "TRACE";
        default: return "SYSTEM_MEMORY";
    }
}

DeviceAddr round_up(DeviceAddr value, DeviceAddr unit) { return (value + unit - 1) / unit * unit; }

}  // namespace

namespace allocator {

FreeListOpt::FreeListOpt(DeviceAddr base, DeviceAddr size) : base_(base), size_(size) {}

std::optional<DeviceAddr> FreeListOpt::allocate(DeviceAddr size, bool bottom_up, DeviceAddr) {
    const auto address = find(size, bottom_up);
    if (address) {
        blocks_.emplace(*address, size);
    }
    return address;
}

void FreeListOpt::deallocate(DeviceAddr address) { blocks_.erase(address); }

void FreeListOpt::clear() { blocks_.clear(); }

DeviceAddr FreeListOpt::allocated() const {
    DeviceAddr allocated = 0;
    for (const auto& block : blocks_) {
        allocated += block.second;
    }
    return allocated;
}

DeviceAddr FreeListOpt::largest_free() const {
    DeviceAddr largest = 0;
    DeviceAddr end = base_;
    for (const auto& [address, taken] : blocks_) {
        largest = std::max(largest, address - end);
        end = address + taken;
    }
    return std::max(largest, base_ + size_ - end);
}

std::optional<DeviceAddr> FreeListOpt::find(DeviceAddr size, bool bottom_up) const {
    if (bottom_up) {
        DeviceAddr end = base_;
        for (const auto& [address, taken] : blocks_) {
            if (address - end >= size) {
                return end;
            }
            end = address + taken;
        }
        return base_ + size_ - end >= size ? std::optional(end) : std::nullopt;
    }
    DeviceAddr begin = base_ + size_;
    for (auto block = blocks_.rbegin(); block != blocks_.rend(); ++block) {
        if (begin - (block->first + block->second) >= size) {
            return begin - size;
        }
        begin = block->first;
    }
    return begin - base_ >= size ? std::optional(begin - size) : std::nullopt;
}

}  // namespace allocator

BankManager::BankManager(
    BufferType type, std::uint32_t banks, DeviceAddr base, DeviceAddr bank_size, std::uint32_t alignment) :
    type_(type), banks_(banks), alignment_(alignment), bank_(base, bank_size) {}

DeviceAddr BankManager::allocate_buffer(
    DeviceAddr size,
    DeviceAddr page_size,
    bool bottom_up,
    const CoreRangeSet&,
    std::optional<std::uint32_t>,
    AllocatorID
#ifdef LOOKALIKE_PIMPL
    ,
    const std::vector<std::pair<DeviceAddr, DeviceAddr>>&,
    const std::optional<std::unordered_set<std::uint32_t>>&
#endif
) {
    const DeviceAddr pages = size / page_size;
    const DeviceAddr size_per_bank = round_up((pages + banks_ - 1) / banks_ * page_size, alignment_);
    const auto address = bank_.allocate(size_per_bank, bottom_up, 0);
    if (!address) {
        out_of_memory(size, size_per_bank);
    }
    return *address;
}

void BankManager::deallocate_buffer(DeviceAddr address, AllocatorID) { bank_.deallocate(address); }

void BankManager::deallocate_all() { bank_.clear(); }

void BankManager::out_of_memory(DeviceAddr size, DeviceAddr size_per_bank) const {
    const DeviceAddr allocated = bank_.allocated();
    throw std::runtime_error(
        "Out of Memory: Not enough space to allocate " + std::to_string(size) + " B " + type_name(type_) +
        " buffer across " + std::to_string(banks_) + " banks, where each bank needs to store " +
        std::to_string(size_per_bank) + " B, but bank size is " + std::to_string(bank_.size()) +
        " B (allocated: " + std::to_string(allocated) + " B, free: " + std::to_string(bank_.size() - allocated) +
        " B, largest free block: " + std::to_string(bank_.largest_free()) + " B)");
}

AllocatorImpl::AllocatorImpl() :
    dram_(std::make_unique<BankManager>(BufferType::DRAM, 8, 1048704, 512u << 20, 64)),
    l1_(std::make_unique<BankManager>(BufferType::L1, 130, 101376, 1471488, 16)),
    l1_small_(std::make_unique<BankManager>(BufferType::L1_SMALL, 130, 1540096, 32768, 16)),
    trace_(std::make_unique<BankManager>(BufferType::TRACE, 8, 538000000, 64u << 20, 64)) {}

AllocatorImpl::~AllocatorImpl() = default;

DeviceAddr AllocatorImpl::allocate_buffer(Buffer* buffer) {
    std::lock_guard lock(mutex_);
    const DeviceAddr size = buffer->aligned_size();
    const DeviceAddr page_size = buffer->aligned_page_size();
    const lookalike::Seen seen = lookalike::Observer::see(*buffer);
    const DeviceAddr address = manager(seen.type).allocate_buffer(
        size,
        page_size,
        buffer->is_dram(),
        CoreRangeSet(),
        std::nullopt,
        BankManager::AllocatorID(0)
#ifdef LOOKALIKE_PIMPL
            ,
        {},
        std::nullopt
#endif
    );
    allocated_buffers_.insert(buffer);
    return address;
}

void AllocatorImpl::deallocate_buffer(Buffer* buffer) {
    std::lock_guard lock(mutex_);
    const lookalike::Seen seen = lookalike::Observer::see(*buffer);
    manager(seen.type).deallocate_buffer(buffer->address(), BankManager::AllocatorID(0));
    allocated_buffers_.erase(buffer);
    lookalike::note(lookalike::Action::RELEASED, *buffer);
}

void AllocatorImpl::deallocate_buffers() {
    std::lock_guard lock(mutex_);
    dram_->deallocate_all();
    l1_->deallocate_all();
    l1_small_->deallocate_all();
    trace_->deallocate_all();
}

std::uint32_t AllocatorImpl::get_alignment(BufferType type) const { return manager(type).alignment(); }

std::unordered_set<Buffer*> AllocatorImpl::get_allocated_buffers() const {
    std::lock_guard lock(mutex_);
    return allocated_buffers_;
}

std::size_t AllocatorImpl::get_num_allocated_buffers() const {
    std::lock_guard lock(mutex_);
    return allocated_buffers_.size();
}

void AllocatorImpl::deallocate_address(BufferType type, DeviceAddr address) {
    std::lock_guard lock(mutex_);
    manager(type).deallocate_buffer(address, BankManager::AllocatorID(0));
}

BankManager& AllocatorImpl::manager(BufferType type) const {
    switch (type) {
        case BufferType::DRAM: return *dram_;
        case BufferType::L1: return *l1_;
        case BufferType::L1_SMALL: return *l1_small_;
        case BufferType::TRACE: return *trace_;
        default: fatal("no such buffer type");
    }
}

Allocator::Allocator(AllocatorImpl* impl) : impl_(impl) {}

void Allocator::deallocate_buffers() { impl_->deallocate_buffers(); }

}  // namespace tt::tt_metal
