// SPDX-License-Identifier: Apache-2.0
//! The pages say what the tool can do: every command has one, every option is on it, and every link leads somewhere.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};

use crate::tool::{root, run};

/// The long options that the help of a command lists.
fn options(help: &str) -> Vec<String> {
    let listed = help.lines().map(str::trim_start).filter(|line| line.starts_with('-'));
    let words = listed.flat_map(|line| line.split([' ', ',', '=', '[']).take(4));
    let long = words.filter(|word| word.starts_with("--") && *word != "--help" && *word != "--version");
    long.map(str::to_owned).collect()
}

#[test]
fn every_command_has_a_page_with_all_of_its_options() -> Result<()> {
    let help = String::from_utf8(run(&["--help"])?.stdout)?;
    let (_, commands) = help.split_once("Commands:\n").context("the help lists the commands")?;
    let (commands, _) = commands.split_once("\n\n").context("the list of commands ends")?;
    // A line that is not indented by two goes on with the one before.
    let names =
        commands.lines().filter(|line| !line.starts_with("   ")).filter_map(|line| line.split_whitespace().next());
    let names: Vec<&str> = names.filter(|&name| name != "help").collect();
    assert!(names.contains(&"record") && names.contains(&"report"), "{names:?}");
    for name in names {
        let page =
            fs::read_to_string(root().join(format!("docs/commands/{name}.md"))).with_context(|| name.to_owned())?;
        let help = String::from_utf8(run(&[name, "--help"])?.stdout)?;
        for option in options(&help) {
            assert!(page.contains(&format!("`{option}")), "docs/commands/{name}.md does not have {option}");
        }
        let index = fs::read_to_string(root().join("docs/commands/README.md"))?;
        assert!(index.contains(&format!("({name}.md)")), "docs/commands/README.md does not have {name}");
    }
    Ok(())
}

#[test]
fn every_link_leads_to_a_file() -> Result<()> {
    let pages = |folder: &Path| -> Result<Vec<_>> {
        let paths = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
        Ok(paths.into_iter().filter(|path| path.extension().is_some_and(|it| it == "md")).collect())
    };
    let mut links = 0;
    for folder in [root().to_owned(), root().join("docs"), root().join("docs/commands")] {
        for page in pages(&folder)? {
            let text = fs::read_to_string(&page)?;
            for link in text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next()) {
                if !link.is_empty() && !link.starts_with("http") {
                    assert!(folder.join(link).exists(), "{} has a link to {link}", page.display());
                    links += 1;
                }
            }
        }
    }
    assert!(links > 20, "{links} links");
    Ok(())
}
