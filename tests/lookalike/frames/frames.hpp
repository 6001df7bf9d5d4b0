// SPDX-License-Identifier: Apache-2.0
//! A program whose stacks are hard to walk, on purpose. Each scenario says which of the program's functions are on the
//! stack while it allocates and frees.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

/// A function that is on the stack under its own name while it runs: neither inlined nor cloned.
#if defined(__clang__)
#define FRAME extern "C" __attribute__((noinline, used))
#else
#define FRAME extern "C" __attribute__((noipa, used))
#endif
/// Behind the last call of a function: keeps the call from becoming a jump.
#define STAYS asm volatile("" ::: "memory")

/// Keeps a block on the stack that nobody uses.
#define NEEDS(block) asm volatile("" : : "r"(block) : "memory")

struct Scenario {
    const char* name;
    void (*run)();
    /// The program's functions from the innermost on, as words; `f*3` stands for `f f f`.
    const char* frames;
};

/// Where an instruction is: file name and address in the file, as `name+0x12`.
std::string place(std::uintptr_t address);

/// What a scenario wants to be known beyond its frames: for each touch, where a signal interrupted the program.
extern std::vector<std::uintptr_t> interrupted;

/// Allocates a tensor, of the size that stands for the running scenario, and frees it.
extern "C" void touch();

/// The scenarios of each file.
extern const std::vector<Scenario> SHAPES, EXCEPTIONS, SIGNALS, LOADING, THREADS;
