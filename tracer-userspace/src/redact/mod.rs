// SPDX-License-Identifier: Apache-2.0
//! Takes the names out of a trace that are nobody else's, so that it can be shown to others.
//!
//! What is on a list of what everybody has stays; any other name gives way to a word that is always the same for the same
//! name, so that sites, tests, modules and processes stay distinguishable, and all views work. These stay:
//!
//! - numbers: times, addresses, sizes, ids, lines, offsets, counters, and build ids, which are digests;
//! - the names of system libraries, of TT-Metal's, and of well-known Python packages, and the folders that they are in;
//! - functions of the system's libraries, and those in the name spaces of `std`, TT-Metal and other open source
//!   (`ROOTS` in `native.rs`), but not the foreign types among their parameters;
//! - the structure: `::`, `test_`, `__init__`, the ends of file names, `(call)`.
//!
//! The words are made with a key: who does not have it can't check a guess.

mod native;
mod path;
mod python;

use std::collections::{HashMap, HashSet};

use sha2::{Digest as _, Sha256};

use crate::{
    import::{QUOTED_FROM, QUOTED_TO},
    trace::{Frame, Item, Process, Record, Session, Text},
};

/// Digits of the words that stand for names: among ten thousand names, two are the same with a chance of 1 in 20,000.
const DIGITS: usize = 10;
/// Shorter ones are not looked for in sentences.
const SHORTEST: usize = 3;
/// Words of a command line that tell nothing.
const COMMAND_WORDS: [&str; 8] = ["-m", "-q", "-s", "-v", "-x", "-c", "pytest", "--forked"];

/// Redacts the items of one trace. Sentences quote names that may only be defined later: a trace is gone through twice,
/// and what is said of the first time through is thrown away.
pub struct Redactor {
    words: Words,
    /// Modules by their numbers, and whether their functions are the system's.
    modules: HashMap<u32, bool>,
    /// The same by frame.
    frames: HashMap<u32, bool>,
}

impl Redactor {
    /// One for traces that are to be compared with others of the same key.
    #[must_use]
    pub fn new(key: &[u8]) -> Self {
        let words = Words { key: Sha256::digest(key).into(), hidden: HashSet::new() };
        Self { words, modules: HashMap::new(), frames: HashMap::new() }
    }

    /// The item without names that are nobody else's.
    #[must_use]
    pub fn item(&mut self, item: Item) -> Item {
        match item {
            Item::Record(record) => Item::Record(self.record(record)),
            Item::Event(event) => Item::Event(event),
        }
    }

    fn record(&mut self, record: Record) -> Record {
        let words = &mut self.words;
        match record {
            Record::Session(it) => session(words, it).into(),
            Record::Process(it) => Process { command: command(words, &it.command), ..it }.into(),
            Record::Module(mut it) => {
                self.modules.insert(it.id, path::is_system(&it.path));
                it.path = path::redact(words, &it.path).text;
                it.into()
            }
            Record::Frame(it) => {
                let Frame { id, module, .. } = it;
                self.frames.insert(id, self.modules.get(&module).copied().unwrap_or(false));
                it.into()
            }
            Record::Symbol(mut it) => {
                if !self.frames.get(&it.frame).copied().unwrap_or(false) {
                    it.function = native::redact(words, &it.function);
                }
                it.file = path::redact(words, &it.file).text;
                it.into()
            }
            Record::Code(mut it) => {
                let file = path::redact(words, &it.file);
                if !file.known {
                    it.function = python::function(words, &it.function);
                }
                it.file = file.text;
                it.into()
            }
            Record::Text(it) => Text { text: python::test(words, &it.text), ..it }.into(),
            Record::Probe(mut it) => {
                it.missing = sentence(words, &it.missing);
                it.into()
            }
            Record::Interpreter(mut it) => {
                it.missing = sentence(words, &it.missing);
                it.into()
            }
            Record::Problem(mut it) => {
                it.text = sentence(words, &it.text);
                it.into()
            }
            Record::Snapshot(mut it) => {
                it.missing = sentence(words, &it.missing);
                it.into()
            }
            // The tool's own words and numbers.
            Record::Mapping(_)
            | Record::LayoutField(_)
            | Record::LiveOwner(_)
            | Record::Border(_)
            | Record::Stack(_)
            | Record::Loss(_)
            | Record::CounterValue(_)
            | Record::End(_)
            | Record::PythonFrame(_) => record,
        }
    }
}

/// Makes the words that stand for names.
struct Words {
    key: [u8; 32],
    /// The names that were replaced.
    hidden: HashSet<String>,
}

impl Words {
    /// A letter and digits, so that it can stand wherever a name can; the empty name stays empty.
    fn stand_in(&mut self, name: &str) -> String {
        if name.is_empty() {
            return String::new();
        }
        self.hide(name);
        let digest = Sha256::new().chain_update(self.key).chain_update(name).finalize();
        let digits: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("x{}", &digits[..DIGITS])
    }

    /// Remembers a name that gave way in parts.
    fn hide(&mut self, name: &str) {
        if name.len() >= SHORTEST {
            self.hidden.insert(name.to_owned());
        }
    }

    fn has_hidden(&self, text: &str) -> bool {
        let mut parts = text.split(|c: char| !c.is_alphanumeric() && c != '_');
        self.hidden.contains(text) || parts.any(|part| self.hidden.contains(part))
    }
}

/// Behind its version, a kernel's release says who built it.
fn session(words: &mut Words, session: Session) -> Session {
    let version = session.kernel.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(session.kernel.len());
    Session { host: words.stand_in(&session.host), kernel: session.kernel[..version].to_owned(), ..session }
}

fn command(words: &mut Words, command: &str) -> String {
    let word = |word: &str| match word {
        _ if COMMAND_WORDS.contains(&word) || word.is_empty() => word.to_owned(),
        _ if word.contains("::") => python::test(words, word),
        _ => path::redact(words, word).text,
    };
    command.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

/// A sentence of the tool's own, with names in it: words that were replaced elsewhere, or that no sentence is made of.
fn sentence(words: &mut Words, text: &str) -> String {
    let word = |word: &str| {
        let core = word.trim_matches(|c: char| ",;:.()[]'\"`".contains(c));
        let Some(at) = word.find(core).filter(|_| !core.is_empty()) else { return word.to_owned() };
        let (before, after) = (&word[..at], &word[at + core.len()..]);
        let plain = core.chars().all(|c| c.is_ascii_alphabetic() || c == '-') || is_number(core);
        match core {
            _ if core.contains('/') => format!("{before}{}{after}", path::redact(words, core).text),
            _ if core.starts_with("CAP_") || plain && !words.has_hidden(core) => word.to_owned(),
            _ => format!("{before}{}{after}", words.stand_in(core)),
        }
    };
    without_quotes(text).split(' ').map(word).collect::<Vec<_>>().join(" ")
}

/// A sentence without what it quotes of what was imported, which may be anything.
fn without_quotes(text: &str) -> String {
    let mut parts = text.split(QUOTED_FROM);
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let behind = part.split_once(QUOTED_TO).map_or("", |(_, behind)| behind);
        out.push_str(&format!("{QUOTED_FROM}…{QUOTED_TO}{behind}"));
    }
    out
}

fn is_number(text: &str) -> bool {
    match text.strip_prefix("0x") {
        Some(digits) => digits.chars().all(|c| c.is_ascii_hexdigit()),
        None => text.chars().all(|c| c.is_ascii_digit() || c == '.' || c == ','),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::trace::text;

    const TRACE: &str = r##"
session tool="0.1.0" host="acmehost7" kernel="6.1.0-acme-prod" wall_ns=7 boot_ns=9
problem text="failed to open /srv/acme/libfast.so as process 17 has it: Permission denied, which takes CAP_DAC_READ_SEARCH"
problem text="libfast.so has 3 rows at 0x10; bold is odd"
process id=1 pid=17 start=5 command="/opt/acme/bin/python3.12 -m pytest -q models/bold/test_x.py::test_a --token=hunter2" python="3.12.1" inner_pid=3 pid_name_space=4026532178
module id=1 path="/opt/acme/lib/python3.12/site-packages/ttnn/libtt_metal.so" build_id="ab12"
module id=2 path="/srv/acme/libfast.so.1"
module id=3 path="/usr/lib/x86_64-linux-gnu/libc.so.6"
frame id=1 module=1 address=0x10
symbol frame=1 function="std::vector<acme::Bold, std::allocator<acme::Bold> >::push_back(acme::Bold const&)" offset=0x0 file="/build/acme/bold.cpp" line=3
frame id=2 module=2 address=0x10 returns=1
symbol frame=2 function="acme::Bold::operator()(int) const" offset=0x0
frame id=3 module=3 address=0x10 returns=1
symbol frame=3 function="__libc_start_call_main" offset=0x0
code id=1 function="Bold.fit.<locals>.step" file="/home/jane/bold/model.py" first_line=4
code id=2 function="from_torch" file="/opt/acme/lib/python3.12/site-packages/ttnn/operations/core.py" first_line=4
text id=1 text="models/bold/test_x.py::TestBold::test_a[gpt9-8] (call)"
stack id=1 frames=1,2,3 end=complete python=complete
end process=1 time=5 reason=exited
"##;

    fn redacted(key: &str) -> String {
        let mut redactor = Redactor::new(key.as_bytes());
        let items = || text::parse(TRACE).expect("a trace");
        for item in items() {
            let _ = redactor.item(item);
        }
        let shown = items().into_iter().map(|item| text::show(&redactor.item(item)));
        shown.collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn names_that_are_nobody_elses_go_and_the_rest_stays() {
        expect![[r#"
            session tool="0.1.0" host="x2e8619d82b" kernel="6.1.0" wall_ns=7 boot_ns=9
            problem text="failed to open /x05f26d1b15/x9fbfbe0a41/x45c262a8b2.so as process 17 has it: Permission denied, which takes CAP_DAC_READ_SEARCH"
            problem text="xb2bdd69030 has 3 rows at 0x10; xfde85d0832 is odd"
            process id=1 pid=17 start=5 command="/opt/x9fbfbe0a41/bin/python3.12 -m pytest -q x69a7c5a44b/xfde85d0832/test_x2eff17f59c.py::test_x967be826c8 xe34fe4901d" python="3.12.1" inner_pid=3 pid_name_space=4026532178
            module id=1 path="/opt/x9fbfbe0a41/lib/python3.12/site-packages/ttnn/libtt_metal.so" build_id="ab12"
            module id=2 path="/x05f26d1b15/x9fbfbe0a41/x45c262a8b2.so"
            module id=3 path="/usr/lib/x86_64-linux-gnu/libc.so.6"
            frame id=1 module=1 address=0x10
            symbol frame=1 function="std::vector<x9fbfbe0a41::xa83740956d, std::allocator<x9fbfbe0a41::xa83740956d> >::push_back(x9fbfbe0a41::xa83740956d const&)" file="/x379334a6ff/x9fbfbe0a41/xfde85d0832.cpp" line=3
            frame id=2 module=2 address=0x10 returns=1
            symbol frame=2 function="x9fbfbe0a41::xa83740956d::operator()(int) const"
            frame id=3 module=3 address=0x10 returns=1
            symbol frame=3 function="__libc_start_call_main"
            code id=1 function="xa83740956d.x9a46f6b580.<locals>.x1e358f107b" file="/home/xef480517cd/xfde85d0832/xfe630c198e.py" first_line=4
            code id=2 function="from_torch" file="/opt/x9fbfbe0a41/lib/python3.12/site-packages/ttnn/operations/core.py" first_line=4
            text id=1 text="x69a7c5a44b/xfde85d0832/test_x2eff17f59c.py::xce045a9582::test_x967be826c8[x03b20e8b80] (call)"
            stack id=1 frames=1,2,3 end=complete python=complete
            end process=1 time=5 reason=exited"#]].assert_eq(&redacted("key"));
    }

    #[test]
    fn no_secret_is_left() {
        let shown = redacted("key").to_lowercase();
        for secret in ["acme", "bold", "jane", "hunter", "gpt9", "fast", "srv", "models"] {
            assert!(!shown.contains(secret), "{secret} in {shown}");
        }
    }

    #[test]
    fn words_are_the_same_for_one_key_only() {
        assert_eq!(redacted("key"), redacted("key"));
        assert_ne!(redacted("key"), redacted("other"));
    }
}
