// SPDX-License-Identifier: Apache-2.0
//! The integration tests, one binary.

#[test]
fn placeholder() {}
