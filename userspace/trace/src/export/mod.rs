// SPDX-License-Identifier: GPL-2.0-only

//! Traces in the formats of others.
//!
//! Each is a pure function from rows to bytes. Tables (CSV, JSON lines, Parquet, Arrow) have a row for each fault, and
//! with [`Options::events`] one for each other row of the trace. Attempts ([`Fate::Retried`](crate::Fate)), which
//! recordings with attempts apart have, are rows there, too, and are left out where faults are counted.
//!
//! Rows are written in the order in which they come: [`ByTime`] puts them in that of their times.

use std::io::{self, Write};

use rustc_hash::FxHashMap;

use crate::{Code, Fate, Fault, FrameRow, Metadata, Name, ResolvedFault, Row, Stacks, ThreadRow};

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
    /// `process;thread;mapping;symbol count`, or with the stacks, as flame graph programs take it.
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
    /// In folded stacks: what is counted.
    pub weight: Weight,
    /// In Parquet and Arrow: the column `time` is whole microseconds. Spark refuses tables with nanoseconds, which `time_ns` has
    /// in any case.
    pub microseconds: bool,
}

/// What folded stacks count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Weight {
    /// Faults.
    #[default]
    Faults,
    /// The time in faults, in nanoseconds; of recordings with durations.
    Time,
    /// Different pages that were mapped, those of different processes apart.
    Pages,
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

    /// The symbol of a caller, if it can be known. The address to which a call returns may be that of another function:
    /// the call is before it.
    fn caller(&mut self, frame: &FrameRow) -> Option<Symbol> {
        let mut symbol = match &frame.code {
            Some(code) => {
                let call = Code {
                    object: code.object.clone(),
                    offset: code.offset.wrapping_sub(1),
                };
                self.symbol(&call, frame.time_ns)
            }
            None => self.jitted(frame.pid, frame.address.wrapping_sub(1), frame.time_ns),
        }?;
        symbol.offset = symbol.offset.wrapping_add(1);
        Some(symbol)
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

/// Where a picture has a fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Band {
    /// The number of its panel, from 0, the highest of the picture.
    pub panel: u32,
    /// How far above the panel's bottom the address is, in bytes: holes between mappings are left out.
    pub offset: u64,
    /// The panel's name.
    pub label: Name,
}

/// Knows where pictures have faults.
pub trait Bands {
    /// That of the next fault which counts: attempts ([`Fate::Retried`](crate::Fate)) are not asked for.
    fn next(&mut self) -> Option<Band>;
}

/// Knows of none.
impl Bands for () {
    fn next(&mut self) -> Option<Band> {
        None
    }
}

/// Who called the code that faulted.
#[derive(Clone, Debug)]
struct Caller {
    /// Where the call returns to.
    address: u64,
    /// The name of the file, or of the kernel's own code, that it is in.
    object: Option<Name>,
    symbol: Option<Symbol>,
}

impl Caller {
    /// Its symbol, or what stands for it.
    fn name(&self) -> Name {
        match (&self.symbol, &self.object) {
            (Some(symbol), _) => Name::clone(&symbol.name),
            (None, Some(object)) => unknown_in(object),
            (None, None) => "[unknown]".into(),
        }
    }
}

/// What stands for a symbol that is not known: the name of its object's file.
pub fn unknown_in(object: &str) -> Name {
    let file = object.rsplit('/').next().unwrap_or(object);
    format!("[{}]", file.trim_matches(['[', ']'])).into()
}

/// Stands for callers that are not known, where the stack could not be followed on.
const CUT_OFF: &str = "[cut off]";

/// The names of the code that faulted and of its callers, and where pictures have the fault.
#[derive(Debug, Default)]
struct Names {
    band: Option<Band>,
    symbol: Option<Symbol>,
    /// The caller of the faulting code first.
    callers: Vec<Caller>,
    /// Whether there is a stack, whole or not.
    has_stack: bool,
    /// Whether there are callers that are not known.
    is_cut: bool,
}

impl Names {
    /// The callers, the nearest first; `None` where no stack was recorded.
    fn callers_text(&self, between: &str) -> Option<String> {
        let names = self.callers.iter().map(Caller::name);
        let cut = self.is_cut.then(|| CUT_OFF.into());
        let names: Vec<_> = names.chain(cut).collect();
        self.has_stack.then(|| names.join(between))
    }
}

/// Finds the names of rows.
struct Named<'a> {
    symbols: &'a mut dyn Symbols,
    stacks: Stacks,
    /// The symbols of frames, by their ids.
    callers: FxHashMap<u32, Option<Symbol>>,
    /// By process and object: see [`TextRow::base`](crate::TextRow::base).
    bases: FxHashMap<u32, FxHashMap<Name, u64>>,
}

impl Named<'_> {
    /// Takes the next row and finds its names.
    fn row(&mut self, row: &Row) -> Names {
        match row {
            Row::Fault(fault) | Row::Pending(fault) => self.fault(fault),
            Row::Thread(thread) => {
                self.symbols.thread(thread);
                Names::default()
            }
            Row::Text(text) => {
                let bases = self.bases.entry(text.pid).or_default();
                bases.insert(Name::clone(&text.object.name), text.base());
                Names::default()
            }
            Row::Frame(frame) => {
                self.stacks.add(frame);
                let symbol = self.symbols.caller(frame);
                self.callers.insert(frame.id, symbol.clone());
                Names {
                    symbol,
                    ..Names::default()
                }
            }
            _ => Names::default(),
        }
    }

    fn fault(&mut self, fault: &ResolvedFault) -> Names {
        let symbol = self.symbols.of(fault);
        let Some(stack) = fault.stack else {
            return Names {
                symbol,
                ..Names::default()
            };
        };
        let bases = self.bases.get(&fault.fault.pid);
        let callers = self.stacks.callers(stack).map(|frame| {
            let code = frame.code.as_ref();
            // A frame has the address of the process that was the first to have it.
            let address = code.and_then(|code| {
                let base = bases?.get(&code.object.name)?;
                Some(base.wrapping_add(code.offset))
            });
            Caller {
                address: address.unwrap_or(frame.address),
                object: code.map(|code| Name::clone(&code.object.name)),
                symbol: self.callers.get(&frame.id).cloned().flatten(),
            }
        });
        Names {
            symbol,
            callers: callers.collect(),
            has_stack: true,
            is_cut: !self.stacks.is_whole(stack),
            band: None,
        }
    }
}

/// Which columns tables have beside those of faults.
#[derive(Clone, Copy, Debug)]
struct Columns {
    /// Those of all rows of a trace.
    events: bool,
    /// Those of [`Band`].
    bands: bool,
    /// See [`Options::microseconds`].
    microseconds: bool,
}

/// Takes rows and writes bytes.
trait Export {
    /// Takes the next row, and the names of its code.
    fn row(&mut self, row: &Row, names: &Names, out: &mut dyn Write) -> io::Result<()>;

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

/// Writes rows in a format; tables with the columns of `bands`, if these are given. An error among the rows ends them;
/// what came before makes a whole output.
pub fn export<E>(
    format: Format,
    options: Options,
    metadata: &Metadata,
    rows: impl IntoIterator<Item = Result<Row, E>>,
    symbols: &mut dyn Symbols,
    mut bands: Option<&mut dyn Bands>,
    out: &mut dyn Write,
) -> Ended<E> {
    let run = || {
        let columns = Columns {
            events: options.events,
            bands: bands.is_some(),
            microseconds: options.microseconds,
        };
        let mut export: Box<dyn Export> = match format {
            Format::Csv => Box::new(csv::Csv::begin(metadata, columns, options.comments, out)?),
            Format::Jsonl => Box::new(jsonl::Jsonl::new(metadata, options.events)),
            Format::Folded => Box::new(folded::Folded::new(options.weight, metadata.page_size)),
            Format::Perfetto => Box::new(perfetto::Perfetto::begin(metadata, out)?),
            Format::PerfScript => Box::new(perf_script::PerfScript),
            Format::Parquet => Box::new(parquet::Parquet::begin(metadata, columns)?),
            Format::Arrow => Box::new(arrow::Arrow::begin(metadata, columns)?),
        };
        let mut error = None;
        let mut named = Named {
            symbols,
            stacks: Stacks::default(),
            callers: FxHashMap::default(),
            bases: FxHashMap::default(),
        };
        for row in rows {
            match row {
                Ok(row) => {
                    let mut names = named.row(&row);
                    if matches!(&row, Row::Fault(fault) if fault.fate != Fate::Retried) {
                        names.band = bands.as_mut().and_then(|bands| bands.next());
                    }
                    export.row(&row, &names, out)?;
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
