// SPDX-License-Identifier: Apache-2.0
//! A trace, and the packets that it becomes.

use std::{collections::HashMap, fmt::Write as _};

use expect_test::expect;
use prost::Message;

use super::{
    Links, Perfetto,
    schema::{InternedName, TracePacket, Type},
};
use crate::{
    analysis::Filter,
    export::{Export as _, tests::TRACE},
    model::read_text,
};

/// A trace is one message with a field for each packet.
#[derive(Clone, PartialEq, Message)]
struct Trace {
    #[prost(message, repeated, tag = "1")]
    packet: Vec<TracePacket>,
}

fn written(text: &str, filter: &Filter) -> Vec<TracePacket> {
    let mut links = Links::default();
    let known = read_text(text, &mut |entry| links.entry(entry));
    let mut out = Vec::new();
    let mut perfetto = Box::new(Perfetto::new(&known, links, filter, &mut out).expect("written"));
    read_text(text, &mut |entry| perfetto.entry(entry).expect("written"));
    perfetto.finish(None).expect("written");
    Trace::decode(&out[..]).expect("decoded").packet
}

/// Each event as a line, in the order of time: time, track, what.
fn shown(packets: &[TracePacket]) -> String {
    let mut tracks: HashMap<u64, String> = HashMap::new();
    let mut names: HashMap<u64, String> = HashMap::new();
    let mut lines = Vec::new();
    for packet in packets {
        let new = packet.interned_data.iter().flat_map(|data| &data.event_names);
        names.extend(new.map(|InternedName { iid, name }| (iid.unwrap_or(0), name.clone().unwrap_or_default())));
        if let Some(track) = &packet.track_descriptor {
            let parent = track.parent_uuid.map_or(String::new(), |parent| tracks[&parent].clone() + "/");
            let process = track.process.as_ref().map(|process| format!("pid {}", process.pid.unwrap_or(0)));
            let name = process.or_else(|| track.name.clone()).unwrap_or_default();
            tracks.insert(track.uuid.unwrap_or(0), parent + &name);
        }
        let Some(event) = &packet.track_event else { continue };
        let mut line = format!("{} {}", packet.timestamp.unwrap_or(0), tracks[&event.track_uuid.unwrap_or(0)]);
        match event.r#type() {
            Type::Counter => write!(line, " = {}", event.counter_value.unwrap_or(-1)),
            Type::SliceEnd => write!(line, " end"),
            kind => write!(line, " {kind:?} {}", names[&event.name_iid.unwrap_or(0)]),
        }
        .expect("a string takes all");
        for (mark, flows) in [(" >", &event.flow_ids), (" <", &event.terminating_flow_ids)] {
            flows.iter().for_each(|flow| write!(line, "{mark}{flow}").expect("a string takes all"));
        }
        lines.push((packet.timestamp, line));
    }
    lines.sort_by_key(|(time, _)| *time);
    lines.into_iter().map(|(_, line)| line + "\n").collect()
}

#[test]
fn lives_counters_excess_frees_and_tests_are_on_tracks() {
    expect![[r#"
        5100 pid 4711/mesh0 DRAM/bytes live = 64
        5100 pid 4711/mesh0 DRAM/buffers SliceBegin (allocated before the recording, or in a gap)
        6000 pid 4711/tests SliceBegin t.py::one (call)
        6002 pid 4711/mesh0 DRAM/bytes live = 2112
        6002 pid 4711/mesh0 DRAM/buffers SliceBegin Model.load (model.py) < main (run.py) >1 >2
        6004 pid 4711/mesh0 DRAM/bytes live = 4160
        6004 pid 4711/mesh0 DRAM/buffers SliceBegin Model.load (model.py) < main (run.py)
        6006 pid 4711/mesh0 DRAM/bytes live = 6208
        6006 pid 4711/mesh0 DRAM/buffers SliceBegin Model.load (model.py) < main (run.py)
        6007 pid 4711/mesh0 DRAM/bytes live = 4160
        6007 pid 4711/mesh0 DRAM/buffers end
        6007 pid 4711/mesh0 DRAM/excess frees Instant free before (released): drop >3 >4
        6009 pid 4711/mesh0 DRAM/excess frees Instant repeat: drop <1 <3
        6010 pid 4711/mesh0 DRAM/excess frees Instant repeat: drop <2 <4
        6011 pid 4711/mesh0 DRAM/bytes live = 2112
        6011 pid 4711/mesh0 DRAM/buffers end
        6013 pid 4711/tests end
        6014 pid 4711/mesh0 DRAM/bytes live = 2048
        6014 pid 4711/mesh0 DRAM/buffers end
        8000 pid 4711/mesh0 DRAM/buffers end
    "#]]
    .assert_eq(&shown(&written(TRACE, &Filter::default())));
}

#[test]
fn a_part_of_the_events_has_no_counters() {
    let filter = Filter { since: Some(0), ..Filter::default() };
    assert!(!shown(&written(TRACE, &filter)).contains("bytes live"));
}

#[test]
fn times_are_since_boot_and_the_wall_clock_is_told() {
    let packets = written(TRACE, &Filter::default());
    let clocks = packets[0].clock_snapshot.as_ref().expect("clocks first");
    let clocks: Vec<_> = clocks.clocks.iter().map(|clock| (clock.clock_id, clock.timestamp)).collect();
    assert_eq!(clocks, [(Some(6), Some(5000)), (Some(1), Some(1_735_689_599_000_000_000))]);
}
