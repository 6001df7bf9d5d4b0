// SPDX-License-Identifier: Apache-2.0
//! What the tests of several formats share: a trace, written as text, and what it comes to.

use super::{
    Export as _, Folded, Heading, Links, Perfetto, Stacks, Unit, write_folded, write_pprof, write_speedscope, write_svg,
};
use crate::{
    analysis::{Filter, Measure, Profile, ProfileFold},
    model::{Model, read_text},
};

/// Python allocates three buffers; one is freed three times, one is held, one closed; another is older than the recording.
pub(super) const TRACE: &str = r##"
session tool="0.1.0" host="h" kernel="6.1" wall_ns=1735689599000000000 boot_ns=5000
process id=1 pid=4711 start=9 command="python run.py"
module id=1 path="/opt/lib; 7.so" build_id="8f22"
module id=2 path="/usr/lib/libpython3.12.so.1.0"
python process=1 module=2 version="3.12.1"
border process=1 time=0 next_unique_id=10
text id=1 text="t.py::one (call)"
frame id=1 module=1 address=0x10
symbol frame=1 function="tt::tt_metal::Buffer::create" file="/src/buffer.cpp" line=7
frame id=2 module=2 address=0x20 returns=1
symbol frame=2 function="_PyEval_EvalFrameDefault" offset=0x9
frame id=3 module=2 address=0x30 returns=1
symbol frame=3 function="_start"
code id=1 function="Model.load" file="/src/model.py" first_line=3
code id=2 function="main" file="/src/run.py" first_line=1
python-frame id=4 code=1 line=37
python-frame id=5 code=2 line=9
frame id=6 module=1 address=0x40
symbol frame=6 function="drop"
frame id=7 module=1 address=0x50 returns=1
stack id=1 frames=1,4,2,5,2,3 end=complete python=complete
stack id=2 frames=6,7 end=copy-too-small
live process=1 time=100 unique_id=3 address=0x800 size=64 device_class=mesh allocator=0xa
event 1 t=1000 p=1 tid=7 test-begin text=1
event 2 t=1001 p=1 tid=7 request uid=10 size=2048 class=mesh stack=1
event 3 t=1002 p=1 tid=7 allocated uid=10 owns=1 size=2048 address=0x100 class=mesh allocator=0xa
event 4 t=1003 p=1 tid=7 request uid=11 size=2048 class=mesh stack=1
event 5 t=1004 p=1 tid=7 allocated uid=11 owns=1 size=2048 address=0x200 class=mesh allocator=0xa
event 6 t=1005 p=1 tid=7 request uid=12 size=2048 class=mesh stack=1
event 7 t=1006 p=1 tid=7 allocated uid=12 owns=1 size=2048 address=0x300 class=mesh allocator=0xa
event 8 t=1007 p=1 tid=7 free uid=10 size=2048 address=0x100 status=1 stack=2
event 9 t=1008 p=1 tid=7 released uid=10 size=2048 address=0x100 status=1 class=mesh allocator=0xa
event 10 t=1009 p=1 tid=7 free uid=10 size=2048 address=0x100 status=2 stack=2
event 11 t=1010 p=1 tid=7 free uid=10 size=2048 address=0x100 status=2 stack=2
event 12 t=1011 p=1 tid=7 free uid=12 size=2048 address=0x300 status=1 stack=2
event 13 t=1012 p=1 tid=7 released uid=12 size=2048 address=0x300 status=1 class=mesh allocator=0xa
event 14 t=1013 p=1 tid=7 test-end
event 15 t=1014 p=1 tid=7 free uid=3 size=64 address=0x800 status=1 stack=2
event 16 t=1015 p=1 tid=7 released uid=3 size=64 address=0x800 status=1 class=mesh allocator=0xa
end process=1 time=3000 reason=exited
"##;

/// Its profile.
pub(super) fn model(trace: &str) -> (Profile, Model) {
    let mut fold = ProfileFold::default();
    let model = read_text(trace, &mut |entry| fold.entry(entry));
    (fold.finish(), model)
}

/// Its folded stacks.
pub(super) fn folded(measure: Measure, unit: Unit, all: bool) -> String {
    let (profile, model) = model(TRACE);
    let folded = Folded::new(&profile, measure, unit, Stacks { definitions: &model.definitions, all });
    let mut out = Vec::new();
    write_folded(&folded, None, &mut out).expect("written");
    String::from_utf8(out).expect("UTF-8")
}

/// The same against a run in which a function had another name.
pub(super) fn against(measure: Measure, unit: Unit) -> String {
    let [now, before] = [TRACE.to_owned(), TRACE.replace("Buffer::create", "Buffer::remake")].map(|trace| {
        let (profile, model) = model(&trace);
        Folded::new(&profile, measure, unit, Stacks { definitions: &model.definitions, all: false })
    });
    let mut out = Vec::new();
    write_folded(&now, Some(&before), &mut out).expect("written");
    String::from_utf8(out).expect("UTF-8")
}

/// Numbers that no recording would have must not bring a format down.
#[test]
fn forged_numbers_are_written_or_refused() {
    let digits = |c: char| c.is_ascii_digit();
    let places = TRACE.char_indices().filter(|&(at, c)| digits(c) && !TRACE[..at].ends_with(digits));
    for (at, _) in places {
        for number in ["0", "1", "4294967295", "18446744073709551615"] {
            let rest = TRACE[at..].trim_start_matches(digits);
            let forged = format!("{}{number}{rest}", &TRACE[..at]);
            if crate::trace::text::parse(&forged).is_err() {
                continue; // too large for its field: a file cannot hold it either
            }
            write_all(&forged);
        }
    }
}

/// Writes each format.
fn write_all(trace: &str) {
    let (profile, known) = model(trace);
    let stacks = Stacks { definitions: &known.definitions, all: false };
    for measure in Measure::ALL {
        let folded = Folded::new(&profile, measure, Unit::Bytes, stacks);
        let heading = Heading { measure, unit: Unit::Bytes, remark: String::new() };
        // Sizes may be too large to be drawn.
        let _ = write_svg(&folded, Some(&folded), &heading, &mut Vec::new());
    }
    write_speedscope(&profile, stacks, "a", &mut Vec::new()).expect("written");
    write_pprof(&profile, &known, true, &[], &mut Vec::new()).expect("written");
    let mut links = Links::default();
    read_text(trace, &mut |entry| links.entry(entry));
    let mut out = Vec::new();
    let mut perfetto = Box::new(Perfetto::new(&known, links, &Filter::default(), &mut out).expect("written"));
    read_text(trace, &mut |entry| perfetto.entry(entry).expect("written"));
    perfetto.finish(None).expect("written");
}

#[test]
fn a_profile_measures_what_the_analyses_count() {
    let (profile, _) = model(TRACE);
    let total = |measure| {
        let amounts = profile.by_stack(measure).into_values();
        amounts.fold((0, 0), |(count, bytes), amount| (count + amount.count, bytes + amount.bytes))
    };
    assert_eq!(total(Measure::Allocated), (3, 6144));
    assert_eq!(total(Measure::Held), (1, 2048));
    assert_eq!(total(Measure::Peak), (4, 6208), "with the one from before");
    assert_eq!(total(Measure::Excess), (2, 4096));
}
