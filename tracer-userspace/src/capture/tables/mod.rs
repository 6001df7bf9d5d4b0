// SPDX-License-Identifier: Apache-2.0
//! The unwind tables of a target's modules for the kernel side: compiled in the background, kept on disk.
//!
//! The kernel side has one list of rules for all modules, so the rows of each module are renumbered when it is ready.

pub mod cache;

use std::{
    num::NonZero,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, Receiver, Sender},
    },
    thread,
    time::Instant,
};

use anyhow::{Context as _, Result};
use tracer_unwind::{rule::Rule, table::UNUSED};

use self::cache::Cache;
use crate::{
    discover::module::Module,
    unwind::{Compiled, Counts, Key, Part, Reason, Rules, compile},
};

/// Most threads; beyond that, reading the files is what takes time.
const MOST_THREADS: usize = 4;

/// Compiles modules in the background, and numbers the rules of all.
pub struct Tables {
    work: Sender<Job>,
    done: Receiver<Done>,
    waiting: usize,
    rules: Rules,
}

/// A module whose tables are ready.
#[derive(Debug)]
pub struct Ready {
    /// The number that it was asked for by.
    pub module: usize,
    /// Its tables; the numbers in them are those of [`Tables::rules`]. None if it has no `.eh_frame`.
    pub parts: Vec<Part>,
    /// What there was to compile.
    pub counts: Counts,
}

struct Job {
    number: usize,
    module: Arc<Module>,
}

struct Done {
    number: usize,
    compiled: Option<Compiled>,
}

impl Tables {
    /// Starts the threads; they end with this.
    ///
    /// # Errors
    /// If there can't be a thread.
    pub fn new(cache: Option<Cache>) -> Result<Self> {
        let (work, jobs) = mpsc::channel();
        let (results, done) = mpsc::channel();
        let (jobs, cache) = (Arc::new(Mutex::new(jobs)), Arc::new(cache));
        let threads = thread::available_parallelism().map_or(1, NonZero::get).min(MOST_THREADS);
        for _ in 0..threads {
            let (jobs, cache, results) = (Arc::clone(&jobs), Arc::clone(&cache), results.clone());
            thread::Builder::new()
                .name("unwind-tables".into())
                .spawn(move || work_off(&jobs, cache.as_ref().as_ref(), &results))
                .context("failed to start a thread")?;
        }
        Ok(Self { work, done, waiting: 0, rules: Rules::new() })
    }

    /// Asks for the tables of a module, under a number of the caller's choice.
    pub fn request(&mut self, number: usize, module: Arc<Module>) {
        if self.work.send(Job { number, module }).is_ok() {
            self.waiting += 1;
        }
    }

    /// The next module that is ready, if one is.
    pub fn ready(&mut self) -> Option<Ready> {
        let done = self.done.try_recv().ok()?;
        Some(self.take(done))
    }

    /// Waits for the next module, until a moment; `None` if none is ready by then, or no more were asked for.
    pub fn wait(&mut self, until: Instant) -> Option<Ready> {
        if self.is_idle() {
            return None;
        }
        let done = self.done.recv_timeout(until.saturating_duration_since(Instant::now())).ok()?;
        Some(self.take(done))
    }

    /// Whether there is nothing to wait for.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.waiting == 0
    }

    /// The rules of all modules that are ready, by their numbers. It only ever grows, at its end.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        self.rules.list()
    }

    fn take(&mut self, done: Done) -> Ready {
        self.waiting -= 1;
        let (mut parts, mut counts) = (Vec::new(), Counts::default());
        if let Some(mut compiled) = done.compiled {
            let without = renumber(&mut self.rules, &mut compiled);
            (parts, counts) = (compiled.parts, compiled.counts);
            counts.unsupported[Reason::Limit as usize] += without;
        }
        Ready { module: done.number, parts, counts }
    }
}

fn work_off(jobs: &Mutex<Receiver<Job>>, cache: Option<&Cache>, results: &Sender<Done>) {
    loop {
        // The lock is held while waiting, and never while working.
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job { number, module }) = job else { return };
        let compiled = tables(&module, cache);
        if results.send(Done { number, compiled }).is_err() {
            return;
        }
    }
}

/// The tables of a module: those on disk, or else compiled now.
fn tables(module: &Module, cache: Option<&Cache>) -> Option<Compiled> {
    let elf = module.elf().ok()?;
    let size = elf.section(b".eh_frame")?.len() as u64;
    let key = Key { build_id: module.build_id.clone(), size };
    let cache = cache.filter(|_| !key.build_id.is_empty());
    if let Some(kept) = cache.and_then(|cache| cache.load(&key)) {
        return Some(kept);
    }
    let compiled = compile(elf.object())?;
    // Without it the next recording takes longer, and nothing else.
    if let Some(Err(error)) = cache.map(|cache| cache.store(&key, &compiled)) {
        log::debug!("the unwind tables of {} are not kept: {error:#}", module.name());
    }
    Some(compiled)
}

/// Puts the numbers of `rules` into a module's rows. Returns how many rows have [`Rule::UNSUPPORTED`] instead of their
/// rule, because there are no more numbers.
fn renumber(rules: &mut Rules, compiled: &mut Compiled) -> u64 {
    let numbers: Vec<_> = compiled.rules.iter().map(|&rule| rules.number(rule)).collect();
    let mut without = 0;
    let row_blocks = compiled.parts.iter_mut().flat_map(|part| part.blocks.iter_mut().skip(1));
    for word in row_blocks.flat_map(|block| &mut block.words[1..]).filter(|word| **word != UNUSED) {
        let number = numbers.get(usize::from(*word as u16)).copied().flatten();
        without += u64::from(number.is_none());
        *word = *word & 0xffff_0000 | u32::from(number.unwrap_or(Rules::UNSUPPORTED));
    }
    without
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, fs, time::Duration};

    use tracer_common::Epoch;

    use super::*;
    use crate::capture::space::{Files, Space};

    /// The modules of this program itself.
    fn ourselves() -> Vec<Arc<Module>> {
        let mut files = Files::default();
        let changes = Space::new(std::process::id()).refresh(&mut files, &Epoch::default);
        assert_eq!(changes.problems, Vec::<String>::new());
        files.modules().iter().map(|code| Arc::clone(&code.module)).collect()
    }

    fn all(cache: Option<Cache>, modules: &[Arc<Module>]) -> (HashMap<usize, Ready>, Vec<Rule>) {
        let mut tables = Tables::new(cache).expect("threads");
        for (number, module) in modules.iter().enumerate() {
            tables.request(number, Arc::clone(module));
        }
        let mut found = HashMap::new();
        let until = Instant::now() + Duration::from_secs(600);
        while let Some(ready) = tables.wait(until) {
            found.insert(ready.module, ready);
        }
        assert!(tables.ready().is_none());
        (found, tables.rules().to_vec())
    }

    /// Asserts that each row has the rule that its own module's table has there.
    fn compare(modules: &[Arc<Module>], cache: Option<Cache>) {
        let (found, rules) = all(cache, modules);
        assert_eq!(found.len(), modules.len());
        for (number, module) in modules.iter().enumerate() {
            let elf = module.elf().expect("it was read before");
            let expected = compile(elf.object()).expect("it has tables");
            let Ready { parts, counts, .. } = &found[&number];
            let found = Compiled { rules: rules.clone(), parts: parts.clone(), counts: counts.clone() };
            assert_eq!(found.counts, expected.counts);
            let (Some(first), Some(last)) = (expected.parts.first(), expected.parts.last()) else { continue };
            for address in (first.start..=last.end).step_by(61).map(u64::from) {
                assert_eq!(found.rule(address), expected.rule(address), "{} {address:#x}", module.name());
            }
        }
    }

    #[test]
    fn one_list_of_rules_serves_all_modules_whether_compiled_or_kept() {
        let modules = ourselves();
        compare(&modules, None);
        let folder = tempfile::tempdir().expect("a folder");
        compare(&modules, Cache::below(folder.path()).ok());
        let kept = fs::read_dir(folder.path().join("tt-buftrace")).expect("it was made").count();
        let with_build_id = modules.iter().filter(|module| !module.build_id.is_empty()).count();
        assert_eq!(kept, with_build_id);
        compare(&modules, Cache::below(folder.path()).ok());
    }

    #[test]
    fn a_rule_for_which_there_is_no_number_is_unsupported_and_counted() {
        let mut rules = Rules::new();
        let rule = |offset| Rule { cfa: 1, offset, ..Rule::NONE };
        assert!((0..).take(0xfffd).all(|offset| rules.number(rule(offset)).is_some()));
        let module = &ourselves()[0];
        let mut compiled = compile(module.elf().expect("it was read before").object()).expect("it has tables");
        let unknown = compiled.rules.iter().filter(|&&rule| rules.number(rule).is_none()).count();
        let rows = compiled.counts.rows;
        let without = renumber(&mut rules, &mut compiled);
        assert!(unknown > 0 && 0 < without && without < rows, "{without} of {rows} rows, {unknown} rules");
    }
}
