// SPDX-License-Identifier: GPL-2.0-only

//! `fault-tracer export`: a trace in the format of another program.

use std::{
    fs,
    io::{self, BufWriter, IsTerminal as _, Write as _},
    path::Path,
};

use anyhow::{bail, Context as _};
use fault_tracer_plot::{Processes, Scene};
use fault_tracer_trace::{
    export::{export, Bands, Ended, Format, Options},
    file::ReadError,
};

use crate::{
    args, input,
    output::{refuse_mixture, Former, Output},
    text::progress::shown,
};

/// Runs the subcommand; returns the exit status.
pub fn run(arguments: &args::Export) -> anyhow::Result<u8> {
    // Before the output is touched: it may be the same file by mistake.
    let trace = input::open_twice(&arguments.file)?;
    let metadata = trace.metadata().clone();
    let format: Format = arguments.format().context("no format is named")?.into();
    let path = arguments.output.as_deref();
    input::refuse_to_overwrite(&arguments.file, path)?;
    let is_binary = matches!(format, Format::Parquet | Format::Arrow);
    refuse_mixture(path, false, is_binary)?;
    let mut output = Output::open(path, Former::Replaced)?;
    let name = output.name();
    output
        .begin()
        .with_context(|| format!("{name} cannot be written"))?;
    let mut output = BufWriter::with_capacity(1 << 18, output);
    // There, its lines show how far it is.
    let is_on_terminal = path.is_none() && io::stdout().is_terminal();
    let mut symbols = input::symbols(&arguments.file, &metadata, &arguments.debug_dirs);

    let rows: Box<dyn Iterator<Item = _>> = match format {
        // Their order is that of names, or reported by each entry.
        Format::Folded | Format::Perfetto => Box::new(trace.in_written_order()),
        _ => Box::new(trace.by_time()?),
    };
    let scene = if arguments.bands {
        layout(&arguments.file, format)?
    } else {
        None
    };
    let mut of_scene = scene.as_ref().map(Scene::bands);
    let mut none = ();
    let bands: Option<&mut dyn Bands> = match &mut of_scene {
        Some(bands) => Some(bands),
        None if arguments.bands => Some(&mut none),
        None => None,
    };
    let options = Options {
        events: arguments.events,
        comments: arguments.comments,
        weight: arguments.weight.into(),
        microseconds: false,
    };
    let ended = export(
        format,
        options,
        &metadata,
        shown(rows, "exported", !is_on_terminal),
        &mut symbols,
        bands,
        &mut output,
    );
    super::say_notes(&symbols.notes());
    match ended {
        Ended::Rows(None) => Ok(0),
        Ended::Rows(Some(error)) => {
            output
                .flush()
                .with_context(|| format!("{name} cannot be written"))?;
            Ok(input::report(&arguments.file, error))
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

/// Writes all rows of a trace as a Parquet file, which gets its name when it is whole and on the disk. Returns what is to be
/// said of symbols. A trace that was cut off is taken as far as it goes.
pub fn table(trace: &Path, to: &Path) -> anyhow::Result<Vec<String>> {
    let mut part = to.file_name().unwrap_or_default().to_owned();
    part.push(".part");
    let part = to.with_file_name(part);
    let written = write_table(trace, &part);
    let written = written.and_then(|notes| {
        fs::rename(&part, to).with_context(|| format!("{} cannot be made", to.display()))?;
        Ok(notes)
    });
    if written.is_err() {
        // Whatever there is of it is of no use; the first error is the one that counts.
        let _ = fs::remove_file(&part);
    }
    written
}

fn write_table(trace: &Path, to: &Path) -> anyhow::Result<Vec<String>> {
    let cannot = || format!("{} cannot be written", to.display());
    let rows = input::open_twice(trace)?;
    let metadata = rows.metadata().clone();
    let mut output = Output::open(Some(to), Former::Replaced)?;
    output.begin().with_context(cannot)?;
    let mut output = BufWriter::with_capacity(1 << 18, output);
    let mut symbols = input::symbols(trace, &metadata, &[]);
    let options = Options {
        events: true,
        microseconds: true,
        ..Options::default()
    };
    let ended = export(
        Format::Parquet,
        options,
        &metadata,
        rows.by_time()?,
        &mut symbols,
        None,
        &mut output,
    );
    match ended {
        Ended::Rows(None | Some(ReadError::CutOff { .. })) => {}
        Ended::Rows(Some(error)) => {
            return Err(error).with_context(|| trace.display().to_string());
        }
        Ended::Output(error) => return Err(error).with_context(cannot),
    }
    let output = output.into_inner().map_err(io::IntoInnerError::into_error);
    output
        .and_then(|output| output.sync())
        .with_context(cannot)?;
    Ok(symbols.notes())
}

/// Lays the trace out as pictures are, by a reading of its own; nothing where it has no fault.
fn layout(path: &Path, format: Format) -> anyhow::Result<Option<Scene>> {
    if !matches!(
        format,
        Format::Csv | Format::Jsonl | Format::Parquet | Format::Arrow
    ) {
        bail!("--bands adds columns to csv, jsonl, parquet and arrow: this format has none");
    }
    if !path.is_file() {
        bail!("--bands reads the trace more than once: name a file, not a pipe");
    }
    let trace = input::open_twice(path)?;
    let metadata = trace.metadata().clone();
    // An error among the rows is reported by the export itself.
    match Scene::of(metadata, trace.by_time()?, &mut (), Processes::Together) {
        Ok((scene, _)) => Ok(Some(scene)),
        Err((fault_tracer_plot::Error::Empty, _)) => Ok(None),
        Err((error, _)) => Err(error).with_context(|| path.display().to_string()),
    }
}
