// SPDX-License-Identifier: GPL-2.0-only

//! `fault-tracer generate`: manual pages and completions, from the command line's own definition. For who installs.

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
    /// Write below DIR: man/, bash/, zsh/, fish/
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
    Ok(0)
}

fn cannot_write(folder: &Path) -> String {
    format!("cannot write to {}", folder.display())
}
