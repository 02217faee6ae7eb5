// SPDX-License-Identifier: GPL-2.0-only

//! Opens traces: the one way in of all commands that read one.

use std::{
    fs::File,
    io::{self, BufReader, Read, Seek as _},
    os::{fd::AsFd as _, unix::fs::FileExt as _},
    path::{Path, PathBuf},
};

use anyhow::{bail, Context as _};
use fault_tracer_symbols::Symbolizer;
use fault_tracer_trace::{
    export::ByTime,
    file::{ReadError, Reader},
    Metadata,
};

use crate::{exit, say};

/// A trace that is being read.
pub type Trace = Reader<Box<dyn Read>>;

/// Opens a trace; `-` is standard input.
pub fn open(path: &Path) -> anyhow::Result<Trace> {
    let input: Box<dyn Read> = if path.as_os_str() == "-" {
        Box::new(io::stdin().lock())
    } else {
        let file =
            File::open(path).with_context(|| format!("{} cannot be opened", path.display()))?;
        Box::new(BufReader::with_capacity(1 << 18, file))
    };
    Reader::new(input).with_context(|| path.display().to_string())
}

/// Finds the symbols of a trace's code, also in the folder that `archive` has made beside it.
pub fn symbols(file: &Path, metadata: &Metadata, debug_dirs: &[PathBuf]) -> Symbolizer {
    let mut folders = debug_dirs.to_vec();
    let kept = archive(file);
    if kept.is_dir() {
        folders.push(kept);
    }
    Symbolizer::new(metadata, &folders)
}

/// Where `archive` keeps the files of a trace's symbols unless told otherwise.
pub fn archive(file: &Path) -> PathBuf {
    if file.as_os_str() == "-" {
        "faults.symbols".into()
    } else {
        file.with_extension("symbols")
    }
}

/// A trace whose rows are needed in the order of their times, for which it may be read twice.
pub struct Twice {
    first: Trace,
    again: Span,
}

/// Opens a trace that may be read twice; `-` is standard input. What can be read but once, as a pipe, is kept in a
/// temporary file.
pub fn open_twice(path: &Path) -> anyhow::Result<Twice> {
    let cannot = || format!("{} cannot be read", path.display());
    let mut file = if path.as_os_str() == "-" {
        let stdin = io::stdin().as_fd().try_clone_to_owned();
        File::from(stdin.with_context(cannot)?)
    } else {
        File::open(path).with_context(|| format!("{} cannot be opened", path.display()))?
    };
    if file.stream_position().is_err() {
        let mut kept =
            tempfile::tempfile().context("a temporary file cannot be made; see TMPDIR")?;
        io::copy(&mut file, &mut kept).with_context(cannot)?;
        kept.rewind().with_context(cannot)?;
        file = kept;
    }
    // A reader of its own, at the same position.
    let position = file.stream_position().with_context(cannot)?;
    let first = Span {
        file: file.try_clone().with_context(cannot)?,
        position,
    };
    let first: Box<dyn Read> = Box::new(BufReader::with_capacity(1 << 18, first));
    Ok(Twice {
        first: Reader::new(first).with_context(|| path.display().to_string())?,
        again: Span { file, position },
    })
}

impl Twice {
    /// What the trace says of itself.
    pub fn metadata(&self) -> &Metadata {
        self.first.metadata()
    }

    /// Its rows in their own order.
    pub fn in_written_order(self) -> Trace {
        self.first
    }

    /// Its rows in the order of their times.
    pub fn by_time(self) -> Result<ByTime<Trace>, ReadError> {
        let Self { first, again } = self;
        ByTime::new(first, || {
            let again: Box<dyn Read> = Box::new(BufReader::with_capacity(1 << 18, again));
            Reader::new(again)
        })
    }
}

/// What a file holds from a position on, whatever others read of it.
struct Span {
    file: File,
    position: u64,
}

impl Read for Span {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(to, self.position)?;
        self.position += count as u64;
        Ok(count)
    }
}

/// Says why a trace cannot be read to its end. The exit status of a command that takes one that was cut off for whole.
pub fn report(path: &Path, error: ReadError) -> u8 {
    let cut_off = matches!(error, ReadError::CutOff { .. });
    say(&format!(
        "{}: {:#}",
        path.display(),
        anyhow::Error::from(error)
    ));
    if cut_off {
        0
    } else {
        exit::FAILED
    }
}

/// Refuses to write over the trace that is read, or over another one.
pub fn refuse_to_overwrite(input: &Path, output: Option<&Path>) -> anyhow::Result<()> {
    let to = output.map(Path::canonicalize);
    if let (Ok(from), Some(Ok(to))) = (input.canonicalize(), to) {
        if from == to {
            bail!(
                "{} would be written over while it is read: name another output",
                from.display()
            );
        }
    }
    let there = output.filter(|path| path.is_file()).map(File::open);
    if let Some(Ok(file)) = there {
        if Reader::new(BufReader::new(file)).is_ok() {
            bail!("the output is a recording itself, which would be lost: name another output");
        }
    }
    Ok(())
}
