// SPDX-License-Identifier: Apache-2.0
//! Defaults for options, from `buftrace.toml` in the nearest folder upwards and from the user's own `config.toml`.
//!
//! A file has a table for each command, and in it the command's options by their long names. What it says goes before the
//! words of the command line, so that these win.

use std::{
    env,
    ffi::OsString,
    fs::Metadata,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, anyhow, bail};
use clap::{Arg, CommandFactory as _, Parser as _, parser::ValueSource};
use rustix::process::Uid;
use toml::{Table, Value};

use super::{args::Args, file::read_open_text};
use crate::{
    privileges,
    trace::{escape, open},
};

/// The file of a project.
const OF_PROJECT: &str = "buftrace.toml";
/// The user's own, below `$XDG_CONFIG_HOME` or `~/.config`.
const OF_USER: &str = "tt-buftrace/config.toml";
/// Names one file instead of these, whoever it belongs to; none if it is empty.
const VARIABLE: &str = "BUFTRACE_CONFIG";

/// What can be said in a file, by command.
const TABLES: [(&str, &[&str]); 7] = [
    ("record", &["probes", "max-size", "ring", "follow-forks", "no-follow-forks", "stack-copy"]),
    ("report", &["top"]),
    ("timeline", &["stacks", "frames"]),
    ("excess", &["sort", "by", "top", "frames"]),
    ("held", &["sort", "by", "top", "frames"]),
    ("diff", &["top"]),
    ("check", &["fail-on", "strict", "expect", "baseline", "suppress"]),
];
/// Those of them that name a file, from the folder of the file that names it.
const PATHS: [&str; 3] = ["expect", "baseline", "suppress"];

/// Why a command line was not taken.
#[derive(Debug)]
pub(super) enum Refusal {
    /// It is wrong, or asks for help.
    Usage(clap::Error),
    /// A file of defaults is.
    Config(anyhow::Error),
}

/// What a file of defaults says.
struct Defaults {
    path: PathBuf,
    tables: Table,
}

/// Understands a command line, with the defaults of the files that are there.
pub(super) fn parse(words: Vec<OsString>) -> Result<Args, Refusal> {
    let files = if takes_defaults(&words) { files().map_err(Refusal::Config)? } else { Vec::new() };
    parse_with(words, &files)
}

/// Whether a command line is that of a command with defaults, and does not just ask for help.
fn takes_defaults(words: &[OsString]) -> bool {
    let matches = Args::command().ignore_errors(true).try_get_matches_from(words);
    matches.is_ok_and(|matches| TABLES.iter().any(|(table, _)| matches.subcommand_name() == Some(table)))
}

fn parse_with(words: Vec<OsString>, files: &[Defaults]) -> Result<Args, Refusal> {
    let words = complete(words, files).map_err(Refusal::Config)?;
    Args::try_parse_from(words).map_err(|error| {
        let named: Vec<_> = files.iter().map(|file| file.path.display().to_string()).collect();
        if !named.is_empty() && error.use_stderr() {
            say!("note: defaults are from {}\n", escape(&named.join(" and ")));
        }
        Refusal::Usage(error)
    })
}

/// Puts the defaults of a command behind its name, but for options that are given. The first file that has one counts.
fn complete(mut words: Vec<OsString>, files: &[Defaults]) -> Result<Vec<OsString>> {
    // What is wrong is told when it is read with the defaults.
    let Ok(matches) = Args::command().ignore_errors(true).try_get_matches_from(&words) else { return Ok(words) };
    let Some((name, given)) = matches.subcommand() else { return Ok(words) };
    let Some((_, keys)) = TABLES.iter().find(|(table, _)| *table == name) else { return Ok(words) };
    let root = Args::command();
    let options = root.find_subcommand(name).into_iter().flat_map(clap::Command::get_arguments);
    let mut added = Vec::new();
    for option in options {
        let Some(key) = option.get_long().filter(|long| keys.contains(long)) else { continue };
        if given.value_source(option.get_id().as_str()) == Some(ValueSource::CommandLine) {
            continue;
        }
        let value = files.iter().find_map(|file| Some((file, file.tables.get(name)?.get(key)?)));
        if let Some((file, value)) = value {
            let word = word(option, key, value, &file.path);
            added.extend(word.with_context(|| format!("failed to take {name}.{key} from {}", file.path.display()))?);
        }
    }
    // The command is the first word: what else could come before it ends the program.
    words.splice(2..2, added);
    Ok(words)
}

/// An option as a word of the command line; `None` if it is switched off.
fn word(option: &Arg, key: &str, value: &Value, file: &Path) -> Result<Option<OsString>> {
    if !option.get_action().takes_values() {
        let on = value.as_bool().context("it is true or false")?;
        return Ok(on.then(|| format!("--{key}").into()));
    }
    let mut word = OsString::from(format!("--{key}="));
    match value {
        Value::String(path) if PATHS.contains(&key) => word.push(file.with_file_name(path)),
        Value::String(text) => word.push(text),
        Value::Integer(number) => word.push(number.to_string()),
        Value::Array(items) if option.get_value_delimiter().is_some() => {
            let items: Option<Vec<&str>> = items.iter().map(Value::as_str).collect();
            word.push(items.context("its items are strings")?.join(","));
        }
        _ => bail!("it is a string or a number"),
    }
    Ok(Some(word))
}

/// The files of defaults, the first before the second.
fn files() -> Result<Vec<Defaults>> {
    let caller = privileges::caller();
    if let Some(named) = env::var_os(VARIABLE) {
        return match named.is_empty() {
            true => Ok(Vec::new()),
            false => Ok(Defaults::read(Path::new(&named), &|_| true)?.into_iter().collect()),
        };
    }
    let folder = env::current_dir().unwrap_or_default();
    let of_project = folder.ancestors().map(|folder| folder.join(OF_PROJECT)).find(|path| path.exists());
    let configs = env::var_os("XDG_CONFIG_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let configs = configs.or_else(|| Some(privileges::home()?.join(".config")));
    let of_user = configs.map(|folder| folder.join(OF_USER)).filter(|path| path.exists());
    let unasked = of_project.into_iter().chain(of_user);
    unasked.filter_map(|path| Defaults::read(&path, &|file| is_trusted(file, caller)).transpose()).collect()
}

/// Whether a file that nobody asked for may change what a command does: it is the caller's, or root's and open to all, so
/// that nobody learns by sudo what is in root's own files.
fn is_trusted(file: &Metadata, caller: Uid) -> bool {
    file.uid() == caller.as_raw() || file.uid() == 0 && file.mode() & 0o004 != 0
}

impl Defaults {
    /// `None`, with a warning, for a file that is not trusted: whoever puts one into a folder that all can write to must not
    /// keep others from their work.
    fn read(path: &Path, trusted: &dyn Fn(&Metadata) -> bool) -> Result<Option<Self>> {
        let failed = || format!("failed to take defaults from {}", path.display());
        // Who it belongs to is asked of the very file that is read.
        let file = open(path).with_context(failed)?;
        let metadata = file.metadata().with_context(failed)?;
        if !trusted(&metadata) {
            say!(
                "warning: {} is not used: it belongs to user {}, and only your own or root's public ones are used unasked; \
                 {VARIABLE}=FILE names one, and {VARIABLE}= none\n",
                path.display(),
                metadata.uid()
            );
            return Ok(None);
        }
        let text = read_open_text(file, path)?;
        Self::parse(path, &text).with_context(failed).map(Some)
    }

    fn parse(path: &Path, text: &str) -> Result<Self> {
        let tables: Table = text.parse().map_err(|error: toml::de::Error| anyhow!(error))?;
        for (name, table) in &tables {
            let known = TABLES.iter().find(|(table, _)| table == name);
            let Some((_, keys)) = known else {
                bail!("{name} is no table of it; there are {}", TABLES.map(|(table, _)| table).join(", "));
            };
            let table = table.as_table().with_context(|| format!("{name} is a table: [{name}]"))?;
            if let Some(key) = table.keys().find(|key| !keys.contains(&key.as_str())) {
                bail!("[{name}] has no key {key}; it has {}", keys.join(", "));
            }
        }
        Ok(Self { path: path.to_owned(), tables })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn defaults(path: &str, text: &str) -> Defaults {
        Defaults::parse(Path::new(path), text).expect("parsed")
    }

    fn completed(words: &str, files: &[Defaults]) -> String {
        let words = words.split(' ').map(OsString::from).collect();
        let words: Vec<String> = complete(words, files)
            .expect("completed")
            .into_iter()
            .map(|word| word.into_string().expect("UTF-8"))
            .collect();
        words.join(" ")
    }

    #[test]
    fn each_key_is_an_option_of_its_command() {
        let root = Args::command();
        for (table, keys) in TABLES {
            let command = root.find_subcommand(table).expect("a command");
            for key in keys {
                assert!(command.get_arguments().any(|it| it.get_long() == Some(key)), "{table} has no --{key}");
            }
        }
    }

    #[test]
    fn the_page_has_each_key_and_an_example_that_is_taken() {
        let readme = include_str!("../../../docs/config.md");
        let rows: Vec<&str> = readme.lines().filter(|line| line.starts_with("| `")).collect();
        for (table, keys) in TABLES {
            let names = |row: &&&str| row.split(" | ").next().is_some_and(|cell| cell.contains(&format!("`{table}`")));
            let row = rows.iter().find(names).expect("a row of the table");
            let told: Vec<&str> = row.split(" | ").nth(1).unwrap_or_default().split('`').skip(1).step_by(2).collect();
            assert_eq!(told, keys, "{table}");
        }
        let example = readme.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("an example");
        let check = completed("tt-buftrace check a.ttb", &[defaults("/project/buftrace.toml", example)]);
        assert_eq!(check, "tt-buftrace check --fail-on=excess,held?/test>10 --suppress=/project/known.toml a.ttb");
    }

    #[test]
    fn the_command_line_wins_over_the_project_and_that_over_the_user() {
        let files = [
            defaults("/project/buftrace.toml", "[held]\ntop = 5\nby = 'test'\n[report]\ntop = 3\n"),
            defaults("/home/u/.config/tt-buftrace/config.toml", "[held]\nby = 'device'\nsort = 'time'\n"),
        ];
        assert_eq!(completed("tt-buftrace held a.ttb", &files), "tt-buftrace held --by=test --sort=time --top=5 a.ttb");
        assert_eq!(
            completed("tt-buftrace held --top=9 a.ttb --by site", &files),
            "tt-buftrace held --sort=time --top=9 a.ttb --by site"
        );
        assert_eq!(completed("tt-buftrace dump a.ttb", &files), "tt-buftrace dump a.ttb");
        assert_eq!(completed("tt-buftrace held --help", &files), "tt-buftrace held --help");
    }

    #[test]
    fn lists_switches_and_paths_are_understood() {
        let text = "[check]\nfail-on = ['excess', 'held/test>2']\nstrict = true\nsuppress = 'known.toml'\n\
            [record]\nstack-copy = false\nno-follow-forks = true\nring = 16\n";
        let files = [defaults("/project/buftrace.toml", text)];
        // Without the rules of the file, this is no command line.
        assert_eq!(
            completed("tt-buftrace check a.ttb", &files),
            "tt-buftrace check --fail-on=excess,held/test>2 --suppress=/project/known.toml --strict a.ttb"
        );
        assert_eq!(
            completed("tt-buftrace record -p 7 --follow-forks", &files),
            "tt-buftrace record --no-follow-forks --ring=16 -p 7 --follow-forks"
        );
        let words = ["tt-buftrace", "record", "-p", "7", "--follow-forks"].map(OsString::from);
        let args = parse_with(words.to_vec(), &files).expect("parsed");
        assert!(matches!(args.command, super::super::args::Command::Record(record) if record.follow_forks));
    }

    #[test]
    fn what_is_not_known_is_refused_with_what_is() {
        for (text, expected) in [
            (
                "[hold]\ntop = 1",
                "hold is no table of it; there are record, report, timeline, excess, held, diff, check",
            ),
            ("[held]\ntpo = 1", "[held] has no key tpo; it has sort, by, top, frames"),
            ("top = 1", "top is no table of it"),
            ("held = 1", "held is a table: [held]"),
        ] {
            let error = Defaults::parse(Path::new("x"), text).err().expect("refused");
            assert!(error.to_string().starts_with(expected), "{error}");
        }
        assert!(Defaults::parse(Path::new("x"), "[held\n").is_err());
        for text in ["[held]\ntop = true", "[held]\ntop = [1]", "[check]\nstrict = 'yes'", "[check]\nfail-on = [1]"] {
            let files = [defaults("x", text)];
            let command = if text.contains("held") { "held" } else { "check" };
            let words = ["tt-buftrace", command, "a.ttb"].map(OsString::from);
            assert!(complete(words.to_vec(), &files).is_err(), "{text}");
        }
    }

    #[test]
    fn a_file_of_somebody_else_is_not_taken_unasked() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(OF_PROJECT);
        std::fs::write(&path, "[held]\ntop = 5\n").expect("written");
        let metadata = std::fs::metadata(&path).expect("there");
        let own = Uid::from_raw(metadata.uid());
        let other = Uid::from_raw(metadata.uid() + 1);
        assert!(Defaults::read(&path, &|file| is_trusted(file, own)).expect("read").is_some());
        // What is root's is everybody's, if all can read it.
        assert_eq!(is_trusted(&metadata, other), own.is_root());
        assert!(Defaults::read(&path, &|_| false).expect("passed over").is_none());
    }
}
