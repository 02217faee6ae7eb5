// SPDX-License-Identifier: GPL-2.0-only

//! `fault-tracer export`: a trace in the format of another program.

use std::io::{self, BufWriter, Write as _};

use anyhow::{anyhow, Context as _};
use fault_tracer_symbols::Symbolizer;
use fault_tracer_trace::{
    export::{export, Ended},
    file::ReadError,
};

use crate::{args, format::counted, output::Output, say, verify, FAILED};

/// More files without symbols than this are only counted.
const NOTES_MOST: usize = 10;

/// Runs the subcommand; returns the exit status.
pub fn run(arguments: &args::Export) -> anyhow::Result<u8> {
    // Before the output is touched: it may be the same file by mistake.
    let rows = verify::open(&arguments.file)?;
    let about = rows.about().clone();
    if let (Ok(from), Some(Ok(to))) = (
        arguments.file.canonicalize(),
        arguments.output.as_ref().map(|path| path.canonicalize()),
    ) {
        if from == to {
            return Err(anyhow!(
                "{} would be written over while it is read: name another output",
                from.display()
            ));
        }
    }
    let mut output = Output::open(arguments.output.as_deref())?;
    let name = output.name();
    output
        .begin()
        .with_context(|| format!("{name} cannot be written"))?;
    let mut output = BufWriter::with_capacity(1 << 18, output);
    let mut symbols = Symbolizer::new(&about, &arguments.debug_dirs);
    let ended = export(
        arguments.format.into(),
        &about,
        rows,
        &mut symbols,
        &mut output,
    );
    tell(symbols.notes());
    match ended {
        Ended::Rows(None) => Ok(0),
        Ended::Rows(Some(error)) => {
            output
                .flush()
                .with_context(|| format!("{name} cannot be written"))?;
            let cut_off = matches!(error, ReadError::CutOff { .. });
            say(&format!(
                "{}: {:#}",
                arguments.file.display(),
                anyhow::Error::from(error)
            ));
            Ok(if cut_off { 0 } else { FAILED })
        }
        // Whoever reads the other end has seen enough.
        Ended::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => {
            // What is left cannot be written either.
            let _ = output.into_parts();
            Ok(0)
        }
        Ended::Output(error) => {
            let _ = output.into_parts();
            Err(error).with_context(|| format!("{name} cannot be written"))
        }
    }
}

/// Says of which files there are no symbols.
fn tell(notes: &[String]) {
    for note in notes.iter().take(NOTES_MOST) {
        say(note);
    }
    if let Some(more @ 1..) = notes.len().checked_sub(NOTES_MOST) {
        say(&format!(
            "no symbols of {} either",
            counted(more as u64, "more file", "more files")
        ));
    }
}
