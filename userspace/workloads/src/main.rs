// SPDX-License-Identifier: GPL-2.0-only

//! `ft-workload`: programs whose page faults are known by construction.
//!
//! Each subcommand touches memory in a known way and writes what a tracer must see of it, the *truth*,
//! to the file of `--truth` (see [`truth`] for its form). The tests inside the sandbox compare it with
//! what was recorded.

mod children;
mod faults;
mod files;
mod kernel_side;
mod mappings;
mod memory;
mod spin;
mod storm;
mod touch;
mod truth;
mod turmoil;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, Subcommand};

use truth::Truth;

/// Programs whose page faults are known by construction.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Append the faults that must be seen to this file
    #[arg(long, global = true, value_name = "FILE")]
    truth: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Touch pages of fresh memory in a known order, in one or more threads
    Touch(touch::Options),
    /// Make short children that touch pages of fresh memory
    Children(children::Options),
    /// One process of `children --how exec` and its kind
    #[command(hide = true)]
    Node(children::NodeOptions),
    /// Fork children and start threads at random, from several threads at once
    Storm(storm::Options),
    /// Read and write mappings of a file
    File(files::Options),
    /// Write pages, fork, and write them again in the child and in the parent
    ForkCow(children::CowOptions),
    /// Let the kernel touch fresh memory: system calls and `get_user_pages`
    Gup(kernel_side::GupOptions),
    /// Make and touch a mapping of each kind, then stop (`SIGSTOP`), to be looked at and killed
    Mappings(mappings::Options),
    /// Touch huge pages (some must be reserved: /proc/sys/vm/nr_hugepages)
    Hugetlb(kernel_side::HugetlbOptions),
    /// Write pages, have them swapped out, and read them again (needs a swap device)
    Swap(kernel_side::SwapOptions),
    /// Fork, start threads, execute this program and kill, as a seed decides
    Turmoil(turmoil::Options),
    /// Touch memory as often as standard input says, and tell what that cost each worker
    Faults(faults::Options),
    /// Touch and give back memory for ever: load, until it is killed
    Spin(spin::Options),
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let truth = Truth::new(arguments.truth);
    match arguments.command {
        Command::Touch(options) => touch::run(&options, truth),
        Command::Children(options) => children::run(&options, truth),
        Command::Node(options) => children::node(&options, truth),
        Command::Storm(options) => storm::run(&options, truth),
        Command::File(options) => files::run(&options, truth),
        Command::ForkCow(options) => children::cow(&options, truth),
        Command::Gup(options) => kernel_side::gup(&options, truth),
        Command::Mappings(options) => mappings::run(&options),
        Command::Hugetlb(options) => kernel_side::hugetlb(&options, truth),
        Command::Swap(options) => kernel_side::swap(&options, truth),
        Command::Turmoil(options) => turmoil::run(&options),
        Command::Faults(options) => faults::run(&options),
        Command::Spin(options) => spin::run(&options),
    }
}
