// SPDX-License-Identifier: Apache-2.0
//! The command `generate`: man pages and shell completions, made of the command line as it is.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};
use clap::CommandFactory as _;
use clap_complete::Shell;
use clap_mangen::{
    Man,
    roff::{Roff, bold, roman},
};

use super::{
    Status,
    args::{Args, Generate},
};

/// Where each shell looks below a folder like /usr.
const COMPLETIONS: [(Shell, &str); 3] = [
    (Shell::Bash, "share/bash-completion/completions/tt-buftrace"),
    (Shell::Zsh, "share/zsh/vendor-completions/_tt-buftrace"),
    (Shell::Fish, "share/fish/vendor_completions.d/tt-buftrace.fish"),
];
const PAGES: &str = "share/man/man1";

/// Of each command: a command line, and what it is for.
const EXAMPLES: [(&str, &[(&str, &str)]); 12] = [
    (
        "record",
        &[
            (
                "tt-buftrace record -p 4711 -o run.ttb",
                "Attach to a pytest that runs already; Ctrl-C ends the recording alone.",
            ),
            ("tt-buftrace record -- pytest -n 4 tests", "Start it, and record its workers and forked children, too."),
            (
                "tt-buftrace record --wait server.py --max-size 2G",
                "Record each server of this name as it comes, for days.",
            ),
        ],
    ),
    ("doctor", &[("tt-buftrace doctor -p 4711", "What is missing to record this process, each with the next step.")]),
    (
        "import",
        &[("tt-buftrace import server.log -o old.ttb", "Make a trace of a log, for every other command to read.")],
    ),
    (
        "report",
        &[
            ("tt-buftrace report run.ttb", "The first look at a trace."),
            ("tt-buftrace report rank0.ttb rank1.ttb --json", "All ranks of a run at once, for a program."),
        ],
    ),
    (
        "timeline",
        &[(
            "tt-buftrace timeline run.ttb --device mesh0 --address 0x100080 --stacks",
            "Who allocated and freed what was at an address, with stacks.",
        )],
    ),
    (
        "excess",
        &[("tt-buftrace excess run.ttb --test test_unload --frames all", "Only in these tests, with whole stacks.")],
    ),
    ("held", &[("tt-buftrace held run.ttb --by test", "Which tests leave memory behind.")]),
    ("diff", &[("tt-buftrace diff before.ttb after.ttb", "Whether a fix is real, and what else it changed.")]),
    (
        "check",
        &[(
            "tt-buftrace check run.ttb --fail-on 'excess,held/test>10' --junit buftrace.xml",
            "Fail on any excess free, and on each test that leaves more than ten buffers.",
        )],
    ),
    ("explain", &[("tt-buftrace explain repeat", "What this verdict means, and where to look.")]),
    ("redact", &[("tt-buftrace redact run.ttb -o public.ttb", "A copy that can be shown to others.")]),
    ("generate", &[("tt-buftrace generate ~/.local", "Install man pages and completions for one user.")]),
];
const EXIT_STATUS: [(&str, &str); 3] = [
    ("0", "Done."),
    (
        "1",
        "Done, but a trace is damaged, something that tracing needs is missing (doctor), or a rule is broken (check).",
    ),
    ("2", "The command line is wrong, or the command failed."),
];
const FILES: [(&str, &str); 3] = [
    (
        "buftrace.toml",
        "Defaults for options, from the nearest folder upwards. It has a table for each command, with the command's options \
         by their long names: top = 50 below [held].",
    ),
    ("~/.config/tt-buftrace/config.toml", "The same for all projects of a user; what the former says counts first."),
    ("~/.cache/tt-buftrace", "Unwind tables of modules that were recorded."),
];
const ENVIRONMENT: [(&str, &str); 1] =
    [("BUFTRACE_CONFIG", "Names the only file of defaults, whoever it belongs to; none is used if it is empty.")];

pub(super) fn generate(args: &Generate) -> Result<Status> {
    let mut root = Args::command().disable_help_subcommand(true).subcommand_value_name("COMMAND");
    for (shell, path) in COMPLETIONS {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut root, "tt-buftrace", &mut script);
        write(&args.folder.join(path), &script)?;
    }
    root.build();
    let names: Vec<String> = root.get_subcommands().map(page_name).collect();
    write_page(&args.folder, &root, &names)?;
    let main = vec![page_name(&root)];
    for command in root.get_subcommands().filter(|command| !command.is_hide_set()) {
        write_page(&args.folder, command, &main)?;
    }
    Ok(Status::Done)
}

/// Writes the page of a command, which refers to others.
fn write_page(folder: &Path, command: &clap::Command, others: &[String]) -> Result<()> {
    let name = page_name(command);
    let path = folder.join(PAGES).join(format!("{name}.1"));
    let man =
        Man::new(command.clone()).manual("tt-buftrace").source(format!("tt-buftrace {}", env!("CARGO_PKG_VERSION")));
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    let mut rest = Roff::new();
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
        section(&mut rest, "FILES", &FILES);
        section(&mut rest, "ENVIRONMENT", &ENVIRONMENT);
    }
    if let Some((_, examples)) = EXAMPLES.iter().find(|(of, _)| *of == command.get_name()) {
        section(&mut rest, "EXAMPLES", examples);
    }
    section(&mut rest, "EXIT STATUS", &EXIT_STATUS);
    rest.control("SH", ["SEE ALSO"]);
    for (index, other) in others.iter().enumerate() {
        let end = if index + 1 == others.len() { "(1)" } else { "(1), " };
        rest.text([bold(other.as_str()), roman(end)]);
    }
    rest.to_writer(&mut page)?;
    write(&path, &page)
}

fn section(roff: &mut Roff, title: &str, entries: &[(&str, &str)]) {
    roff.control("SH", [title]);
    for (name, text) in entries {
        roff.control("TP", []).text([bold(*name)]).text([roman(*text)]);
    }
}

/// What the page of a command is called: all of its words joined.
fn page_name(command: &clap::Command) -> String {
    command.get_display_name().unwrap_or(command.get_name()).to_owned()
}

fn write(path: &Path, text: &[u8]) -> Result<()> {
    let folder = path.parent().unwrap_or(path);
    fs::create_dir_all(folder).with_context(|| format!("failed to make {}", folder.display()))?;
    fs::write(path, text).with_context(|| format!("failed to write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[test]
    fn examples_are_command_lines_of_their_commands() {
        for (command, examples) in EXAMPLES {
            for (line, _) in examples {
                assert_eq!(line.split(' ').nth(1), Some(command));
                // Without the shell's quotes.
                let words = line.split(' ').map(|word| word.trim_matches('\''));
                assert!(Args::try_parse_from(words).is_ok(), "{line}");
            }
        }
    }

    #[test]
    fn each_command_has_a_page_and_each_shell_its_completions() {
        let folder = tempfile::tempdir().expect("a folder");
        generate(&Generate { folder: folder.path().to_owned() }).expect("written");
        let read = |path: &str| fs::read_to_string(folder.path().join(path)).expect("there");
        let main = read("share/man/man1/tt-buftrace.1");
        for command in Args::command().get_subcommands() {
            let name = command.get_name();
            let page = read(&format!("share/man/man1/tt-buftrace-{name}.1"));
            assert!(page.starts_with(".ie") && page.contains(&format!(".TH tt-buftrace-{name} 1")), "{page}");
            assert!(main.contains(&format!("tt\\-buftrace\\-{name}(1)")), "{name}");
            for (shell, path) in COMPLETIONS {
                assert!(read(path).contains(name), "{shell} does not know {name}");
            }
        }
    }
}
