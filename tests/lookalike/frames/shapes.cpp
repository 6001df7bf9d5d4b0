// SPDX-License-Identifier: Apache-2.0
//! Frames of every shape that compilers make, and those that only people write, in shapes.S.

#include <alloca.h>

#include <csetjmp>

#include "frames.hpp"

/// Each calls `callee` from a frame whose unwind rule is of one kind; see shapes.S.
extern "C" {
void cfa_in_rbx(void (*callee)());
void cfa_in_r13(void (*callee)());
void cfa_by_expression(void (*callee)());
void rbp_by_expression(void (*callee)());
void rbp_in_r12(void (*callee)());
void rbp_by_value(void (*callee)());
void state_restored(void (*callee)());
void two_ranges(void (*callee)());
void without_table(void (*callee)());
void ends_with_call(void (*callee)());
}

namespace {

std::jmp_buf back;

/// A number that the compiler does not know.
std::size_t some_size() {
    std::size_t number = 100;
    asm volatile("" : "+r"(number));
    return number;
}

}  // namespace

FRAME void descend(int depth) {
    if (depth == 1) {
        touch();
    } else {
        descend(depth - 1);
    }
    STAYS;
}

FRAME void varying(int depth) {
    NEEDS(alloca(depth * 100));
    if (depth == 1) {
        touch();
    } else {
        varying(depth - 1);
    }
    STAYS;
}

/// A frame that begins at a multiple of 256, with a part of variable size.
FRAME void aligned(int depth) {
    alignas(256) char fixed[256];
    NEEDS(fixed);
    NEEDS(alloca(depth * 40));
    if (depth == 1) {
        touch();
    } else {
        aligned(depth - 1);
    }
    NEEDS(fixed);
}

/// rbp is neither what the caller left in it nor an address.
FRAME void rbp_is_data(int depth) {
    asm volatile("movq $-1, %%rbp" ::: "rbp");
    if (depth == 1) {
        touch();
    } else {
        rbp_is_data(depth - 1);
    }
    STAYS;
}

FRAME void huge() {
    char block[100'000];
    NEEDS(block);
    touch();
    STAYS;
}

/// Its frame is gone by the time `touch` runs.
FRAME void jumps_on() { touch(); }

/// Leaves without returning: what called it has no instruction behind the call.
FRAME void leaves() {
    touch();
    std::longjmp(back, 1);
}

FRAME void recursion() {
    descend(400);
    STAYS;
}

FRAME void variable_frames() {
    varying(20);
    STAYS;
}

FRAME void aligned_frames() {
    aligned(20);
    STAYS;
}

FRAME void general_register() {
    rbp_is_data(3);
    STAYS;
}

FRAME void large_frame() {
    huge();
    STAYS;
}

FRAME void tail_call() {
    jumps_on();
    STAYS;
}

FRAME void last_call() {
    if (setjmp(back) == 0) {
        ends_with_call(leaves);
    }
}

/// Calls a function of shapes.S from a frame that needs rbp as it was.
#define FROM_RBP(name, shape, callee) \
    FRAME void name() { \
        NEEDS(alloca(some_size())); \
        shape(callee); \
        STAYS; \
    }
FROM_RBP(from_rbx, cfa_in_rbx, touch)
FROM_RBP(from_r13, cfa_in_r13, touch)
FROM_RBP(from_expression, cfa_by_expression, touch)
FROM_RBP(saved_by_expression, rbp_by_expression, touch)
FROM_RBP(saved_in_register, rbp_in_r12, touch)
FROM_RBP(saved_by_value, rbp_by_value, touch)
FROM_RBP(after_restore, state_restored, touch)
FROM_RBP(split, two_ranges, touch)
FROM_RBP(no_table, without_table, touch)
FROM_RBP(innermost, rbp_by_value, touch)
FROM_RBP(inner, cfa_in_r13, innermost)
FROM_RBP(nested, cfa_in_rbx, inner)
#undef FROM_RBP

/// The digits of `path`, the lowest first, say through which functions it goes.
inline void onward(unsigned path, int digits);

FRAME void digit_0(unsigned path, int digits) {
    onward(path, digits);
    STAYS;
}

FRAME void digit_1(unsigned path, int digits) {
    NEEDS(alloca(path + 1));
    onward(path, digits);
    STAYS;
}

FRAME void digit_2(unsigned path, int digits) {
    alignas(64) char block[100];
    NEEDS(block);
    onward(path, digits);
    STAYS;
}

FRAME void digit_3(unsigned path, int digits) {
    asm volatile("movq $-1, %%rbp" ::: "rbp");
    onward(path, digits);
    STAYS;
}

[[gnu::always_inline]] inline void onward(unsigned path, int digits) {
    constexpr void (*NEXT[])(unsigned, int) = {digit_0, digit_1, digit_2, digit_3};
    if (digits == 0) {
        touch();
    } else {
        NEXT[path % 4](path / 4, digits - 1);
    }
}

FRAME void many_places() {
    for (unsigned path = 0; path < 1024; path++) {
        onward(path, 5);
    }
}

const std::vector<Scenario> SHAPES = {
    {"recursion", recursion, "touch descend*400 recursion main _start"},
    {"variable-frames", variable_frames, "touch varying*20 variable_frames main _start"},
    {"aligned-frames", aligned_frames, "touch aligned*20 aligned_frames main _start"},
    {"general-register", general_register, "touch rbp_is_data*3 general_register main _start"},
    {"large-frame", large_frame, "touch huge large_frame main _start"},
    {"tail-call", tail_call, "touch tail_call main _start"},
    {"last-call", last_call, "touch leaves ends_with_call last_call main _start"},
    {"cfa-in-rbx", from_rbx, "touch cfa_in_rbx from_rbx main _start"},
    {"cfa-in-r13", from_r13, "touch cfa_in_r13 from_r13 main _start"},
    {"cfa-by-expression", from_expression, "touch cfa_by_expression from_expression main _start"},
    {"saved-by-expression", saved_by_expression, "touch rbp_by_expression saved_by_expression main _start"},
    {"saved-in-register", saved_in_register, "touch rbp_in_r12 saved_in_register main _start"},
    {"saved-by-value", saved_by_value, "touch rbp_by_value saved_by_value main _start"},
    {"restored-state", after_restore, "touch state_restored after_restore main _start"},
    {"two-ranges", split, "touch two_ranges split main _start"},
    {"nested-shapes", nested, "touch rbp_by_value innermost cfa_in_r13 inner cfa_in_rbx nested main _start"},
    // Between the two are five that differ each time.
    {"many-places", many_places, "touch many_places main _start"},
    {"no-table", no_table, "touch without_table"},
};
