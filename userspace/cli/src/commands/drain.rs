// SPDX-License-Identifier: GPL-2.0-only

//! `fault-tracer drain`: the faults as CSV, as the module records them.

use std::{
    io::{self, Write},
    time::Duration,
};

use fault_tracer_analysis::Tally;
use fault_tracer_client::{uapi::FaultRecord, Clock, Record, Rings, Stacks};
use fault_tracer_recorder::{Failure, Recording, Sink};
use fault_tracer_trace::{
    csv::{Preamble, Writer},
    file::Destination as _,
    Fault,
};

use crate::{
    args::{self, HookName},
    launch::{self, How, Launch, Live},
    output::{refuse_mixture, Former, Output},
    text::summary::Ended,
};

/// Lines are written out this often, so that a reader at the other end of a pipe sees them.
const PERIOD: Duration = Duration::from_millis(500);

const HOW: How = How {
    sideband: false,
    latency: false,
    stacks: Stacks::None,
    hook: HookName::Kprobe,
    clock: Clock::Monotonic,
    duration: None,
    on_demand: false,
};

/// Runs the subcommand; returns the exit status.
pub fn run(arguments: &args::Drain) -> anyhow::Result<u8> {
    let path = arguments.output.as_deref();
    refuse_mixture(path, !arguments.target.command.is_empty(), false)?;
    let launch = Launch::set_up(&arguments.target, &HOW)?;
    let mut output = Output::open(path, Former::Renamed)?;
    let mut live = launch.start()?;
    let result = drain(&mut live, &mut output, arguments.comments);
    let name = output.name();
    drop(output);
    live.end(result, &name)
}

fn drain(live: &mut Live, output: &mut Output, comments: bool) -> Result<Ended, Failure> {
    let wall = live.session().time(HOW.clock)?.wall;
    let preamble = Preamble {
        version: env!("CARGO_PKG_VERSION").into(),
        kernel: launch::kernel(),
        command: live.what().into(),
        clock: HOW.clock.name().into(),
        wall_offset_ns: wall.offset_ns,
        wall_error_ns: wall.error_ns,
        page_size: live.page_size(),
    };
    let writer = output
        .begin()
        .and_then(|()| Writer::new(WholeLines::new(output), comments.then_some(&preamble)))
        .map_err(Failure::Output)?;
    let session = live.session();
    // By calls: the session of the module's parameters may have been drained by others before, and
    // may be again.
    let rings = Rings::by_call(&session)?;
    let lines = Lines {
        writer,
        tally: Tally::new(),
    };
    let mut recording = Recording::new(&session, rings, HOW.clock, lines)?;
    while let Some(due) = live.next_round(PERIOD)? {
        recording.round(due)?;
    }
    recording.take_rest()?;

    let account = recording.accounts()?.all;
    let (taken_before, late) = (recording.taken_before(), recording.late());
    let Lines { writer, tally } = recording.into_sink();
    writer.finish(&account).map_err(Failure::Output)?;
    Ok(Ended {
        account,
        tally,
        taken_before,
        late,
        stray_returns: 0,
        // What the lines of faults do not say.
        details: vec![format!(
            "times are nanoseconds of {}; add {} for nanoseconds since 1970 (known to {} ns)",
            preamble.clock, preamble.wall_offset_ns, preamble.wall_error_ns
        )],
    })
}

/// Writes faults as lines.
struct Lines<'a> {
    writer: Writer<WholeLines<'a>>,
    tally: Tally,
}

impl Sink for Lines<'_> {
    type Kept = FaultRecord;

    /// The side-band is not drained to CSV.
    fn keep(&mut self, _: u32, record: Record) -> Option<FaultRecord> {
        match record {
            Record::Fault(record) => Some(record),
            _ => None,
        }
    }

    fn take(&mut self, cpu: u32, record: FaultRecord) -> io::Result<()> {
        let fault = Fault::from_record(cpu, &record);
        self.tally.add(&fault, 1);
        self.writer.write(&fault)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }

    fn finish(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An output that ends with a whole line also where there is no room for more.
struct WholeLines<'a> {
    output: &'a mut Output,
    /// Bytes that were written, and those of them that are whole lines.
    written: u64,
    whole: u64,
}

impl<'a> WholeLines<'a> {
    fn new(output: &'a mut Output) -> Self {
        Self {
            output,
            written: 0,
            whole: 0,
        }
    }
}

impl Write for WholeLines<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let error = match self.output.write(bytes) {
            Ok(count) => {
                let end = bytes[..count].iter().rposition(|&byte| byte == b'\n');
                if let Some(end) = end {
                    self.whole = self.written + end as u64 + 1;
                }
                self.written += count as u64;
                return Ok(count);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Err(error),
            Err(error) => error,
        };
        if let Some(file) = self.output.changeable() {
            file.cut_to(self.whole).map_err(|second| {
                io::Error::other(format!(
                    "{error}; and the torn line cannot be cut off: {second}"
                ))
            })?;
        }
        Err(error)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}
