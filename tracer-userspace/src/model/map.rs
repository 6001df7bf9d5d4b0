// SPDX-License-Identifier: Apache-2.0
//! The hash map of what is done for each event.

use std::collections::HashMap;

/// A map with a fast hash. Its seed is random, as keys come from traces, which may be forged: no order of iteration may
/// reach any output.
pub(crate) type Map<K, V> = HashMap<K, V, foldhash::fast::RandomState>;
