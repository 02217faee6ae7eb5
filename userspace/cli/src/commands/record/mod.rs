// SPDX-License-Identifier: GPL-2.0-only

//! `fault-tracer record`: rings in, a trace file out.

use std::{collections::BTreeMap, io, time::Duration};

use fault_tracer_client::{Rings, Stacks};
use fault_tracer_recorder::{
    mapped_code, Accounts, Consumer, Failure, Files, Recording, Resolver, Rows,
};
use fault_tracer_trace::{
    file::{Destination, Writer},
    Account, Counter, CounterRow, Metadata, Row,
};

use crate::{
    args::{self, selection::SelectionArgs},
    launch::{self, How, Launch, Live},
    note,
    output::{refuse_mixture, Former, Output},
    say,
    text::{
        self,
        live::LiveLine,
        progress::Progress,
        summary::{Ended, RowCounts},
    },
};

mod names;
mod on_demand;
mod segments;
mod tables;
mod told;

/// How often all that was recorded is written: with the time it takes to do so, it is in the file less than
/// a second later, whatever happens to this program. In a pipe, shorter periods make shorter batches, hence more
/// bytes for each fault.
const PERIOD: Duration = Duration::from_millis(850);

/// Runs the subcommand; returns the exit status.
pub fn run(arguments: &args::Record) -> anyhow::Result<u8> {
    launch::require_target(&arguments.target)?;
    let path = Some(&*arguments.output);
    if arguments.rotate.is_none() {
        refuse_mixture(path, !arguments.target.command.is_empty(), true)?;
    }
    let selection = &arguments.selection;
    let filter = selection.filter();
    let how = How {
        sideband: true,
        // What the module passes over, the threads' counters count: returns tell the fates then.
        latency: arguments.latency || (filter.is_some() && selection.asks_for_fates()),
        stacks: arguments.stacks(),
        hook: arguments.hook,
        clock: arguments.clock.into(),
        duration: arguments.duration,
        on_demand: arguments.on_demand,
    };
    let launch = Launch::set_up(&arguments.target, &how)?;
    if let Some(filter) = &filter {
        launch.select(filter, selection.mapping_names())?;
    }
    if arguments.on_demand {
        return on_demand::run(arguments, &how, launch);
    }
    if let Some(rotation) = arguments.rotate {
        return segments::run(arguments, &how, rotation, launch);
    }
    // Before the start: whoever was there may end at once.
    let files = files(arguments, &how);
    let mut output = Output::open(path, Former::Renamed)?;
    let mut live = launch.start()?;
    let result = record(arguments, &how, files, &mut live, &mut output);
    let name = output.name();
    drop(output);
    live.end(result, &name)
}

/// Looks at the files that code is in; where processes are not named, those of the processes that are there now, too.
fn files(arguments: &args::Record, how: &How) -> Files {
    let mut files = match how.stacks {
        Stacks::Copy(_) | Stacks::FramesOrCopy(_) => Files::for_unwinding(),
        Stacks::None | Stacks::Frames(_) => Files::new(),
    };
    if arguments.target.all || !arguments.target.choice.is_empty() || arguments.on_demand {
        if let Err(error) = files.remember_running() {
            say(&format!(
                "the mappings of running processes cannot be read ({error}): some of their symbols will not be found"
            ));
        }
    }
    files
}

/// Records until the end. If the trace cannot be written on, what is there of it stays.
fn record(
    arguments: &args::Record,
    how: &How,
    files: Files,
    live: &mut Live,
    output: &mut Output,
) -> Result<Ended, Failure> {
    output.begin().map_err(Failure::Output)?;
    let session = live.session();
    let rings = Rings::by_mapping(&session)?;
    let resolver = resolver(arguments, live, files);
    let rows = rows(arguments, how, live, resolver, output)?;
    let mut recording = Recording::new(&session, rings, how.clock, rows)?;
    add_mappings(recording.sink_mut(), &arguments.target.pids);

    let finished = follow(live, &mut recording, |_| Ok(())).and_then(|()| {
        let accounts = recording.accounts();
        finish(&mut recording, how, accounts)
    });
    drop(recording);
    finished.map(|finished| finished.ended(output))
}

/// What explains the records.
fn resolver(arguments: &args::Record, live: &Live, files: Files) -> Resolver {
    let mut resolver = Resolver::looking(Box::new(files));
    resolver.set_page_size(live.page_size());
    if arguments.attempts {
        resolver.keep_attempts_apart();
    }
    if arguments.selection.filter().is_some() {
        resolver.expect_selection();
    }
    resolver
}

/// Begins a trace, and takes its rows.
fn rows<'a>(
    arguments: &args::Record,
    how: &How,
    live: &Live,
    resolver: Resolver,
    output: &'a mut Output,
) -> Result<Rows<Trace<Writer<&'a mut Output>>>, Failure> {
    let metadata = metadata(arguments, how, live)?;
    let writer = Writer::new(output, &metadata).map_err(Failure::Output)?;
    Ok(Rows::new(resolver, Trace::new(writer, arguments, how)))
}

fn metadata(arguments: &args::Record, how: &How, live: &Live) -> anyhow::Result<Metadata> {
    let wall = live.session().time(how.clock)?.wall;
    let selection = arguments.selection.to_string();
    Ok(Metadata {
        version: env!("CARGO_PKG_VERSION").into(),
        host: rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .into_owned(),
        kernel: launch::kernel(),
        command: match selection.as_str() {
            "" => live.what().into(),
            selection => format!("{} ({selection})", live.what()),
        },
        clock: how.clock.name().into(),
        wall_offset_ns: wall.offset_ns,
        wall_error_ns: wall.error_ns,
        latency: how.latency,
        attempts_apart: arguments.attempts,
        selection,
        nodes: launch::nodes()?,
        page_size: live.page_size(),
        account: None,
    })
}

/// Takes what processes had mapped before: what they faulted in then does not fault any more.
fn add_mappings<C: Consumer>(rows: &mut Rows<C>, pids: &[i32]) {
    for &pid in pids {
        // CAST: positive.
        match mapped_code(pid as u32) {
            Ok(mappings) => {
                for mapping in &mappings {
                    rows.add_mapping(mapping);
                }
            }
            Err(error) => say(&format!(
                "the mappings of process {pid} cannot be read ({error}): some of its symbols will not be found"
            )),
        }
    }
}

/// Takes rows until the recording has ended, and those that are left then. Each time that all rows were written, `written`
/// is called.
fn follow<'a, S: Store>(
    live: &mut Live,
    recording: &mut Recording<'a, Rows<Trace<S>>>,
    mut written: impl FnMut(&mut Recording<'a, Rows<Trace<S>>>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    // A command writes on the same terminal.
    let mut line = LiveLine::new(!live.has_command());
    let mut rounds = || {
        while let Some(due) = live.next_round(PERIOD)? {
            recording.round(due)?;
            if due && line.is_shown() {
                let faults = recording.sink().consumer().counts.tally.faults();
                line.show(faults, recording.accounts()?.all.lost());
            }
            if due {
                written(recording)?;
            }
        }
        recording.take_rest()
    };
    let result = rounds();
    line.clear();
    if let Err(Failure::Module(_)) = result {
        // What is there is kept; the first failure is the one that is said.
        let _ = recording.sink_mut().consumer_mut().store.flush();
    }
    result
}

/// A trace that is written.
struct Finished {
    accounts: Accounts,
    counts: RowCounts,
    bytes: u64,
    /// See [`Writer::is_loose`].
    is_loose: bool,
    taken_before: u64,
    late: u64,
    stray_returns: u64,
}

/// Writes the account, if it could be had, and the end.
fn finish(
    recording: &mut Recording<'_, Rows<Trace<Writer<&mut Output>>>>,
    how: &How,
    accounts: anyhow::Result<Accounts>,
) -> Result<Finished, Failure> {
    if accounts.is_err() {
        // What is there is kept.
        let trace = recording.sink_mut().consumer_mut();
        trace.store.flush().map_err(Failure::Output)?;
    }
    let mut accounts = accounts?;
    recording
        .sink()
        .consumer()
        .account_for_left_out(&mut accounts);
    let time_ns = recording.time(how.clock)?;
    let (taken_before, late) = (recording.taken_before(), recording.late());
    let rows = recording.sink_mut();
    let stray_returns = rows.stray_returns();
    let trace = rows.consumer_mut();
    let bytes = trace
        .write_end(&accounts, how, time_ns)
        .map_err(Failure::Output)?;
    Ok(Finished {
        counts: std::mem::replace(&mut trace.counts, RowCounts::new(false, false)),
        bytes,
        is_loose: trace.store.is_loose(),
        accounts,
        taken_before,
        late,
        stray_returns,
    })
}

impl Finished {
    /// What is to be said of it, when it is as small as can be.
    fn ended(self, output: &mut Output) -> Ended {
        let Self {
            accounts,
            counts,
            mut bytes,
            ..
        } = self;
        if self.is_loose {
            let progress = Progress::new("compacted", true);
            match output.compact(|rows| progress.show(rows)) {
                Ok(compact) => bytes = compact.unwrap_or(bytes),
                Err(error) => {
                    drop(progress);
                    note(&format!(
                        "{} is larger than need be, since it could not be compacted: {error:#}",
                        output.name()
                    ));
                }
            }
        }
        let mut details = counts.lines(bytes, "in the file");
        if let Some(durations) = &counts.durations {
            details.extend(text::durations::lines(durations, accounts.missed_returns));
        }
        Ended {
            account: accounts.all,
            tally: counts.tally,
            taken_before: self.taken_before,
            late: self.late,
            stray_returns: self.stray_returns,
            details,
        }
    }
}

/// Where rows are written.
trait Store {
    /// Writes a row.
    fn push(&mut self, row: &Row) -> io::Result<()>;

    /// Makes what was written readable to others.
    fn flush(&mut self) -> io::Result<()>;
}

impl<D: Destination> Store for Writer<D> {
    fn push(&mut self, row: &Row) -> io::Result<()> {
        self.push(row)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.flush()
    }
}

/// The trace that is being written, and what the summary says of it.
struct Trace<S> {
    store: S,
    /// Which faults are written: some were recorded that are not asked for, as their fate was not known.
    selection: SelectionArgs,
    /// By CPU, attempts that were recorded and are not written.
    left_out: BTreeMap<u32, u64>,
    counts: RowCounts,
}

impl Trace<Writer<&mut Output>> {
    /// Writes the account and the end; returns the bytes of all.
    fn write_end(&mut self, accounts: &Accounts, how: &How, time_ns: u64) -> io::Result<u64> {
        for row in account_rows(accounts, how, time_ns, self.counts.tally.attempts()) {
            self.store.push(&Row::Counter(row))?;
        }
        let bytes = self.store.finish()?;
        self.store.set_account(&accounts.all)?;
        Ok(bytes)
    }
}

impl<S> Trace<S> {
    /// No row yet.
    fn new(store: S, arguments: &args::Record, how: &How) -> Self {
        Self {
            store,
            selection: arguments.selection.clone(),
            left_out: BTreeMap::new(),
            counts: RowCounts::new(how.latency, how.stacks != Stacks::None),
        }
    }

    /// Counts what was not written as passed over.
    fn account_for_left_out(&self, accounts: &mut Accounts) {
        for (&cpu, &count) in &self.left_out {
            let of_cpu = accounts.cpus.iter_mut().filter(|(other, _)| *other == cpu);
            for (_, account) in of_cpu {
                account.leave_out(count);
            }
            accounts.all.leave_out(count);
        }
    }
}

impl<S: Store> Consumer for Trace<S> {
    fn row(&mut self, row: &Row) -> io::Result<()> {
        match row {
            Row::Fault(fault) if !self.selection.admits(fault) => {
                *self.left_out.entry(fault.fault.cpu).or_default() += u64::from(fault.attempts);
                return Ok(());
            }
            Row::Pending(fault) if !self.selection.admits(fault) => return Ok(()),
            _ => {}
        }
        self.counts.add(row);
        self.store.push(row)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.store.flush()
    }
}

/// The rows of the account, and the one that ends the trace.
fn account_rows(accounts: &Accounts, how: &How, time_ns: u64, attempts: u64) -> Vec<CounterRow> {
    let mut rows = Vec::new();
    for (cpu, account) in &accounts.cpus {
        rows.extend(counter_rows(account, Some(*cpu), time_ns));
    }
    rows.extend(last_rows(
        &accounts.all,
        how.latency.then_some(accounts.missed_returns),
        time_ns,
        attempts,
    ));
    rows
}

/// The rows of what belongs to a CPU, or of all together.
fn counter_rows(account: &Account, cpu: Option<u32>, time_ns: u64) -> Vec<CounterRow> {
    let Account {
        hits,
        recorded,
        dropped,
        overwritten,
        missed: _,
        sideband_dropped,
        deaf: _,
        passed_over,
    } = *account;
    let counts = [
        (Counter::Hits, hits),
        (Counter::Recorded, recorded),
        (Counter::Dropped, dropped),
        (Counter::Overwritten, overwritten),
        (Counter::PassedOver, passed_over),
        (Counter::SidebandDropped, sideband_dropped),
    ];
    let is_said = |counter, count| {
        count != 0 || !matches!(counter, Counter::PassedOver | Counter::SidebandDropped)
    };
    let rows = counts
        .into_iter()
        .filter(|(counter, count)| is_said(*counter, *count));
    rows.map(|(counter, count)| CounterRow {
        counter,
        time_ns,
        cpu,
        count,
    })
    .collect()
}

/// The rows of what belongs to no CPU, and the one that ends the trace. Missed returns are those of recordings with
/// durations.
fn last_rows(
    account: &Account,
    missed_returns: Option<u64>,
    time_ns: u64,
    attempts: u64,
) -> Vec<CounterRow> {
    let deaf = Some(account.deaf).filter(|deaf| *deaf != 0);
    let counts = [
        (Counter::Missed, Some(account.missed)),
        (Counter::Deaf, deaf),
        (Counter::MissedReturns, missed_returns),
        (Counter::End, Some(attempts)),
    ];
    let rows = counts
        .into_iter()
        .filter_map(|(counter, count)| Some((counter, count?)));
    rows.map(|(counter, count)| CounterRow {
        counter,
        time_ns,
        cpu: None,
        count,
    })
    .collect()
}
