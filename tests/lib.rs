// SPDX-License-Identifier: Apache-2.0
//! Empty on purpose: the tests are in `suite/`.
