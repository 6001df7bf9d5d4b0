// SPDX-License-Identifier: Apache-2.0
//! ebpf
#![no_std]
#![no_main]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}
