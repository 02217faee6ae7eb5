// SPDX-License-Identifier: GPL-2.0-only

//! `ft-drain-rate`: how fast the client takes records out of the rings, and nothing else.
//!
//! It starts a session and says so; then, for each line of standard input, it empties all rings and
//! answers with a line of JSON: what it took, and in what time.

use std::io::{self, BufRead as _, Write as _};

use anyhow::{Context as _, Result};
use clap::{Parser, ValueEnum};
use fault_tracer_client::{Clock, Hook, Mode, Record, Records, Rings, Session, Settings, Stacks};
use rustix::time::{clock_gettime, ClockId};

/// Measure how fast the client takes records out of the rings.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// The process whose faults are recorded
    #[arg(long, value_name = "N")]
    pid: i32,
    /// Ring for each CPU in KiB
    #[arg(long, default_value_t = 65_536, value_name = "K")]
    ring_kib: u64,
    /// How records are taken
    #[arg(long, value_enum)]
    by: Way,
}

/// A way to take records.
#[derive(Clone, Copy, ValueEnum)]
enum Way {
    /// Copied by the kernel, a call for each buffer
    Call,
    /// From the mapped rings
    Mapping,
}

/// A clock, in nanoseconds.
fn now(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    // CAST: These clocks begin at 0.
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

fn answer(text: &str) -> Result<()> {
    let mut output = io::stdout().lock();
    writeln!(output, "{text}").context("cannot answer")?;
    output.flush().context("cannot answer")
}

/// What was taken.
#[derive(Default)]
struct Taken {
    bytes: u64,
    faults: u64,
    cpu_ns: u64,
    wall_ns: u64,
}

/// Empties all rings. The records are looked at after the clocks were read: only the taking is timed.
fn empty(rings: &mut Rings<'_>) -> Result<Taken> {
    let mut taken = Taken::default();
    for index in 0..rings.cpus().len() {
        loop {
            let (cpu, wall) = (now(ClockId::ThreadCPUTime), now(ClockId::Monotonic));
            let drained = rings.take(index)?;
            taken.cpu_ns += now(ClockId::ThreadCPUTime) - cpu;
            taken.wall_ns += now(ClockId::Monotonic) - wall;
            taken.bytes += size_of_val(drained.words) as u64;
            for record in Records::new(drained.words) {
                taken.faults += u64::from(matches!(record?, Record::Fault(_)));
            }
            if drained.emptied {
                break;
            }
        }
    }
    Ok(taken)
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let session = Session::open()?;
    session.configure(&Settings {
        ring_bytes: arguments.ring_kib * 1024,
        mode: Mode::Discard,
        follow: false,
        all: false,
        sideband: false,
        latency: false,
        stacks: Stacks::None,
        hook: Hook::Kprobe,
        clock: Clock::Monotonic,
        watermark_bytes: 0,
        retell: false,
    })?;
    session.add_target(arguments.pid)?;
    session.start()?;
    let mut rings = match arguments.by {
        Way::Call => Rings::by_call(&session)?,
        Way::Mapping => Rings::by_mapping(&session)?,
    };
    answer("{}")?;
    for line in io::stdin().lock().lines() {
        line.context("cannot read commands")?;
        let taken = empty(&mut rings)?;
        let mut dropped = 0;
        for cpu in rings.cpus() {
            dropped += session.counters(*cpu)?.map_or(0, |cpu| cpu.dropped);
        }
        let Taken {
            bytes,
            faults,
            cpu_ns,
            wall_ns,
        } = taken;
        answer(&format!(
            r#"{{"faults":{faults},"bytes":{bytes},"cpu_ns":{cpu_ns},"wall_ns":{wall_ns},"dropped":{dropped}}}"#
        ))?;
    }
    Ok(())
}
