// SPDX-License-Identifier: Apache-2.0
//! The program's own library, which it calls by stubs that are bound on first use.
#pragma once

extern "C" {
/// Called by what runs in the library.
extern void (*late_hook)();
/// Calls the hook.
void late_and_loud();
/// Calls nothing.
void late_and_quiet();
/// Which function it is decides another one at the first call, and that one calls the hook.
void late_and_chosen();
}
