// SPDX-License-Identifier: Apache-2.0
//! Frees while an exception is in flight, and where it is caught.

#include <csetjmp>
#include <cstdlib>
#include <exception>

#include "frames.hpp"

namespace {

std::jmp_buf back;

}  // namespace

FRAME void throws(int depth) {
    if (depth == 1) {
        throw 1;
    }
    throws(depth - 1);
    STAYS;
}

struct Touches {
    __attribute__((noinline)) ~Touches() {
        touch();
        STAYS;
    }
};

FRAME void cleans_up() {
    Touches object;
    throws(3);
    STAYS;
}

FRAME void in_flight() {
    try {
        cleans_up();
    } catch (int) {
    }
}

FRAME void catches() {
    try {
        throws(3);
    } catch (int) {
        touch();
    }
}

FRAME void caught() {
    catches();
    STAYS;
}

/// Has an exception of its own, while another one is in flight.
struct Catches {
    __attribute__((noinline)) ~Catches() {
        catches();
        STAYS;
    }
};

FRAME void cleans_up_by_catching() {
    Catches object;
    throws(2);
    STAYS;
}

FRAME void two_in_flight() {
    try {
        cleans_up_by_catching();
    } catch (int) {
    }
}

FRAME void on_terminate() {
    touch();
    std::longjmp(back, 1);
}

FRAME void never_throws() noexcept {
    throws(2);
    STAYS;
}

FRAME void terminating() {
    std::set_terminate(on_terminate);
    if (setjmp(back) == 0) {
        never_throws();
    }
    std::set_terminate(nullptr);
}

FRAME void without_an_exception() {
    Touches object;
    STAYS;
}

const std::vector<Scenario> EXCEPTIONS = {
    {"in-flight", in_flight, "touch Touches::~Touches() cleans_up in_flight main _start"},
    {"caught", caught, "touch catches caught main _start"},
    {"two-in-flight", two_in_flight,
     "touch catches Catches::~Catches() cleans_up_by_catching two_in_flight main _start"},
#if defined(__clang__)
    // It unwinds first, and the function's own landing pad ends the program, by a function that may have no unwind table.
    {"terminate", terminating, "touch on_terminate __clang_call_terminate"},
#else
    // The runtime library finds out while it looks for whoever catches.
    {"terminate", terminating, "touch on_terminate throws*2 never_throws terminating main _start"},
#endif
    {"destructor", without_an_exception, "touch Touches::~Touches() without_an_exception main _start"},
};
