// SPDX-License-Identifier: Apache-2.0
//! The program's own library.

#include "late.hpp"

#include "frames.hpp"

void (*late_hook)();

FRAME void late_and_loud() {
    late_hook();
    STAYS;
}

FRAME void late_and_quiet() { STAYS; }

static void chosen() {}

/// The loader calls it, to bind `late_and_chosen`.
extern "C" __attribute__((used)) void (*choose())() {
    if (late_hook != nullptr) {
        late_hook();
    }
    return chosen;
}

extern "C" __attribute__((ifunc("choose"))) void late_and_chosen();
