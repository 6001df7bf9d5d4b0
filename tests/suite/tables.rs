// SPDX-License-Identifier: Apache-2.0
//! Compiled unwind tables against what gimli and readelf say of the same libraries, row by row.

use std::{
    collections::{BTreeMap, HashSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use buftrace::{
    discover::maps,
    unwind::{Compiled, compile},
};
use gimli::{
    BaseAddresses, CfaRule, CieOrFde, EhFrame, EhFrameHdr, Encoding, EndianSlice, EvaluationResult,
    FrameDescriptionEntry, LittleEndian, Location, ParsedEhFrameHdr, Register, RegisterRule, UnwindContext,
    UnwindExpression, UnwindSection as _, UnwindTableRow, Value, X86_64,
};
use object::{LittleEndian as LE, Object as _, ObjectSection as _, read::elf::ElfFile64};
use tracer_unwind::{
    rule::{Cfa, Rbp, Rule},
    walk::{Machine, Memory, Stop},
};

use crate::{
    target::{can_have_ttnn, python},
    tool::root,
};

type Slice<'d> = EndianSlice<'d, LittleEndian>;
type Fde<'d> = FrameDescriptionEntry<Slice<'d>>;

/// Bits that look random, the same for the same number.
fn scramble(number: u64) -> u64 {
    let mut bits = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ bits >> 31
}

/// A memory in which each word tells its address.
struct Told;

impl Memory for Told {
    fn read(&mut self, address: u64) -> Option<u64> {
        Some(scramble(address))
    }
}

/// A module, compiled, and as gimli reads it.
struct Module<'d> {
    compiled: Compiled,
    eh_frame: EhFrame<Slice<'d>>,
    index: Option<ParsedEhFrameHdr<Slice<'d>>>,
    bases: BaseAddresses,
}

impl<'d> Module<'d> {
    /// `None` if it has no tables.
    fn of(data: &'d [u8]) -> Result<Option<Self>> {
        let file = ElfFile64::<LE>::parse(data)?;
        let Some(compiled) = compile(&file) else { return Ok(None) };
        let section = file.section_by_name(".eh_frame").context("it was compiled")?;
        let mut eh_frame = EhFrame::new(section.data()?, LittleEndian);
        eh_frame.set_address_size(8);
        let mut bases = BaseAddresses::default().set_eh_frame(section.address());
        let mut index = None;
        if let Some(section) = file.section_by_name(".eh_frame_hdr") {
            bases = bases.set_eh_frame_hdr(section.address());
            index = Some(EhFrameHdr::new(section.data()?, LittleEndian).parse(&bases, 8)?);
        }
        Ok(Some(Self { compiled, eh_frame, index, bases }))
    }

    /// Compares at the first and last address of each row, and at each end of a function; returns how many rows there were.
    fn compare_rows(&self) -> Result<u64> {
        let mut context = UnwindContext::new();
        let mut entries = self.eh_frame.entries(&self.bases);
        let mut rows = 0;
        while let Some(entry) = entries.next()? {
            let CieOrFde::Fde(entry) = entry else { continue };
            let fde = entry.parse(EhFrame::cie_from_offset)?;
            let mut table = fde.rows(&self.eh_frame, &self.bases, &mut context)?;
            while let Some(row) = table.next_row()? {
                if row.start_address() < row.end_address() {
                    self.compare(&fde, row, row.start_address())?;
                    self.compare(&fde, row, row.end_address() - 1)?;
                    rows += 1;
                }
            }
        }
        Ok(rows)
    }

    /// Compares at addresses all over the code, those without a function included, by gimli's own search.
    fn compare_anywhere(&self, count: u64) -> Result<()> {
        let (Some(first), Some(last)) = (self.compiled.parts.first(), self.compiled.parts.last()) else {
            return Ok(());
        };
        let Some(table) = self.index.as_ref().and_then(ParsedEhFrameHdr::table) else { return Ok(()) };
        let mut context = UnwindContext::new();
        for number in 0..count {
            let address = u64::from(first.start) + scramble(number) % u64::from(last.end - first.start + 64);
            match table.fde_for_address(&self.eh_frame, &self.bases, address, EhFrame::cie_from_offset) {
                Ok(fde) => {
                    let row = fde.unwind_info_for_address(&self.eh_frame, &self.bases, &mut context, address)?;
                    self.compare(&fde, row, address)?;
                }
                Err(gimli::Error::NoUnwindInfoForAddress) => {
                    ensure!(self.compiled.rule(address) == Rule::NONE, "{address:#x} has a rule, but no function");
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn compare(&self, fde: &Fde, row: &UnwindTableRow<usize>, address: u64) -> Result<()> {
        let rule = self.compiled.rule(address);
        let machine = Machine { ip: address, sp: scramble(1), bp: scramble(2), bp_lost: 0, returns: 0 };
        let oracle = Oracle { eh_frame: &self.eh_frame, encoding: fde.cie().encoding(), machine };
        let expected = oracle.caller(row, fde.is_signal_trampoline());
        let found = rule.apply(&machine, &mut Told);
        ensure!(found == expected, "{address:#x}: {rule:?} gives {found:x?}, not {expected:x?}; {row:?}");
        Ok(())
    }
}

/// Applies a row as it stands, with no registers but the three that are followed.
struct Oracle<'a, 'd> {
    eh_frame: &'a EhFrame<Slice<'d>>,
    encoding: Encoding,
    machine: Machine,
}

impl Oracle<'_, '_> {
    fn caller(&self, row: &UnwindTableRow<usize>, signal: bool) -> Result<Machine, Stop> {
        if matches!(row.register(X86_64::RA), None | Some(RegisterRule::Undefined)) {
            return Err(Stop::Complete);
        }
        let cfa = match row.cfa() {
            CfaRule::RegisterAndOffset { register, offset } => self.register(*register)?.wrapping_add_signed(*offset),
            CfaRule::Expression(expression) => self.evaluate(*expression, None)?,
        };
        let ip = self.restored(row, X86_64::RA, cfa)?.ok_or(Stop::Unsupported)?;
        let bp = self.restored(row, X86_64::RBP, cfa)?;
        let returns = u32::from(!signal);
        Ok(Machine { ip, sp: cfa, bp: bp.unwrap_or(0), bp_lost: u32::from(bp.is_none()), returns })
    }

    fn restored(&self, row: &UnwindTableRow<usize>, register: Register, cfa: u64) -> Result<Option<u64>, Stop> {
        Ok(match row.register(register) {
            None | Some(RegisterRule::SameValue) => Some(self.register(register)?),
            Some(RegisterRule::Undefined) => None,
            Some(RegisterRule::Offset(offset)) => Some(scramble(cfa.wrapping_add_signed(offset))),
            Some(RegisterRule::Expression(expression)) => Some(scramble(self.evaluate(expression, Some(cfa))?)),
            Some(_) => return Err(Stop::Unsupported),
        })
    }

    fn register(&self, register: Register) -> Result<u64, Stop> {
        match register {
            X86_64::RSP => Ok(self.machine.sp),
            X86_64::RBP => Ok(self.machine.bp),
            X86_64::RA => Ok(self.machine.ip),
            _ => Err(Stop::Unsupported),
        }
    }

    fn evaluate(&self, expression: UnwindExpression<usize>, initial: Option<u64>) -> Result<u64, Stop> {
        let expression = expression.get(self.eh_frame).expect("it is in the section");
        let mut evaluation = expression.evaluation(self.encoding);
        if let Some(value) = initial {
            evaluation.set_initial_value(value);
        }
        let mut state = evaluation.evaluate().expect("it can be evaluated");
        loop {
            state = match state {
                EvaluationResult::Complete => break,
                EvaluationResult::RequiresMemory { address, size: 8, .. } => {
                    evaluation.resume_with_memory(Value::Generic(scramble(address)))
                }
                EvaluationResult::RequiresRegister { register, .. } => {
                    evaluation.resume_with_register(Value::Generic(self.register(register)?))
                }
                other => panic!("{other:?}"),
            }
            .expect("it can be evaluated");
        }
        match evaluation.as_result() {
            [piece] => match piece.location {
                Location::Address { address } => Ok(address),
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }
}

/// The libraries that a command has mapped when it prints its `/proc/self/maps`.
fn mapped(mut command: Command) -> Result<Vec<PathBuf>> {
    let output = command.output().context("failed to start a process with libraries")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(code(maps::parse(&output.stdout)))
}

fn code(mappings: Vec<maps::Mapping>) -> Vec<PathBuf> {
    let mut paths: Vec<_> = mappings.into_iter().filter(|it| it.executable).map(|it| it.path).collect();
    paths.sort();
    paths.dedup();
    paths
}

/// Compares every row of these files; returns the counts of all.
fn compare_all(paths: &[PathBuf]) -> Result<(u64, u64)> {
    let (mut rows, mut unsupported) = (0, 0);
    for path in paths {
        let data = fs::read(path).with_context(|| path.display().to_string())?;
        let Some(module) = Module::of(&data)? else { continue };
        let counts = &module.compiled.counts;
        let found = module.compare_rows().with_context(|| path.display().to_string())?;
        assert_eq!(counts.read, found, "{}: not every row was compiled, or counted", path.display());
        module.compare_anywhere(20_000).with_context(|| path.display().to_string())?;
        rows += found;
        unsupported += counts.unsupported.iter().sum::<u64>();
    }
    Ok((rows, unsupported))
}

const PRINT_MAPS: &str = "import ctypes, decimal, ssl, sqlite3; print(open('/proc/self/maps').read())";

#[test]
fn every_row_of_mapped_libraries_says_what_gimli_says() -> Result<()> {
    let mut paths = code(maps::read(std::process::id())?);
    let mut command = Command::new(python());
    command.args(["-c", PRINT_MAPS]);
    paths.extend(mapped(command)?);
    let (rows, unsupported) = compare_all(&paths)?;
    assert!(rows > 100_000, "{rows} rows are not what these libraries have");
    assert!(unsupported < rows / 100, "{unsupported} of {rows} rows were not compiled");
    Ok(())
}

#[test]
fn every_row_of_ttnn_says_what_gimli_says() -> Result<()> {
    if !can_have_ttnn() {
        return Ok(());
    }
    let (folder, _) = xtask::python::with_ttnn("0.81.1")?;
    let mut command = Command::new("bash");
    let script =
        format!(r#"source "$0/env" && exec python -c "import ttnn, sys; sys.stdout.write('\n'); {PRINT_MAPS}""#);
    command.args(["-c", &script]).arg(folder).env("PYTHONDONTWRITEBYTECODE", "1").current_dir(root());
    let paths = mapped(command)?;
    assert!(paths.iter().any(|path| path.ends_with("_ttnncpp.so")), "{paths:?}");
    let (rows, unsupported) = compare_all(&paths)?;
    assert!(rows > 1_000_000, "{rows} rows are not what these libraries have");
    assert!(unsupported < rows / 1000, "{unsupported} of {rows} rows were not compiled");
    Ok(())
}

/// A row as readelf prints it: the frame address, and the columns by their names.
type Shown = (String, BTreeMap<String, String>);

/// The rows of a file by their address, and the end of the last, as readelf prints them.
fn by_readelf(path: &Path) -> Result<BTreeMap<u64, Option<Shown>>> {
    // It says by its status as well whether it found separate debug information.
    let output = Command::new("readelf").arg("--debug-dump=frames-interp").arg(path).output()?;
    let text = String::from_utf8(output.stdout)?;
    let mut rows = BTreeMap::new();
    // A function with no rows of its own is printed without any.
    let mut starts = HashSet::new();
    let (mut end, mut columns) = (None, Vec::new());
    for line in text.lines() {
        let words: Vec<_> = line.split_whitespace().collect();
        if let Some(range) = words.iter().find_map(|word| word.strip_prefix("pc=")) {
            let (first, last) = range.split_once("..").context("a range")?;
            starts.insert(u64::from_str_radix(first, 16)?);
            let last = u64::from_str_radix(last, 16)?;
            rows.entry(last).or_insert(None);
            end = Some(last);
        } else if words.get(3).or(words.get(2)) == Some(&"CIE") {
            end = None;
        } else if words.first() == Some(&"LOC") {
            columns = words[2..].iter().map(ToString::to_string).collect();
        } else if let (Some(end), [at, cfa, values @ ..]) = (end, &*words)
            && at.len() == 16
            && let Ok(at) = u64::from_str_radix(at, 16)
            && at < end
            && values.len() == columns.len()
        {
            let values = values.iter().map(ToString::to_string);
            rows.insert(at, Some((cfa.to_string(), columns.iter().cloned().zip(values).collect())));
        }
    }
    rows.retain(|at, row| row.is_some() || !starts.contains(at));
    Ok(rows)
}

/// The rule that a row of readelf's says, as far as it says one: an expression is `exp` there.
fn shown(rule: Rule) -> Shown {
    let cfa = match rule.cfa {
        kind if kind == Cfa::Offset as u8 => format!("{}{:+}", ["rsp", "rbp"][usize::from(rule.base)], rule.offset),
        _ => "exp".into(),
    };
    let rbp = match rule.rbp {
        kind if kind == Rbp::Same as u8 => "u".into(),
        kind if kind == Rbp::AtCfa as u8 => format!("c{:+}", rule.rbp_offset),
        _ => "exp".into(),
    };
    let return_address = if rule.is_signal() { "exp" } else { "c-8" };
    (cfa, BTreeMap::from([("rbp".into(), rbp), ("ra".into(), return_address.into())]))
}

#[test]
fn every_row_of_the_c_library_says_what_readelf_says() -> Result<()> {
    let paths = code(maps::read(std::process::id())?);
    let path = paths.iter().find(|path| path.ends_with("libc.so.6")).context("the C library is mapped")?;
    let data = fs::read(path)?;
    let compiled = compile(&ElfFile64::<LE>::parse(&*data)?).context("it has tables")?;
    let rows = by_readelf(path)?;
    assert!(rows.len() > 10_000, "{} rows are not what a C library has", rows.len());
    let (mut compared, mut unsupported) = (0, 0);
    for (address, row) in rows {
        let rule = compiled.rule(address);
        let Some((cfa, mut columns)) = row else {
            assert_eq!(rule, Rule::NONE, "{address:#x}");
            continue;
        };
        columns.retain(|name, _| name == "rbp" || name == "ra");
        columns.entry("rbp".into()).or_insert("u".into());
        if columns["ra"] == "u" {
            assert_eq!(rule, Rule::OUTERMOST, "{address:#x}");
        } else if rule == Rule::UNSUPPORTED {
            unsupported += 1;
        } else {
            assert_eq!(shown(rule), (cfa, columns), "{address:#x}");
            compared += 1;
        }
    }
    assert!(unsupported < 20, "{unsupported} rows were not compiled, {compared} were");
    Ok(())
}
