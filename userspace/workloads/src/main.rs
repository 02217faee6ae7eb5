// SPDX-License-Identifier: GPL-2.0-only

//! `ft-workload`: programs whose page faults are known by construction.
//!
//! Each subcommand touches memory in a known way and writes what a tracer must see of it, the *truth*,
//! to the file of `--truth` (see [`truth`] for its form). The tests inside the sandbox compare it with
//! what was recorded.

mod asleep;
mod balanced;
mod children;
mod clocked;
mod cold;
mod commuters;
mod entries;
mod faults;
mod files;
mod habits;
mod kernel_side;
mod lazy;
mod leaderless;
mod mappings;
mod memory;
mod pressure;
mod refused;
mod rush;
mod shared;
mod spin;
mod storm;
mod touch;
mod truth;
mod turmoil;
mod userfault;

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
    /// Move into a control group and out of it, in children that touch fresh pages there and here
    Commuters(commuters::Options),
    /// Touch huge pages (some of 2 MiB must be reserved: /sys/kernel/mm/hugepages)
    Hugetlb(kernel_side::HugetlbOptions),
    /// Write pages, have them swapped out, and read them again (needs a swap device)
    Swap(kernel_side::SwapOptions),
    /// Touch fresh pages of memory that processes share
    Shared(shared::Options),
    /// Read pages of a mapped file that are not in memory (drops all caches)
    Cold(cold::Options),
    /// Touch pages that another thread sees to while the fault waits
    Lazy(lazy::Options),
    /// Touch pages whose page table entry is neither empty nor an ordinary page's
    Entries(entries::Options),
    /// Read memory in two threads while the kernel balances it between NUMA nodes
    Balanced(balanced::Options),
    /// Read addresses that nothing is mapped at, each in a child that this kills
    Unmapped(refused::Options),
    /// Read pages behind the end of a mapped file, each in a child that this kills
    Beyond(refused::Options),
    /// Read the vDSO, in children
    Special(refused::Options),
    /// Touch pages between two readings of the wall clock
    Clocked(clocked::Options),
    /// Write more memory than there may be, in children (for a control group with a limit)
    Pressure(pressure::Options),
    /// Fork, start threads, execute this program and kill, as a seed decides
    Turmoil(turmoil::Options),
    /// Touch memory as often as standard input says, and tell what that cost each worker
    Faults(faults::Options),
    /// Take a fault in each of some threads, all of which sleep until a file is there
    Asleep(asleep::Options),
    /// Touch pages in a thread while the process's first one has ended
    Leaderless(leaderless::Options),
    /// Use memory in a way that deserves advice, or one that looks like it; print what the kernel counts of it
    Habit(habits::Options),
    /// Fault in files with real-time priority while others rename them, fork and execute; print the faults
    Rush(rush::Options),
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
        Command::Commuters(options) => commuters::run(&options, truth),
        Command::Hugetlb(options) => kernel_side::hugetlb(&options, truth),
        Command::Swap(options) => kernel_side::swap(&options, truth),
        Command::Shared(options) => shared::run(&options, truth),
        Command::Cold(options) => cold::run(&options, truth),
        Command::Lazy(options) => lazy::run(&options, truth),
        Command::Entries(options) => entries::run(&options, truth),
        Command::Balanced(options) => balanced::run(&options, truth),
        Command::Unmapped(options) => refused::unmapped(&options, &truth),
        Command::Beyond(options) => refused::beyond(&options, &truth),
        Command::Special(options) => refused::special(&options, &truth),
        Command::Clocked(options) => clocked::run(&options, truth),
        Command::Pressure(options) => pressure::run(&options),
        Command::Turmoil(options) => turmoil::run(&options),
        Command::Faults(options) => faults::run(&options),
        Command::Asleep(options) => asleep::run(&options, truth),
        Command::Leaderless(options) => leaderless::run(&options, truth),
        Command::Habit(options) => habits::run(&options),
        Command::Rush(options) => rush::run(&options),
        Command::Spin(options) => spin::run(&options),
    }
}
