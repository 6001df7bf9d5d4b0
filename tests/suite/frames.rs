// SPDX-License-Identifier: Apache-2.0
//! Stacks that are hard to walk, from a program that says of each which of its functions are on it.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::{
    seen::{NativeFrame, Seen, seen},
    target::{Finished, lookalikes, record},
    tool::can_probe,
};

/// The program's folders: a compiler each.
pub(crate) const COMPILED: [&str; 2] = ["frames", "frames-clang"];

/// Whatever the compiler or a person made of the frames.
const SHAPES: &[&str] = &[
    "recursion",
    "variable-frames",
    "aligned-frames",
    "general-register",
    "tail-call",
    "last-call",
    "cfa-in-rbx",
    "cfa-in-r13",
    "cfa-by-expression",
    "saved-by-expression",
    "saved-in-register",
    "saved-by-value",
    "restored-state",
    "two-ranges",
    "nested-shapes",
];
const EXCEPTIONS: &[&str] = &["in-flight", "caught", "two-in-flight", "destructor"];
const SIGNALS: &[&str] = &["handler", "handler-in-handler", "first-instruction"];
const BINDING: &[&str] = &["first-call", "resolver"];
const THREADS: &[&str] = &["threads", "thread-exit", "forks"];
/// Those of which less than all is walked, or of which more is to be said.
const OTHERS: &[&str] = &[
    "each-instruction",
    "many-places",
    "no-table",
    "terminate",
    "coroutine",
    "large-frame",
    "other-stack",
    "back-again",
    "in-turn",
    "loaded-late",
    "reloaded",
];

/// The scenarios that are the same each time, in one thread, and that debuggers can unwind.
pub(crate) fn steady() -> Vec<&'static str> {
    [SHAPES, EXCEPTIONS, SIGNALS, BINDING].concat()
}

/// What the program says of a scenario.
struct Told {
    scenario: String,
    size: u64,
    touches: u64,
    /// Functions of the program, innermost first.
    frames: Vec<String>,
    /// Where each touch interrupted the program, as `module+0xaddress`.
    interrupted: Vec<String>,
}

impl Told {
    fn frames(&self) -> Vec<&str> {
        self.frames.iter().map(String::as_str).collect()
    }
}

fn told(finished: &Finished) -> Result<Vec<Told>> {
    let line = |line: &Value| {
        let words = line["frames"].as_str()?.split(' ').flat_map(|word| {
            let (function, times) = word.split_once('*').unwrap_or((word, "1"));
            vec![function.to_owned(); times.parse().unwrap_or(0)]
        });
        let interrupted = line["interrupted"].as_array()?.iter().filter_map(|it| it.as_str().map(str::to_owned));
        Some(Told {
            scenario: line["scenario"].as_str()?.to_owned(),
            size: line["size"].as_u64()?,
            touches: line["touches"].as_u64()?,
            frames: words.collect(),
            interrupted: interrupted.collect(),
        })
    };
    finished.truth()?.iter().map(|it| line(it).context("failed to read the truth")).collect()
}

/// The program as a compiler made it; `None` if that compiler is not there.
pub(crate) fn program(folder: &str) -> Option<PathBuf> {
    let program = lookalikes().join(folder).join("frames");
    let is_there = program.exists();
    if !is_there {
        eprintln!("skipped: {} is not built", program.display());
    }
    is_there.then_some(program)
}

/// A run of some scenarios.
pub(crate) fn run(program: &Path, scenarios: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(scenarios);
    command
}

/// A recording of all scenarios, each with its requests and frees.
struct Recording(Vec<(Told, Vec<Seen>)>);

impl Recording {
    /// Made once for all tests, by each compiler; none where the program can't be probed.
    fn all() -> Vec<(&'static str, &'static Self)> {
        static MADE: [OnceLock<Option<Recording>>; 2] = [OnceLock::new(), OnceLock::new()];
        let one = |(folder, made): (_, &'static OnceLock<_>)| {
            let made = made.get_or_init(|| Self::of(folder).expect("failed to record the program"));
            Some((folder, made.as_ref()?))
        };
        COMPILED.into_iter().zip(&MADE).filter(|_| can_probe()).filter_map(one).collect()
    }

    fn of(folder: &str) -> Result<Option<Self>> {
        let scenarios = [SHAPES, EXCEPTIONS, SIGNALS, BINDING, THREADS, OTHERS].concat();
        let Some(program) = program(folder) else { return Ok(None) };
        let (finished, trace) = record(run(&program, &scenarios))?;
        let (told, mut seen) = (told(&finished)?, seen(&trace)?);
        assert_eq!(told.iter().map(|told| told.scenario.as_str()).collect::<Vec<_>>(), scenarios);
        let mut all = Vec::new();
        for told in told {
            let (own, others): (Vec<_>, _) = seen.into_iter().partition(|seen| seen.event.size == told.size);
            assert_eq!(own.len() as u64, 2 * told.touches, "{}: a request and a free each", told.scenario);
            seen = others;
            all.push((told, own));
        }
        assert!(seen.is_empty(), "{} events of no scenario", seen.len());
        Ok(Some(Self(all)))
    }

    fn scenario(&self, name: &str) -> &(Told, Vec<Seen>) {
        self.0.iter().find(|(told, _)| told.scenario == name).expect("all scenarios are recorded")
    }
}

/// The program's functions on a stack. A part that the compiler split off a function counts as that function.
pub(crate) fn functions(seen: &Seen) -> Vec<&str> {
    let own = seen.native().filter(|frame| is_own(frame));
    own.map(|frame| frame.function.strip_suffix(".cold").unwrap_or(&frame.function)).collect()
}

fn is_own(frame: &NativeFrame) -> bool {
    let folder = Path::new(&frame.module).parent().and_then(Path::file_name);
    folder.is_some_and(|folder| folder.to_string_lossy().starts_with("frames"))
}

/// Every stack has the functions that the program tells, and is whole.
fn check(scenarios: &[&str]) {
    for (folder, recording) in Recording::all() {
        for scenario in scenarios {
            let (told, seen) = recording.scenario(scenario);
            for seen in seen {
                assert_eq!((functions(seen), seen.end.as_str()), (told.frames(), "complete"), "{scenario} of {folder}");
            }
        }
    }
}

#[test]
fn frames_of_every_shape_are_walked() {
    check(SHAPES);
}

#[test]
fn frames_are_walked_while_exceptions_are_in_flight() {
    check(EXCEPTIONS);
    for (_, recording) in Recording::all().into_iter().filter(|(folder, _)| *folder == "frames") {
        let (_, seen) = recording.scenario("in-flight");
        let split = seen.iter().all(|seen| seen.native().any(|frame| frame.function == "cleans_up.cold"));
        assert!(split, "GCC puts landing pads into a part of their own");
    }
}

#[test]
fn frames_below_a_signal_are_walked() {
    check(SIGNALS);
}

#[test]
fn frames_below_the_loader_are_walked() {
    check(BINDING);
}

#[test]
fn frames_of_threads_and_of_a_process_that_forks_are_walked() {
    check(THREADS);
}

#[test]
fn frames_larger_than_a_copy_are_walked() {
    check(&["large-frame"]);
}

#[test]
fn frames_of_two_stacks_are_walked() {
    check(&["other-stack"]);
}

#[test]
fn a_module_that_is_loaded_late_is_walked() {
    check(&["loaded-late"]);
}

/// A module may be gone, and another one in its place, before anyone can look: then the stack ends there and says so.
#[test]
fn modules_that_replace_each_other_are_told_apart() {
    let in_turn = |(_, recording): &(_, &'static Recording)| {
        [("reloaded", "reloaded"), ("back-again", "back_again")]
            .map(|(name, caller)| (recording.scenario(name), caller))
    };
    for ((told, seen), caller) in Recording::all().iter().flat_map(in_turn) {
        assert_eq!(seen.len(), 2 * told.touches as usize, "{caller}");
        let plugins = ["plugin_one", "plugin_one", "plugin_two", "plugin_two"].into_iter().cycle();
        for (seen, plugin) in seen.iter().zip(plugins) {
            let expected = ["touch", plugin, caller, "main", "_start"];
            match seen.end.as_str() {
                "complete" => assert_eq!(functions(seen), expected),
                end => {
                    assert!(["modules-changed", "no-module"].contains(&end), "{caller}: {end}");
                    assert!(expected.starts_with(&functions(seen)), "{caller}: {:?}", functions(seen));
                }
            }
        }
    }
}

/// What is remembered of one module's addresses is nothing to the other one at the same addresses.
#[test]
fn modules_that_are_known_and_replace_each_other_are_told_apart() {
    for (folder, recording) in Recording::all() {
        let (_, seen) = recording.scenario("in-turn");
        let plugins = ["plugin_one", "plugin_one", "plugin_two", "plugin_two"].into_iter().cycle();
        for (seen, plugin) in seen.iter().zip(plugins) {
            // By the other one's rule, what lies on the stack would come in between, of whatever module it is.
            let all: Vec<&str> = seen.native().map(|frame| frame.function.as_str()).collect();
            let expected = ["touch", plugin, "in_turn", "main"];
            assert!(all.windows(4).any(|four| four == expected), "{folder}: {all:?}, not {expected:?}");
            assert_eq!(seen.end, "complete", "{folder}");
        }
    }
}

/// A signal comes behind each instruction on the way through a stub and the loader's binding, to the function and back.
#[test]
fn frames_are_walked_from_each_instruction_of_a_binding() {
    for (folder, recording) in Recording::all() {
        let (told, seen) = recording.scenario("each-instruction");
        assert!(told.interrupted.len() > 300, "{} instructions", told.interrupted.len());
        for module in ["frames+", "liblate.so+", "ld-linux-x86-64.so.2+"] {
            assert!(told.interrupted.iter().any(|place| place.starts_with(module)), "none in {module}");
        }
        for (seen, interrupted) in
            seen.chunks(2).zip(&told.interrupted).flat_map(|(both, at)| both.iter().map(move |it| (it, at)))
        {
            let native: Vec<&NativeFrame> = seen.native().collect();
            let handler = native.iter().position(|frame| frame.function == "on_step").expect("the handler has touched");
            // Behind the handler comes what it returns to, and then the interrupted instruction.
            assert_eq!(native.get(handler + 2).map(|frame| frame.place()).as_ref(), Some(interrupted), "{folder}");
            let functions = functions(seen);
            let stepped = functions.iter().position(|name| *name == "step_through_binding");
            let outer = stepped.map(|at| &functions[at..]).unwrap_or_default();
            assert_eq!([&functions[..2], outer].concat(), told.frames(), "{folder} at {interrupted}");
            assert_eq!(seen.end, "complete", "{folder} at {interrupted}");
        }
    }
}

#[test]
fn frames_are_walked_where_an_exception_ends_the_program() {
    for (folder, recording) in Recording::all() {
        let (told, seen) = recording.scenario("terminate");
        for seen in seen {
            let functions = functions(seen);
            assert!(functions.starts_with(&told.frames()), "{folder}: {functions:?}");
            let whole =
                functions.ends_with(&["never_throws", "terminating", "main", "_start"]) && seen.end == "complete";
            assert!(
                whole || folder == "frames-clang" && seen.end == "no-table",
                "{folder}: {functions:?}, {}",
                seen.end
            );
        }
    }
}

/// Where `makecontext` starts a stack, the C library's table may have no row.
#[test]
fn a_stack_of_the_programs_own_ends_where_it_was_started() {
    for (folder, recording) in Recording::all() {
        let (told, seen) = recording.scenario("coroutine");
        for seen in seen {
            assert_eq!(functions(seen), told.frames(), "{folder}: {}", seen.end);
            assert!(["complete", "no-table"].contains(&seen.end.as_str()), "{folder}: {}", seen.end);
        }
    }
}

/// The functions between the first and the others are the digits of the number of the touch, the lowest outermost.
#[test]
fn thousands_of_frames_are_each_the_right_one() {
    for (folder, recording) in Recording::all() {
        let (told, seen) = recording.scenario("many-places");
        assert_eq!(seen.len(), 2048);
        for (number, seen) in seen.iter().enumerate() {
            let digits = (0..5).rev().map(|digit| format!("digit_{}", (number / 2) >> (2 * digit) & 3));
            let frames = told.frames.iter().map(String::from);
            let expected: Vec<String> = frames.clone().take(1).chain(digits).chain(frames.skip(1)).collect();
            assert_eq!(
                (functions(seen), seen.end.as_str()),
                (expected.iter().map(String::as_str).collect(), "complete"),
                "{folder}"
            );
        }
    }
}

#[test]
fn a_function_without_a_table_ends_the_stack_and_says_so() {
    for (folder, recording) in Recording::all() {
        let (told, seen) = recording.scenario("no-table");
        for seen in seen {
            assert_eq!((functions(seen), seen.end.as_str()), (told.frames(), "no-table"), "{folder}");
        }
    }
}
