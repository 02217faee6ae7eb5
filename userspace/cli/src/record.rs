// SPDX-License-Identifier: GPL-2.0-only

//! `fault-tracer record`: rings in, a trace file out.

use std::{
    io::{self, IsTerminal as _, Write as _},
    time::{Duration, Instant},
};

use anyhow::bail;
use fault_tracer_client::{Clock, Lost, Record, Rings, Session};
use fault_tracer_symbols::{mapped_code, Files};
use fault_tracer_trace::{
    file::{Destination, Writer},
    About, Account, Counter, CounterRow, Fate, Kind, Resolver, Row,
};

use crate::{
    args,
    collector::{Collector, Failure},
    durations::Durations,
    format::{counted, grouped},
    output::Output,
    say,
    summary::Ended,
    tally::Tally,
    traced::{self, How},
};

/// How often all that was recorded is written: with the time it takes to do so, it is in the file less than
/// a second later, whatever happens to this program. In a pipe, shorter periods make shorter batches, hence more
/// bytes for each fault.
const PERIOD: Duration = Duration::from_millis(850);

/// Runs the subcommand; returns the exit status.
pub fn run(arguments: &args::Record) -> anyhow::Result<u8> {
    let args::Target {
        command, pids, all, ..
    } = &arguments.target;
    if command.is_empty() && pids.is_empty() && !all {
        bail!("name what to trace: a process with --pid N, all with --all, or a command after --");
    }
    let how = How {
        sideband: true,
        latency: arguments.latency,
        clock: arguments.clock.into(),
        duration: arguments.duration,
    };
    traced::run(
        &arguments.target,
        &how,
        Some(&arguments.output),
        |running, output| {
            let wall = how.clock.wall_offset();
            let about = About {
                version: env!("CARGO_PKG_VERSION").into(),
                host: rustix::system::uname()
                    .nodename()
                    .to_string_lossy()
                    .into_owned(),
                kernel: traced::kernel(),
                command: running.what.into(),
                clock: how.clock.name().into(),
                wall_offset_ns: wall.offset_ns,
                wall_error_ns: wall.error_ns,
                latency: how.latency,
                account: None,
            };
            output.begin().map_err(Failure::Output)?;
            let mut recording = Recording::new(running.session, output, &about, how.clock)?;
            for &pid in &arguments.target.pids {
                // CAST: positive.
                recording.know_code(pid as u32);
            }
            let result = running
                .follow(PERIOD, |due| recording.round(due))
                .and_then(|()| recording.take_rest());
            recording.live.clear();
            match result {
                Ok(()) => recording.finish(),
                Err(Failure::Output(error)) => {
                    let whole = recording.writer.written();
                    drop(recording);
                    if let Err(error) = output.cut_to(whole) {
                        say(&format!(
                            "the torn end of the trace cannot be cut off: {error}"
                        ));
                    }
                    Err(Failure::Output(error))
                }
                Err(other) => {
                    // What is known is kept; the first failure is the one that is told.
                    let _ = recording.writer.flush();
                    Err(other)
                }
            }
        },
    )
}

/// A session that records, and the trace that is being written.
struct Recording<'a> {
    collector: Collector<'a, Record>,
    resolver: Resolver,
    writer: Writer<&'a mut Output>,
    clock: Clock,
    /// Rows on their way to the writer.
    rows: Vec<Row>,
    losses: Vec<(u32, Lost)>,
    counts: Counts,
    live: Live,
}

/// What the module says at the end.
struct Accounts {
    cpus: Vec<(u32, Account)>,
    all: Account,
    missed_returns: u64,
}

/// What the summary tells of the rows.
struct Counts {
    tally: Tally,
    kinds: [u64; Kind::ALL.len()],
    fates: [u64; Fate::ALL.len()],
    gaps: u64,
    /// In recordings with durations.
    durations: Option<Durations>,
}

impl<'a> Recording<'a> {
    fn new(
        session: &'a Session,
        output: &'a mut Output,
        about: &About,
        clock: Clock,
    ) -> Result<Self, Failure> {
        Ok(Self {
            collector: Collector::new(session, Rings::by_mapping(session)?, clock)?,
            resolver: Resolver::looking(Box::new(Files::new())),
            writer: Writer::new(output, about).map_err(Failure::Output)?,
            clock,
            rows: Vec::new(),
            losses: Vec::new(),
            counts: Counts {
                tally: Tally::new(),
                kinds: [0; Kind::ALL.len()],
                fates: [0; Fate::ALL.len()],
                gaps: 0,
                durations: about.latency.then(Durations::default),
            },
            live: Live::new(),
        })
    }

    /// Takes what a process had mapped before: what it faulted in then does not fault any more.
    fn know_code(&mut self, pid: u32) {
        match mapped_code(pid) {
            Ok(mappings) => {
                for mapping in &mappings {
                    self.resolver.known(mapping);
                }
            }
            Err(error) => say(&format!(
                "the mappings of process {pid} cannot be read ({error}): some of its symbols will not be known"
            )),
        }
    }

    /// Takes what the rings hold; if it is `due`, writes all that was recorded before.
    fn round(&mut self, due: bool) -> Result<(), Failure> {
        let losses = &mut self.losses;
        self.collector
            .collect(due, |cpu, record| sort(losses, cpu, record))?;
        self.resolve(false)?;
        if !due {
            return Ok(());
        }
        self.resolver.pending(&mut self.rows);
        self.write()?;
        self.writer.flush().map_err(Failure::Output)?;
        let (collector, faults) = (&self.collector, self.counts.tally.faults());
        self.live.show(faults, || Ok(collector.account()?.lost()))
    }

    fn take_rest(&mut self) -> Result<(), Failure> {
        let losses = &mut self.losses;
        self.collector
            .collect_rest(|cpu, record| sort(losses, cpu, record))?;
        self.resolve(true)?;
        self.resolver.finish(&mut self.rows);
        self.write()
    }

    /// Resolves what has its place in time, or all.
    fn resolve(&mut self, all: bool) -> Result<(), Failure> {
        let Self {
            collector,
            resolver,
            rows,
            writer,
            counts,
            ..
        } = self;
        for (cpu, lost) in self.losses.drain(..) {
            resolver.push(cpu, Record::Lost(lost), rows);
        }
        collector
            .give_out(all, |cpu, record| {
                resolver.push(cpu, record, rows);
                counts.write(rows, writer, resolver)
            })
            .map_err(Failure::Output)
    }

    fn write(&mut self) -> Result<(), Failure> {
        self.counts
            .write(&mut self.rows, &mut self.writer, &mut self.resolver)
            .map_err(Failure::Output)
    }

    fn accounts(&self) -> anyhow::Result<Accounts> {
        let cpus = self.collector.accounts()?;
        Ok(Accounts {
            all: self.collector.sum(&cpus)?,
            cpus,
            missed_returns: self.collector.missed_returns()?,
        })
    }

    /// Writes the account and the end.
    fn finish(mut self) -> Result<Ended, Failure> {
        let known = self.accounts();
        if known.is_err() {
            // What is known is kept.
            self.writer.flush().map_err(Failure::Output)?;
        }
        let Accounts {
            cpus,
            all: account,
            missed_returns,
        } = known?;
        let time_ns = self.clock.now();
        let mut counter = |counter, cpu, count| {
            self.rows.push(Row::Counter(CounterRow {
                counter,
                time_ns,
                cpu,
                count,
            }));
        };
        for (cpu, account) in cpus {
            counter(Counter::Hits, Some(cpu), account.hits);
            counter(Counter::Recorded, Some(cpu), account.recorded);
            counter(Counter::Dropped, Some(cpu), account.dropped);
            counter(Counter::Overwritten, Some(cpu), account.overwritten);
            if account.untold != 0 {
                counter(Counter::Untold, Some(cpu), account.untold);
            }
        }
        counter(Counter::Missed, None, account.missed);
        if self.counts.durations.is_some() {
            counter(Counter::MissedReturns, None, missed_returns);
        }
        counter(Counter::End, None, self.counts.tally.faults());
        self.write()?;
        self.writer.set_account(&account).map_err(Failure::Output)?;
        let bytes = self.writer.finish().map_err(Failure::Output)?;
        let mut details = self.counts.lines(bytes);
        if let Some(durations) = &self.counts.durations {
            details.extend(durations.lines(missed_returns));
        }
        Ok(Ended {
            account,
            tally: self.counts.tally,
            taken_before: self.collector.taken_before(),
            late: self.collector.late(),
            stray_returns: self.resolver.stray_returns(),
            details,
        })
    }
}

/// Losses are told when there is room again, after their time: they do not wait for a place in it.
fn sort(losses: &mut Vec<(u32, Lost)>, cpu: u32, record: Record) -> Option<Record> {
    match record {
        Record::Lost(lost) => {
            losses.push((cpu, lost));
            None
        }
        other => Some(other),
    }
}

impl Counts {
    /// Counts rows, hands them on and gives their memory back.
    fn write<W: Destination>(
        &mut self,
        rows: &mut Vec<Row>,
        writer: &mut Writer<W>,
        resolver: &mut Resolver,
    ) -> io::Result<()> {
        for row in rows.drain(..) {
            match &row {
                Row::Fault(fault) => {
                    self.tally.add(&fault.fault);
                    self.kinds[fault.kind as usize] += 1;
                    self.fates[fault.fate as usize] += 1;
                    if let Some(durations) = &mut self.durations {
                        durations.add(fault);
                    }
                }
                Row::Gap(gap) => self.gaps += gap.count,
                _ => {}
            }
            writer.push(&row)?;
            resolver.reuse(row);
        }
        Ok(())
    }

    fn lines(&self, bytes: u64) -> Vec<String> {
        fn parts(parts: impl Iterator<Item = (u64, &'static str)>) -> String {
            let mut parts: Vec<_> = parts.filter(|part| part.0 != 0).collect();
            parts.sort_by_key(|part| std::cmp::Reverse(part.0));
            let parts = parts
                .iter()
                .map(|(count, name)| format!("{} {name}", grouped(*count)));
            parts.collect::<Vec<_>>().join(", ")
        }
        let mut lines = Vec::new();
        let faults = self.tally.faults();
        if faults != 0 {
            lines.push(parts(
                Fate::ALL
                    .map(|fate| (self.fates[fate as usize], fate.name()))
                    .into_iter(),
            ));
            lines.push(parts(
                Kind::ALL
                    .map(|kind| (self.kinds[kind as usize], kind.name()))
                    .into_iter(),
            ));
            let tenths = (bytes as f64 * 10.0 / faults as f64) as u64;
            lines.push(format!(
                "{} in the file, {}.{} a fault",
                counted(bytes, "byte", "bytes"),
                tenths / 10,
                tenths % 10
            ));
        }
        if self.gaps != 0 {
            lines.push(format!(
                "the counters of the threads show {} that are not in the trace (see fault-tracer verify)",
                counted(self.gaps, "fault", "faults")
            ));
        }
        lines
    }
}

/// A line on the terminal that tells how the recording goes.
struct Live {
    /// When it was shown last, and the faults until then.
    last: Instant,
    faults: u64,
    terminal: bool,
    shown: bool,
}

impl Live {
    fn new() -> Self {
        Self {
            last: Instant::now(),
            faults: 0,
            terminal: io::stderr().is_terminal(),
            shown: false,
        }
    }

    fn show(
        &mut self,
        faults: u64,
        lost: impl FnOnce() -> Result<u64, Failure>,
    ) -> Result<(), Failure> {
        if !self.terminal {
            return Ok(());
        }
        let elapsed = self.last.elapsed();
        let rate = (faults - self.faults) as f64 / elapsed.as_secs_f64();
        // A terminal that is gone is no reason to stop.
        let _ = write!(
            io::stderr(),
            "\r\x1b[Kfault-tracer: {}, {}/s, {} lost",
            counted(faults, "fault", "faults"),
            grouped(rate as u64),
            grouped(lost()?)
        );
        self.last = Instant::now();
        self.faults = faults;
        self.shown = true;
        Ok(())
    }

    fn clear(&mut self) {
        if std::mem::take(&mut self.shown) {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}
