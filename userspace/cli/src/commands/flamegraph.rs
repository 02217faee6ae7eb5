// SPDX-License-Identifier: GPL-2.0-only

//! `fault-tracer flamegraph`: the stacks of a trace as a picture.

use std::{io, path::PathBuf};

use anyhow::{anyhow, bail, Context as _};
use clap::Args;
use fault_tracer_trace::{
    export::{export, Ended, Format, Options},
    Row,
};
use inferno::flamegraph;

use crate::{
    args::WeightName,
    input,
    output::{refuse_mixture, Former, Output},
    text::progress::shown,
};

/// The end of the help.
pub const MORE: &str = "\
The picture is an SVG file that browsers show: a click on a frame enlarges it, Ctrl-F finds functions. The width of a \
frame is what the faults of all that it called come to. [cut off] stands for callers that are not known, as the stack was \
longer than what was recorded, or as a file does not say how its code is left; [unknown] is code that no file has.

Exit status: 0, also for a trace that was cut off; 1 if it is damaged or has no stacks, or FILE cannot be written.

Examples:
  fault-tracer record -g -- make -j4
  fault-tracer flamegraph faults.arrows
  fault-tracer flamegraph faults.arrows --weight pages -o pages.svg";

/// What `flamegraph` takes.
#[derive(Args, Debug)]
pub struct Arguments {
    /// The trace that `fault-tracer record -g` has written; - is standard input
    #[arg(value_name = "FILE")]
    pub file: PathBuf,

    /// Write to FILE instead of FILE with the extension svg; - is standard output
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,

    /// What the width of a frame is
    #[arg(long, value_enum, default_value = "faults")]
    pub weight: WeightName,

    /// Look for symbols also in DIR, by build id (DIR/.build-id/xx/yyyy.debug) or path (DIR/usr/bin/...)
    #[arg(long = "debug-dir", value_name = "DIR")]
    pub debug_dirs: Vec<PathBuf>,
}

impl Arguments {
    /// Where the picture goes; `None` is standard output.
    fn output(&self) -> Option<PathBuf> {
        match &self.output {
            Some(output) if output.as_os_str() == "-" => None,
            Some(output) => Some(output.clone()),
            None if self.file.as_os_str() == "-" => None,
            None => Some(self.file.with_extension("svg")),
        }
    }
}

/// Runs the subcommand; returns the exit status.
pub fn run(arguments: &Arguments) -> anyhow::Result<u8> {
    let trace = input::open(&arguments.file)?;
    let metadata = trace.metadata().clone();
    let path = arguments.output();
    input::refuse_to_overwrite(&arguments.file, path.as_deref())?;
    refuse_mixture(path.as_deref(), false, false)?;
    if arguments.weight == WeightName::Time && !metadata.latency {
        bail!("the trace has no durations: record it with --latency, or choose another --weight");
    }
    let mut symbols = input::symbols(&arguments.file, &metadata, &arguments.debug_dirs);
    let mut has_stacks = false;
    let rows = shown(trace, "read", true).inspect(|row| {
        if let Ok(Row::Fault(fault)) = row {
            has_stacks |= fault.stack.is_some();
        }
    });
    let options = Options {
        weight: arguments.weight.into(),
        ..Options::default()
    };
    let mut folded = Vec::new();
    let ended = export(
        Format::Folded,
        options,
        &metadata,
        rows,
        &mut symbols,
        None,
        &mut folded,
    );
    super::say_notes(&symbols.notes());
    let error = match ended {
        Ended::Rows(error) => error,
        Ended::Output(error) => return Err(error.into()),
    };
    if !has_stacks {
        bail!("the trace has no stacks: record it with -g");
    }
    let picture = picture(&folded, &metadata.command, arguments.weight)?;
    let mut output = Output::open(path.as_deref(), Former::Replaced)?;
    let name = output.name();
    let cannot = || format!("{name} cannot be written");
    output.begin().with_context(cannot)?;
    match io::Write::write_all(&mut output, &picture).and_then(|()| io::Write::flush(&mut output)) {
        // Whoever reads the other end has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(0),
        other => other.with_context(cannot)?,
    }
    Ok(error.map_or(0, |error| input::report(&arguments.file, error)))
}

/// Folded stacks as SVG.
fn picture(folded: &[u8], command: &str, weight: WeightName) -> anyhow::Result<Vec<u8>> {
    let mut options = flamegraph::Options::default();
    options.title = format!("Page faults of {command}");
    options.count_name = match weight {
        WeightName::Faults => "faults",
        WeightName::Time => "ns",
        WeightName::Pages => "pages",
    }
    .into();
    // The same trace makes the same picture.
    options.deterministic = true;
    let mut picture = Vec::new();
    flamegraph::from_reader(&mut options, folded, &mut picture)
        .map_err(|error| anyhow!("the picture cannot be drawn: {error}"))?;
    Ok(picture)
}
