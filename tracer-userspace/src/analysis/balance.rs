// SPDX-License-Identifier: Apache-2.0
//! The balance of each address by both ledgers: what was reported, and what really happened.

use std::{
    cmp::{Ordering, Reverse},
    collections::BTreeMap,
    mem,
};

use foldhash::HashMap;
use serde::{Deserialize, Serialize};

use super::{Filter, VerdictCount, by_verdict::ByVerdict, names};
use crate::model::{Buffer, ByKey, Colour, Device, Outcome, Reports, Server, Verdict};

/// How many addresses have as many frees as allocations, by two ledgers.
///
/// The *server* ledger has what a server would have counted that keeps a log of the graph trackers' reports: by number of
/// the device and address, whatever the process, the type of memory and the class of the device. The *allocator* ledger
/// has what happened, by the verdicts.
#[derive(Clone, Debug, Serialize)]
pub struct Balance {
    /// The server ledger, by source and device, and behind them all together if there are several; `null` if a selection
    /// goes by more than the device, of which a server knows nothing.
    pub server: Option<Vec<ServerRow>>,
    /// The addresses with most reported frees beyond the allocations.
    pub server_offenders: Vec<ServerOffender>,
    /// Such addresses beyond those that were asked for.
    pub hidden_server_offenders: usize,
    /// The allocator ledger, by process, device and type.
    pub allocator: Vec<BalanceRow>,
    /// The addresses with most frees beyond their allocations.
    pub allocator_offenders: Vec<Offender>,
    /// Such addresses beyond those that were asked for.
    pub hidden_allocator_offenders: usize,
}

/// The balance of one device's addresses in the server ledger.
#[derive(Clone, Debug, Serialize)]
pub struct ServerRow {
    /// Number of the trace or imported file, each of which counts as a server of its own; `null` for all.
    pub source: Option<u32>,
    /// Number of the device, be it a mesh's or a chip's; `null` for all devices.
    pub device: Option<u32>,
    /// Addresses with an allocation or a free.
    pub addresses: u64,
    /// With as many frees as allocations.
    pub even: u64,
    /// With fewer frees.
    pub not_freed: u64,
    /// With more frees.
    pub freed_more: u64,
    /// Frees of buffers that the server did not have then.
    pub unknown: u64,
    /// Frees beyond the allocations, summed over the addresses with more.
    pub excess: u64,
    /// What the excess was.
    pub explained: Explained,
}

/// An address with more frees than allocations in the server ledger.
#[derive(Clone, Debug, Serialize)]
pub struct ServerOffender {
    /// Number of the trace or imported file.
    pub source: u32,
    /// Process number of the first report.
    pub process: u32,
    /// Number of the device.
    pub device: u32,
    /// The address.
    pub address: u64,
    /// Types of memory that were reported there.
    pub buffer_types: Vec<String>,
    /// Allocations reported.
    pub allocations: u64,
    /// Frees reported.
    pub frees: u64,
    /// Of these, frees of buffers that the server did not have then.
    pub unknown: u64,
    /// What the excess was.
    pub explained: Explained,
}

/// The excess of the server ledger, in terms of the other: frees without an allocation of the same buffer, by verdict,
/// less allocations without a free.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Explained {
    /// Frees without an allocation, by what they were.
    pub verdicts: Vec<VerdictCount>,
    /// Frees without an allocation that have no verdict.
    pub without_verdict: u64,
    /// Allocations without a free, which hide as many of the frees.
    pub not_freed: u64,
}

/// The balance of the addresses of one type of memory of one device. A free after a bulk release is none of these.
#[derive(Clone, Debug, Serialize)]
pub struct BalanceRow {
    /// Process number.
    pub process: u32,
    /// Device; `null` for what was allocated before the recording.
    pub device: Option<String>,
    /// Type of memory.
    pub buffer_type: String,
    /// Addresses with an allocation or a free.
    pub addresses: u64,
    /// With as many frees as allocations.
    pub even: u64,
    /// With fewer frees.
    pub not_freed: u64,
    /// With more frees.
    pub freed_more: u64,
}

/// An address with more frees than allocations.
#[derive(Clone, Debug, Serialize)]
pub struct Offender {
    /// Process number.
    pub process: u32,
    /// Device; `null` for what was allocated before the recording.
    pub device: Option<String>,
    /// Type of memory.
    pub buffer_type: String,
    /// The address.
    pub address: u64,
    /// Allocations seen, and those from before the recording that were found live or freed in it.
    pub allocations: u64,
    /// Frees seen.
    pub frees: u64,
    /// What the frees without an allocation, and those that came again, were.
    pub excess: Vec<VerdictCount>,
}

/// Collects the allocator's side of a [`Balance`]. What it takes grows with the number of addresses.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(super) struct BalanceFold {
    /// By memory and address.
    addresses: ByKey<Memory, HashMap<u64, Sum>>,
}

/// Which part of the server ledger belongs to what a filter takes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) enum ServerScope {
    #[default]
    All,
    /// The device of this number.
    Device(u32),
    /// That is not known.
    None,
}

/// Process, device and type of memory.
type Memory = (u32, Option<Device>, u32);

/// What happened at one address. There may be very many.
#[derive(Debug, Default, Deserialize, Serialize)]
struct Sum {
    /// Allocations seen, and those from before the recording, of which a snapshot or a free tells.
    allocations: u64,
    frees: u64,
    /// Most addresses have none.
    excess: Option<Box<ByVerdict<u64>>>,
}

impl BalanceFold {
    /// Takes a buffer that got memory, or was found to have it.
    pub(super) fn allocation(&mut self, buffer: &Buffer) {
        self.sum(buffer).allocations += 1;
    }

    /// Takes a free, or the end of a buffer, with memory behind it.
    pub(super) fn outcome(&mut self, outcome: &Outcome) {
        let (Outcome { verdict, ends, .. }, buffer) = (outcome, outcome.owner());
        let again = matches!(verdict.colour(), Colour::Excess | Colour::Red);
        if *ends || again {
            let sum = self.sum(buffer);
            sum.frees += 1;
            if matches!(verdict, Verdict::PreAttach | Verdict::Inherited) {
                sum.allocations += u64::from(!buffer.found);
            } else if again || buffer.allocated.is_none() && !buffer.found {
                *sum.excess.get_or_insert_default().of(*verdict) += 1;
            }
        }
    }

    /// Adds what was collected of other entries.
    pub(super) fn merge(&mut self, other: Self) {
        for (memory, mut fewer) in other.addresses.into_all() {
            let sums = self.addresses.of(memory);
            if sums.len() < fewer.len() {
                mem::swap(sums, &mut fewer);
            }
            fewer.into_iter().for_each(|(address, sum)| sums.entry(address).or_default().merge(sum));
        }
    }

    /// Ends in a balance that names at most so many offenders of each ledger, of the server's in a part of it.
    pub(super) fn finish(&self, top: usize, server: &Server, scope: ServerScope) -> Balance {
        let reports: Vec<Reported> = server.addresses().into_iter().filter(|it| scope.has(*it.0)).collect();
        let (server_offenders, hidden_server_offenders) = server_offenders(&reports, top);
        let (allocator_offenders, hidden_allocator_offenders) = self.offenders(top);
        Balance {
            server: (!matches!(scope, ServerScope::None)).then(|| server_rows(&reports)),
            server_offenders,
            hidden_server_offenders,
            allocator: self.rows(),
            allocator_offenders,
            hidden_allocator_offenders,
        }
    }

    fn sum(&mut self, buffer: &Buffer) -> &mut Sum {
        let memory = (buffer.process, buffer.device, buffer.buffer_type);
        self.addresses.of(memory).entry(buffer.address).or_default()
    }

    fn rows(&self) -> Vec<BalanceRow> {
        let row = |&((process, device, buffer_type), ref addresses): &(Memory, HashMap<u64, Sum>)| {
            let mut columns = [0; 3];
            addresses.values().for_each(|sum| columns[column(sum.allocations, sum.frees)] += 1);
            let [even, not_freed, freed_more] = columns;
            BalanceRow {
                process,
                device: names::device(device),
                buffer_type: names::buffer_type(buffer_type),
                addresses: even + not_freed + freed_more,
                even,
                not_freed,
                freed_more,
            }
        };
        self.addresses.iter().map(row).collect()
    }

    /// The worst, and how many are left out.
    fn offenders(&self, top: usize) -> (Vec<Offender>, usize) {
        let all = self.addresses.iter().flat_map(|(memory, sums)| sums.iter().map(move |(at, sum)| (memory, at, sum)));
        let mut worst: Vec<_> = all.filter(|(.., sum)| sum.frees > sum.allocations).collect();
        worst.sort_by_key(|&(memory, address, sum)| (Reverse(sum.frees - sum.allocations), memory, address));
        let hidden = cut(&mut worst, top);
        let row = |(&(process, device, buffer_type), &address, sum): (&Memory, &u64, &Sum)| Offender {
            process,
            device: names::device(device),
            buffer_type: names::buffer_type(buffer_type),
            address,
            allocations: sum.allocations,
            frees: sum.frees,
            excess: sum.excess.as_ref().map(|excess| excess.rows()).unwrap_or_default(),
        };
        (worst.into_iter().map(row).collect(), hidden)
    }
}

impl Sum {
    fn merge(&mut self, other: Self) {
        self.allocations = self.allocations.saturating_add(other.allocations);
        self.frees = self.frees.saturating_add(other.frees);
        if let Some(excess) = other.excess {
            self.excess.get_or_insert_default().merge(&excess);
        }
    }
}

impl ServerScope {
    /// That of a filter.
    pub(super) fn of(filter: &Filter) -> Self {
        match (filter.parts_lives() || filter.buffer_type.is_some(), filter.device) {
            (true, _) => Self::None,
            (false, Some(device)) => Self::Device(device.id()),
            (false, None) => Self::All,
        }
    }

    fn has(self, (_, device, _): (u32, u32, u64)) -> bool {
        match self {
            Self::All => true,
            Self::Device(wanted) => wanted == device,
            Self::None => false,
        }
    }
}

/// Source, device and address in the server ledger, with what was reported there.
type Reported<'a> = (&'a (u32, u32, u64), &'a Reports);

/// Leaves the first rows, and returns how many it leaves out.
fn cut<T>(rows: &mut Vec<T>, top: usize) -> usize {
    let hidden = rows.len().saturating_sub(top);
    rows.truncate(top);
    hidden
}

/// 0 for as many frees as allocations, 1 for fewer, 2 for more.
fn column(allocations: u64, frees: u64) -> usize {
    match frees.cmp(&allocations) {
        Ordering::Equal => 0,
        Ordering::Less => 1,
        Ordering::Greater => 2,
    }
}

fn server_rows(reported: &[Reported]) -> Vec<ServerRow> {
    let mut devices: BTreeMap<(u32, u32), Vec<&Reports>> = BTreeMap::new();
    for ((source, device, _), reports) in reported {
        devices.entry((*source, *device)).or_default().push(reports);
    }
    let row = |(&(source, device), reports): (&(u32, u32), &Vec<_>)| server_row(Some(source), Some(device), reports);
    let mut rows: Vec<_> = devices.iter().map(row).collect();
    if rows.len() > 1 {
        let all: Vec<_> = reported.iter().map(|(_, reports)| *reports).collect();
        rows.push(server_row(None, None, &all));
    }
    rows
}

fn server_row(source: Option<u32>, device: Option<u32>, reports: &[&Reports]) -> ServerRow {
    let mut columns = [0; 3];
    for it in reports {
        columns[column(it.allocations, it.frees)] += 1;
    }
    let [even, not_freed, freed_more] = columns;
    let more = reports.iter().filter(|it| it.excess() > 0);
    ServerRow {
        source,
        device,
        addresses: reports.len() as u64,
        even,
        not_freed,
        freed_more,
        unknown: sum(reports.iter().map(|it| it.unknown)),
        excess: sum(more.clone().map(|it| it.excess())),
        explained: Explained::of(more.copied()),
    }
}

fn sum(counts: impl Iterator<Item = u64>) -> u64 {
    counts.fold(0, u64::saturating_add)
}

/// The worst, and how many are left out.
fn server_offenders(reported: &[Reported], top: usize) -> (Vec<ServerOffender>, usize) {
    let mut worst: Vec<_> = reported.iter().copied().filter(|(_, it)| it.excess() > 0).collect();
    worst.sort_by_key(|(place, it)| (Reverse(it.excess()), *place));
    let hidden = cut(&mut worst, top);
    let row = |(&(source, device, address), it): Reported| ServerOffender {
        source,
        process: it.process,
        device,
        address,
        buffer_types: (0..u8::BITS).filter(|bit| it.types >> bit & 1 == 1).map(names::buffer_type).collect(),
        allocations: it.allocations,
        frees: it.frees,
        unknown: it.unknown,
        explained: Explained::of([it].into_iter()),
    };
    (worst.into_iter().map(row).collect(), hidden)
}

impl Explained {
    fn of<'a>(reports: impl Iterator<Item = &'a Reports>) -> Self {
        let mut counts: ByVerdict<u64> = ByVerdict::default();
        let mut explained = Self::default();
        for it in reports {
            for (verdict, &count) in &it.unmatched {
                let total = verdict.map_or(&mut explained.without_verdict, |verdict| counts.of(verdict));
                *total = total.saturating_add(count);
            }
            let unmatched = sum(it.unmatched.values().copied());
            explained.not_freed = explained.not_freed.saturating_add(unmatched.saturating_sub(it.excess()));
        }
        explained.verdicts = counts.rows();
        explained
    }
}
