// SPDX-License-Identifier: Apache-2.0
//! See the header.

#include "shelf.hpp"

// In programs as large as TT-Metal's, compilers leave many of these functions out of line; in one as small as this, none.
#ifdef __clang__
#define LOOKALIKE_CALLS_ALL __attribute__((optnone, noinline))
#else
#define LOOKALIKE_CALLS_ALL __attribute__((optimize("O0"), noinline))
#endif

namespace model {

namespace {

template <typename Container>
LOOKALIKE_CALLS_ALL void destroy(Container* container) {
    delete container;
}

template <typename Container>
LOOKALIKE_CALLS_ALL void empty(Container* container) {
    container->clear();
}

}  // namespace

Shelf::Shelf(Kind kind) {
    switch (kind) {
        case Kind::VECTOR: held_ = new std::vector<Held>; break;
        case Kind::MAP: held_ = new std::map<std::size_t, Held>; break;
        case Kind::UNORDERED_MAP: held_ = new std::unordered_map<std::size_t, Held>; break;
        case Kind::DEQUE: held_ = new std::deque<Held>; break;
    }
}

Shelf::~Shelf() {
    std::visit([](auto* container) { destroy(container); }, held_);
}

void Shelf::put(Held buffer) {
    std::visit(
        [&](auto* container) {
            if constexpr (requires { container->push_back(buffer); }) {
                container->push_back(std::move(buffer));
            } else {
                container->emplace(container->size(), std::move(buffer));
            }
        },
        held_);
}

void Shelf::clear() {
    std::visit([](auto* container) { empty(container); }, held_);
}

}  // namespace model
