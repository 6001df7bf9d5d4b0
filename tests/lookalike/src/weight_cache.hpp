// SPDX-License-Identifier: Apache-2.0
//! A cache as a model might have it, with the bug that the demonstration is about.
#pragma once

#include "buffer.hpp"

namespace model {

/// Keeps buffers alive, and deallocates them when it is cleared, whether or not somebody did so before.
class WeightCache {
public:
    void keep(std::shared_ptr<tt::tt_metal::Buffer> weights);
    void clear();

private:
    void release_entry(tt::tt_metal::Buffer& weights);

    std::vector<std::shared_ptr<tt::tt_metal::Buffer>> entries_;
};

}  // namespace model
