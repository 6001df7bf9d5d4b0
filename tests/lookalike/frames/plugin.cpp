// SPDX-License-Identifier: Apache-2.0
//! A library that is loaded and unloaded while the program runs. PLUGIN_NAME is its function, and PLUGIN_FRAME the size of
//! that function's frame.

#include "frames.hpp"

FRAME void PLUGIN_NAME(void (*callee)()) {
    char block[PLUGIN_FRAME];
    NEEDS(block);
    callee();
    STAYS;
}
