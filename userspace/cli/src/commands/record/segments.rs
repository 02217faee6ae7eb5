// SPDX-License-Identifier: GPL-2.0-only

//! `fault-tracer record --rotate`: a recording that goes on in another file again and again. No fault is lost or counted twice
//! between two files: the session runs on, and the rows of one round are the last of a file.

use std::{io, path::Path, time::Instant};

use fault_tracer_client::{Rings, Time};
use fault_tracer_recorder::{Accounts, Failure, Files, Recording, Rows};
use fault_tracer_trace::{file::Writer, Account, Metadata, Row};

use super::{
    add_mappings, counter_rows, files, follow, last_rows, metadata, names, resolver,
    tables::{Folder, Job, Made, Paths, Tables},
    told::Told,
    Store, Trace,
};
use crate::{
    args::{self, values::Rotation},
    launch::{How, Launch, Live},
    output::{Former, Output},
    text::{
        numbers::counted,
        summary::{Ended, RowCounts},
    },
};

/// Runs a recording of many files; returns the exit status.
pub fn run(
    arguments: &args::Record,
    how: &How,
    rotation: Rotation,
    launch: Launch,
) -> anyhow::Result<u8> {
    let host = rustix::system::uname();
    let folder = Folder::make(&arguments.output, &host.nodename().to_string_lossy())?;
    // Before the start: whoever was there may end at once.
    let files = files(arguments, how);
    let mut live = launch.start()?;
    let tables = Tables::begin(&folder, arguments.keep_traces)?;
    let recorded = record(arguments, how, files, &mut live, |metadata, time| {
        Segments::begin(folder, &tables, rotation, metadata, time)
    });
    let made = tables.finish()?;
    let result = recorded.and_then(|recorded| recorded.with_tables(made));
    live.end(result, &name(&arguments.output))
}

fn name(folder: &Path) -> String {
    let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    folder.display().to_string()
}

/// Records until the end.
fn record<'a>(
    arguments: &args::Record,
    how: &How,
    files: Files,
    live: &mut Live,
    begin: impl FnOnce(Metadata, &Time) -> io::Result<Segments<'a>>,
) -> Result<Recorded, Failure> {
    let session = live.session();
    let rings = Rings::by_mapping(&session)?;
    let time = session.time(how.clock).map_err(anyhow::Error::from)?;
    let segments = begin(metadata(arguments, how, live)?, &time).map_err(Failure::Output)?;
    let rows = Rows::new(
        resolver(arguments, live, files),
        Trace::new(segments, arguments, how),
    );
    let mut recording = Recording::new(&session, rings, how.clock, rows)?;
    add_mappings(recording.sink_mut(), &arguments.target.pids);

    let followed = follow(live, &mut recording, |recording| {
        let time = session.time(how.clock).map_err(anyhow::Error::from)?;
        if !recording.sink().consumer().store.is_due(&time) {
            return Ok(());
        }
        let total = total(recording)?;
        let segments = &mut recording.sink_mut().consumer_mut().store;
        segments.go_on(&total, &time).map_err(Failure::Output)
    });
    let ended = followed.and_then(|()| Ok((total(&recording)?, recording.time(how.clock)?)));
    let (late, taken_before) = (recording.late(), recording.taken_before());
    let rows = recording.into_sink();
    let stray_returns = rows.stray_returns();
    let Trace { store, counts, .. } = rows.into_consumer();
    match ended {
        Ok((total, time_ns)) => {
            store.end(&total, time_ns).map_err(Failure::Output)?;
            Ok(Recorded {
                account: total.all,
                counts,
                taken_before,
                late,
                stray_returns,
            })
        }
        Err(error) => {
            // What is there is kept; the first error is the one that counts.
            let _ = store.leave();
            Err(error)
        }
    }
}

/// What the module has counted until now.
fn total(recording: &Recording<'_, Rows<Trace<Segments<'_>>>>) -> Result<Accounts, Failure> {
    let mut accounts = recording.accounts()?;
    recording
        .sink()
        .consumer()
        .account_for_left_out(&mut accounts);
    Ok(accounts)
}

/// A recording that has ended.
struct Recorded {
    account: Account,
    counts: RowCounts,
    taken_before: u64,
    late: u64,
    stray_returns: u64,
}

impl Recorded {
    /// What is to be said of it, and of what has come of its files.
    fn with_tables(self, made: Made) -> Result<Ended, Failure> {
        if made.failed != 0 {
            let failed = counted(made.failed, "table", "tables");
            let error = io::Error::other(format!("{failed} could not be made"));
            return Err(Failure::Output(error));
        }
        let place = format!("in {}", counted(made.tables, "table", "tables"));
        Ok(Ended {
            account: self.account,
            details: self.counts.lines(made.bytes, &place),
            tally: self.counts.tally,
            taken_before: self.taken_before,
            late: self.late,
            stray_returns: self.stray_returns,
        })
    }
}

/// The files of a recording.
struct Segments<'a> {
    folder: Folder,
    tables: &'a Tables,
    rotation: Rotation,
    metadata: Metadata,
    current: Segment,
    told: Told,
    /// What the files before have.
    before: Account,
    missed_returns_before: u64,
}

/// A trace that is being written.
struct Segment {
    paths: Paths,
    writer: Writer<Output>,
    began: Instant,
    day: String,
    /// Rows in it.
    rows: u64,
    /// Attempts of the faults in it.
    attempts: u64,
}

impl Segment {
    fn begin(folder: &Folder, metadata: &Metadata, wall_ns: i64) -> io::Result<Self> {
        let paths = folder.take(wall_ns)?;
        let mut output =
            Output::open(Some(&paths.trace), Former::Renamed).map_err(io::Error::other)?;
        output.begin()?;
        Ok(Self {
            writer: Writer::new(output, metadata)?,
            paths,
            began: Instant::now(),
            day: names::day(wall_ns),
            rows: 0,
            attempts: 0,
        })
    }

    fn push(&mut self, row: &Row) -> io::Result<()> {
        self.rows += 1;
        self.writer.push(row)
    }

    fn into_job(self) -> Job {
        Job {
            paths: self.paths,
            output: self.writer.into_destination(),
        }
    }
}

/// In nanoseconds since 1970.
fn wall_ns(time: &Time) -> i64 {
    // CAST: times fit in 63 bits for 292 years after the boot.
    (time.time_ns as i64).wrapping_add(time.wall.offset_ns)
}

impl<'a> Segments<'a> {
    fn begin(
        folder: Folder,
        tables: &'a Tables,
        rotation: Rotation,
        metadata: Metadata,
        time: &Time,
    ) -> io::Result<Self> {
        Ok(Self {
            current: Segment::begin(&folder, &metadata, wall_ns(time))?,
            folder,
            tables,
            rotation,
            metadata,
            told: Told::new(),
            before: Account::default(),
            missed_returns_before: 0,
        })
    }

    /// Whether the recording is to go on in another file.
    fn is_due(&self, time: &Time) -> bool {
        let Rotation { time: after, bytes } = self.rotation;
        after.is_some_and(|after| self.current.began.elapsed() >= after)
            || bytes.is_some_and(|bytes| self.current.writer.bytes() >= bytes)
            || self.current.day != names::day(wall_ns(time))
    }

    /// Ends the file, and begins the next one.
    fn go_on(&mut self, total: &Accounts, time: &Time) -> io::Result<()> {
        self.metadata.wall_offset_ns = time.wall.offset_ns;
        self.metadata.wall_error_ns = time.wall.error_ns;
        let next = Segment::begin(&self.folder, &self.metadata, wall_ns(time))?;
        let last = std::mem::replace(&mut self.current, next);
        self.told.begin_file();

        // What is in the rings, or waits for its fate, belongs to the next one.
        let mut account = total.all;
        account.count_from(&self.before);
        account.recorded = last.attempts;
        account.hits = account.recorded + account.dropped + account.overwritten;
        self.before.add(&account);
        let missed_returns = total.missed_returns - self.missed_returns_before;
        self.missed_returns_before = total.missed_returns;
        let missed_returns = self.metadata.latency.then_some(missed_returns);
        close(last, &account, missed_returns, time.time_ns, self.tables)
    }

    /// Ends the last file.
    fn end(self, total: &Accounts, time_ns: u64) -> io::Result<()> {
        let mut account = total.all;
        account.count_from(&self.before);
        let missed_returns = total.missed_returns - self.missed_returns_before;
        let missed_returns = self.metadata.latency.then_some(missed_returns);
        close(self.current, &account, missed_returns, time_ns, self.tables)
    }

    /// Leaves the last file without an end: it is made into a table as far as it goes.
    fn leave(self) -> io::Result<()> {
        self.tables.add(self.current.into_job())
    }
}

/// Writes what the account says of a file and the end, and hands it on to be made into a table.
fn close(
    mut segment: Segment,
    account: &Account,
    missed_returns: Option<u64>,
    time_ns: u64,
    tables: &Tables,
) -> io::Result<()> {
    if segment.rows == 0 && *account == Account::default() {
        // Nothing has happened.
        return std::fs::remove_file(&segment.paths.trace);
    }
    let rows = counter_rows(account, None, time_ns)
        .into_iter()
        .chain(last_rows(
            account,
            missed_returns,
            time_ns,
            segment.attempts,
        ));
    for row in rows {
        segment.writer.push(&Row::Counter(row))?;
    }
    segment.writer.finish()?;
    segment.writer.set_account(account)?;
    tables.add(segment.into_job())
}

impl Store for Segments<'_> {
    fn push(&mut self, row: &Row) -> io::Result<()> {
        let mut before = Vec::new();
        let is_known = self.told.tell_for(row, &mut before);
        for row in &before {
            self.current.push(row)?;
        }
        if let Row::Fault(fault) = row {
            self.current.attempts += u64::from(fault.attempts);
        }
        if is_known {
            self.told.see(row);
            return self.current.push(row);
        }
        let mut row = row.clone();
        match &mut row {
            Row::Fault(fault) | Row::Pending(fault) => fault.code = None,
            Row::Frame(frame) => frame.code = None,
            _ => {}
        }
        self.told.see(&row);
        self.current.push(&row)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.current.writer.flush()
    }
}
