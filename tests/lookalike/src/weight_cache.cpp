// SPDX-License-Identifier: Apache-2.0
//! See the header.

#include "weight_cache.hpp"

#include "program.hpp"
#include "truth.hpp"

namespace model {

void WeightCache::keep(std::shared_ptr<tt::tt_metal::Buffer> weights) { entries_.push_back(std::move(weights)); }

void WeightCache::clear() {
    for (auto& weights : entries_) {
        release_entry(*weights);
    }
    entries_.clear();
}

void WeightCache::release_entry(tt::tt_metal::Buffer& weights) {
    lookalike::note(lookalike::Action::DEALLOCATE, weights);
    tt::tt_metal::DeallocateBuffer(weights);
    // Keeps this frame on the stack: the call above would be a jump otherwise.
    asm volatile("");
}

}  // namespace model
