// SPDX-License-Identifier: GPL-2.0-only

//! `fault-tracer generate`: manual pages, completions and docs/commands.md, from the command line's own definition. For who
//! installs, and for who changes an option.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::args;

/// What `generate` takes.
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// Write below DIR: man/, bash/, zsh/, fish/, commands.md
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,
}

/// Writes them.
///
/// # Errors
///
/// Where a file cannot be written.
pub fn run(arguments: &Arguments) -> anyhow::Result<u8> {
    let command = args::Arguments::command();
    let folder = |name: &str| -> anyhow::Result<PathBuf> {
        let folder = arguments.folder.join(name);
        fs::create_dir_all(&folder).with_context(|| cannot_write(&folder))?;
        Ok(folder)
    };
    let man = folder("man")?;
    clap_mangen::generate_to(command.clone(), &man).with_context(|| cannot_write(&man))?;
    for (shell, name) in [
        (Shell::Bash, "bash"),
        (Shell::Zsh, "zsh"),
        (Shell::Fish, "fish"),
    ] {
        let folder = folder(name)?;
        clap_complete::generate_to(shell, &mut command.clone(), "fault-tracer", &folder)
            .with_context(|| cannot_write(&folder))?;
    }
    let file = arguments.folder.join("commands.md");
    fs::write(&file, reference()).with_context(|| cannot_write(&file))?;
    Ok(0)
}

/// docs/commands.md: what each command says of itself.
fn reference() -> String {
    let mut command = args::Arguments::command().term_width(100);
    command.build();
    let mut list = String::new();
    let mut texts = String::new();
    for command in command.get_subcommands_mut() {
        let name = command.get_name().to_owned();
        if command.is_hide_set() || name == "help" {
            continue;
        }
        let about = command.get_about().unwrap_or_default();
        list += &format!("| [{name}](#{name}) | {about} |\n");
        let help = command.render_long_help().to_string();
        let lines: Vec<&str> = help.trim_end().lines().map(str::trim_end).collect();
        texts += &format!("\n## {name}\n\n```\n{}\n```\n", lines.join("\n"));
    }
    format!(
        "# Commands\n\n\
         What `fault-tracer COMMAND --help` says of each; `man fault-tracer-COMMAND` says the same. [guide.md](guide.md) shows them \
         at work.\n\n\
         <!-- Written by `fault-tracer generate`. -->\n\n\
         | command | what it does |\n|---|---|\n{list}{texts}"
    )
}

fn cannot_write(folder: &Path) -> String {
    format!("cannot write to {}", folder.display())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_reference_is_of_this_command_line() {
        let document = include_str!("../../../../docs/commands.md");
        assert!(
            super::reference() == document,
            "docs/commands.md is of another command line: build/bin/fault-tracer generate build/generated, and copy commands.md \
             from there"
        );
    }
}
