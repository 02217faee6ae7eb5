// SPDX-License-Identifier: GPL-2.0-only

//! Traces in the formats of others.
//!
//! Each is a pure function from rows to bytes. Attempts ([`Fate::Retried`](crate::Fate)) are rows in
//! formats that have a row for each fault, and are left out where faults are counted.

use std::io::{self, Write};

use crate::{About, Code, Name, Row};

mod csv;
mod folded;
mod jsonl;
mod parquet;
mod perf_script;
mod perfetto;

/// A format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Comma-separated values: the columns of `drain`, and behind them what was resolved.
    Csv,
    /// A JSON object on each line, of all events.
    Jsonl,
    /// `process;thread;mapping;symbol count`, as flame graph programs take it.
    Folded,
    /// Chrome's trace event JSON, which ui.perfetto.dev opens.
    Perfetto,
    /// The text of `perf script`.
    PerfScript,
    /// Apache Parquet: all rows, with the columns of the trace file and those of the symbols.
    Parquet,
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Csv,
        Self::Jsonl,
        Self::Folded,
        Self::Perfetto,
        Self::PerfScript,
        Self::Parquet,
    ];
}

/// What stands at a place in code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Symbol {
    /// Its name, demangled.
    pub name: Name,
    /// How far behind its beginning the place is.
    pub offset: u64,
}

/// Finds symbols.
pub trait Symbols {
    /// The symbol of code that ran at a time of the trace, if it can be known.
    fn symbol(&mut self, code: &Code, time_ns: u64) -> Option<Symbol>;
}

/// Knows no symbols.
impl Symbols for () {
    fn symbol(&mut self, _: &Code, _: u64) -> Option<Symbol> {
        None
    }
}

/// Takes rows and writes bytes.
trait Export {
    /// Takes the next row, and the symbol of its instruction pointer.
    fn row(&mut self, row: &Row, symbol: Option<&Symbol>, out: &mut dyn Write) -> io::Result<()>;

    /// Writes what is left.
    fn end(&mut self, out: &mut dyn Write) -> io::Result<()>;
}

/// Why an export ended.
#[derive(Debug)]
pub enum Ended<E> {
    /// The rows ended, or `E` ended them; what came before is written.
    Rows(Option<E>),
    /// The output cannot be written.
    Output(io::Error),
}

/// Writes rows in a format. An error among the rows ends them; what came before makes a whole output.
pub fn export<E>(
    format: Format,
    about: &About,
    rows: impl IntoIterator<Item = Result<Row, E>>,
    symbols: &mut dyn Symbols,
    out: &mut dyn Write,
) -> Ended<E> {
    let run = || {
        let mut export: Box<dyn Export> = match format {
            Format::Csv => Box::new(csv::Csv::begin(about, out)?),
            Format::Jsonl => Box::new(jsonl::Jsonl),
            Format::Folded => Box::new(folded::Folded::default()),
            Format::Perfetto => Box::new(perfetto::Perfetto::begin(about, out)?),
            Format::PerfScript => Box::new(perf_script::PerfScript),
            Format::Parquet => Box::new(parquet::Parquet::begin(about)?),
        };
        let mut error = None;
        for row in rows {
            match row {
                Ok(row) => {
                    let symbol = match &row {
                        Row::Fault(fault) | Row::Pending(fault) => fault
                            .code
                            .as_ref()
                            .and_then(|code| symbols.symbol(code, fault.fault.time_ns)),
                        _ => None,
                    };
                    export.row(&row, symbol.as_ref(), out)?;
                }
                Err(end) => {
                    error = Some(end);
                    break;
                }
            }
        }
        export.end(out)?;
        out.flush()?;
        Ok(error)
    };
    match run() {
        Ok(error) => Ended::Rows(error),
        Err(error) => Ended::Output(error),
    }
}

#[cfg(test)]
mod tests;
