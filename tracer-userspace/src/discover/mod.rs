// SPDX-License-Identifier: Apache-2.0
//! discover
pub mod elf;
pub mod layout;
pub mod maps;
pub mod memory;
pub mod process;
