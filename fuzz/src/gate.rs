// SPDX-License-Identifier: Apache-2.0
//! The files that `check` is given: suppressions, expectations and baselines.

use std::cell::OnceCell;

use buftrace::{
    analysis::{Baseline, Expectations, Gate, Suppressions},
    trace::text,
};

use crate::views::{self, Read};

/// A trace with something to find in each test.
const TRACE: &str = r#"
process id=1 pid=4711 command="pytest"
border process=1 next_unique_id=1
text id=1 text="t.py::one (call)"
frame id=1 address=0x1
symbol frame=1 function="f()"
stack id=1 frames=1 end=complete
event 1 t=1000 p=1 tid=7 test-begin text=1
event 2 t=1100 p=1 tid=7 request uid=1 size=64 class=mesh stack=1
event 3 t=1100 p=1 tid=7 allocated uid=1 owns=1 size=64 address=0x10 class=mesh
event 4 t=1200 p=1 tid=7 free uid=1 size=64 address=0x10 status=1 stack=1
event 5 t=1200 p=1 tid=7 released uid=1 size=64 status=1
event 6 t=1300 p=1 tid=7 free uid=1 size=64 address=0x10 status=2 stack=1
event 7 t=1400 p=1 tid=7 request uid=2 size=64 class=mesh stack=1
event 8 t=1400 p=1 tid=7 allocated uid=2 owns=1 size=64 address=0x20 class=mesh
"#;

thread_local! {
    static READ: OnceCell<Read> = const { OnceCell::new() };
}

/// A file that may be each of them.
pub(crate) fn gate(bytes: &[u8]) {
    let file = String::from_utf8_lossy(bytes);
    let suppressions = Suppressions::parse(&file);
    let expectations = Expectations::parse(&file);
    let baseline = Baseline::parse(&file);
    let rules = views::rules(file.lines().next().unwrap_or_default());
    if suppressions.is_err() && expectations.is_err() && baseline.is_err() && rules.is_empty() {
        return;
    }
    let gate = Gate {
        rules,
        baseline: baseline.ok(),
        suppressions: suppressions.unwrap_or_default(),
        expectations: expectations.unwrap_or_default(),
        strict: false,
        today: views::today(),
    };
    READ.with(|cell| {
        let Read { summary, counts } = cell.get_or_init(|| views::read(&text::parse(TRACE).unwrap_or_default()));
        views::check(&gate, summary, counts);
    });
}
