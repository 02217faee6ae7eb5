// SPDX-License-Identifier: GPL-2.0-only

//! Traces in the formats of others.
//!
//! Each is a pure function from rows to bytes. Tables (CSV, JSON lines, Parquet, Arrow) have a row for each fault, and
//! with [`Options::events`] one for each other row of the trace. Attempts ([`Fate::Retried`](crate::Fate)), which
//! recordings with attempts apart have, are rows there, too, and are left out where faults are counted.
//!
//! Rows are written in the order in which they come: [`ByTime`] puts them in that of their times.

use std::io::{self, Write};

use crate::{Code, Fault, Metadata, Name, ResolvedFault, Row, ThreadRow};

mod arrow;
mod csv;
mod folded;
mod jsonl;
mod order;
mod parquet;
mod perf_script;
mod perfetto;
mod table;
mod wall_time;

pub use order::ByTime;

/// A format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Comma-separated values: the columns of `drain`, and behind them what was resolved.
    Csv,
    /// A JSON object on each line.
    Jsonl,
    /// `process;thread;mapping;symbol count`, as flame graph programs take it.
    Folded,
    /// Chrome's trace event JSON, which ui.perfetto.dev opens.
    Perfetto,
    /// The text of `perf script`.
    PerfScript,
    /// Apache Parquet.
    Parquet,
    /// The Arrow IPC file format.
    Arrow,
}

/// What is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// In tables: all rows of the trace, not the faults alone.
    pub events: bool,
    /// In CSV: what the trace says of itself, and the account, as comments.
    pub comments: bool,
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Csv,
        Self::Jsonl,
        Self::Folded,
        Self::Perfetto,
        Self::PerfScript,
        Self::Parquet,
        Self::Arrow,
    ];
}

/// What stands at a place in code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Symbol {
    /// Its name, demangled.
    pub name: Name,
    /// How far behind its beginning the place is.
    pub offset: u64,
    /// How long it is in bytes, where that is known.
    pub bytes: Option<u64>,
}

/// Finds symbols.
pub trait Symbols {
    /// The symbol of code that ran at a time of the trace, if it can be known.
    fn symbol(&mut self, code: &Code, time_ns: u64) -> Option<Symbol>;

    /// The source line of such code, as `file:line`, if it can be known.
    fn line(&mut self, _code: &Code, _time_ns: u64) -> Option<Name> {
        None
    }

    /// The symbol of code that is in no file, such as a JIT compiler makes, at an address of a process at a time of
    /// the trace, if it can be known.
    fn jitted(&mut self, _pid: u32, _ip: u64, _time_ns: u64) -> Option<Symbol> {
        None
    }

    /// The symbol of a fault's instruction pointer, if it can be known.
    fn of(&mut self, fault: &ResolvedFault) -> Option<Symbol> {
        let Fault {
            time_ns, pid, ip, ..
        } = fault.fault;
        match &fault.code {
            Some(code) => self.symbol(code, time_ns),
            None => self.jitted(pid, ip, time_ns),
        }
    }

    /// Takes a row of a thread, before the faults behind it.
    fn thread(&mut self, _row: &ThreadRow) {}
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
    options: Options,
    metadata: &Metadata,
    rows: impl IntoIterator<Item = Result<Row, E>>,
    symbols: &mut dyn Symbols,
    out: &mut dyn Write,
) -> Ended<E> {
    let run = || {
        let mut export: Box<dyn Export> = match format {
            Format::Csv => Box::new(csv::Csv::begin(metadata, options, out)?),
            Format::Jsonl => Box::new(jsonl::Jsonl::new(metadata, options.events)),
            Format::Folded => Box::new(folded::Folded::default()),
            Format::Perfetto => Box::new(perfetto::Perfetto::begin(metadata, out)?),
            Format::PerfScript => Box::new(perf_script::PerfScript),
            Format::Parquet => Box::new(parquet::Parquet::begin(metadata, options.events)?),
            Format::Arrow => Box::new(arrow::Arrow::begin(metadata, options.events)?),
        };
        let mut error = None;
        for row in rows {
            match row {
                Ok(row) => {
                    let symbol = match &row {
                        Row::Fault(fault) | Row::Pending(fault) => symbols.of(fault),
                        Row::Thread(thread) => {
                            symbols.thread(thread);
                            None
                        }
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
