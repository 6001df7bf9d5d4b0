// SPDX-License-Identifier: Apache-2.0
//! Containers that keep buffers alive, one of each kind that programs use.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <unordered_map>
#include <variant>
#include <vector>

#include "buffer.hpp"

namespace model {

using Held = std::shared_ptr<tt::tt_metal::Buffer>;

/// Holds buffers in a container, and does nothing to them. What is destroyed or emptied is the container, out of line.
class Shelf {
public:
    enum class Kind { VECTOR, MAP, UNORDERED_MAP, DEQUE };

    explicit Shelf(Kind kind);
    ~Shelf();
    Shelf(const Shelf&) = delete;
    Shelf& operator=(const Shelf&) = delete;
    void put(Held buffer);
    void clear();

private:
    std::variant<
        std::vector<Held>*,
        std::map<std::size_t, Held>*,
        std::unordered_map<std::size_t, Held>*,
        std::deque<Held>*>
        held_;
};

}  // namespace model
