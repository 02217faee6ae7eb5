// SPDX-License-Identifier: GPL-2.0-only

//! `fault-lab`: Linux's ways of moving bytes, each a short program to be read as a lesson and traced by fault-tracer.
//!
//! All of them move the same data: from a file into memory, from memory into a file, or from file to file. What differs is
//! who copies, who faults, and when. `make lab` traces each and writes docs/io-lab.md.

mod lab;
mod map;
mod ways;

use std::{fs, path::PathBuf};

use anyhow::{bail, Context as _, Result};
use clap::Parser;

use lab::{Lab, Order};

/// Linux's ways of moving bytes, each a short program to be traced.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// The way; --list names all
    #[arg(value_name = "WAY", required_unless_present_any = ["list", "prepare"])]
    way: Option<String>,

    /// List the ways, and what each shows
    #[arg(long)]
    list: bool,

    /// Make the file that the ways read, and end
    #[arg(long)]
    prepare: bool,

    /// The folder of the files: not one of tmpfs, which knows no O_DIRECT and no disk
    #[arg(long, value_name = "DIR", default_value = ".")]
    folder: PathBuf,

    /// How many MiB are moved
    #[arg(long, value_name = "MIB", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=4096))]
    mib: u16,

    /// In which order, where the way is free to choose
    #[arg(long, value_enum, default_value = "sequential")]
    order: Order,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if arguments.list {
        for way in ways::all() {
            println!("{}\t{}\t{}", way.name, way.cases.name(), way.shows);
        }
        return Ok(());
    }
    let lab = Lab {
        from: arguments.folder.join("lab-from"),
        to: arguments.folder.join("lab-to"),
        bytes: usize::from(arguments.mib) << 20,
        order: arguments.order,
    };
    if arguments.prepare {
        return lab.prepare();
    }
    let name = arguments.way.unwrap_or_default();
    let Some(way) = ways::all().find(|way| way.name == name) else {
        bail!("there is no way {name}: fault-lab --list names all");
    };
    if fs::metadata(&lab.from).map_or(0, |file| file.len()) != lab.bytes as u64 {
        bail!(
            "{} is not there, or has another size: make it with fault-lab --prepare, of the same --folder and --mib",
            lab.from.display()
        );
    }
    let moved = (way.run)(&lab).with_context(|| format!("{name} failed"))?;
    println!("{name}: {moved}");
    Ok(())
}
