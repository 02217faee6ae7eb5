// SPDX-License-Identifier: GPL-2.0-only

//! Writing a trace.

use std::{
    collections::HashMap,
    io::{self, Write},
    sync::Arc,
};

use arrow_array::{
    types::{Int64Type, UInt16Type, UInt32Type, UInt64Type},
    Array, ArrayRef, ArrowPrimitiveType, DictionaryArray, PrimitiveArray, RecordBatch, StringArray,
};
use arrow_buffer::Buffer;
use arrow_ipc::{
    writer::{IpcWriteOptions, StreamEncoder},
    CompressionType, MetadataVersion,
};
use arrow_schema::{ArrowError, SchemaRef};

use super::schema::{schema, FewKey, ManyKey, BATCH_ROWS, CARRIED_MOST};
use crate::{csv::push_flags, About, Access, Fate, Kind, Name, Row, EVENTS};

/// A good trade of size against time for these columns: higher levels save little.
const ZSTD_LEVEL: i32 = 5;

/// Of buffers in the file. Nobody maps compressed ones, so that more than the format asks for is a waste.
const ALIGNMENT: usize = 8;

/// Writes a trace, batch by batch.
///
/// Rows of a batch are in order of time. What was not [flushed](Writer::flush) is lost when the writer is
/// dropped.
pub struct Writer<W> {
    out: W,
    schema: SchemaRef,
    encoder: StreamEncoder,
    rows: Vec<Row>,
    written: u64,
    fixed: Fixed,
    names: Dictionaries,
}

impl<W: Write> Writer<W> {
    /// Begins a trace: what is written at once is a whole one without rows.
    ///
    /// # Errors
    ///
    /// Those of `out`.
    pub fn new(out: W, about: &About) -> io::Result<Self> {
        let schema = schema(about);
        let options = IpcWriteOptions::try_new(ALIGNMENT, false, MetadataVersion::V5)
            .and_then(|options| options.try_with_compression(Some(CompressionType::ZSTD)))
            .and_then(|options| options.try_with_compression_level(Some(ZSTD_LEVEL)))
            .map_err(other)?;
        let mut writer = Self {
            encoder: StreamEncoder::try_new_with_options(&schema, options).map_err(other)?,
            out,
            schema,
            rows: Vec::with_capacity(BATCH_ROWS),
            written: 0,
            fixed: Fixed::new(),
            names: Dictionaries::default(),
        };
        writer.write_batch()?;
        Ok(writer)
    }

    /// Adds a row; writes a batch when there are enough.
    ///
    /// # Errors
    ///
    /// Those of `out`.
    pub fn push(&mut self, row: Row) -> io::Result<()> {
        self.rows.push(row);
        if self.rows.len() >= BATCH_ROWS {
            self.write_batch()?;
        }
        Ok(())
    }

    /// Writes out the rows there are.
    ///
    /// # Errors
    ///
    /// Those of `out`.
    pub fn flush(&mut self) -> io::Result<()> {
        if !self.rows.is_empty() {
            self.write_batch()?;
        }
        self.out.flush()
    }

    /// Writes out the rows there are and ends the stream. Returns the bytes of all.
    ///
    /// # Errors
    ///
    /// Those of `out`.
    pub fn finish(mut self) -> io::Result<u64> {
        self.flush()?;
        let end = self.encoder.finish().map_err(other)?;
        let end = joined(&end);
        self.out.write_all(&end)?;
        self.out.flush()?;
        Ok(self.written + end.len() as u64)
    }

    /// Bytes of the batches that were written: after an error, what is behind them is a torn one.
    pub fn written(&self) -> u64 {
        self.written
    }

    fn write_batch(&mut self) -> io::Result<()> {
        self.rows.sort_by_key(Row::time_ns);
        let batch = columns(&self.rows, &self.fixed, &mut self.names)
            .and_then(|columns| RecordBatch::try_new(Arc::clone(&self.schema), columns))
            .map_err(other)?;
        self.rows.clear();
        let bytes = joined(&self.encoder.encode(&batch).map_err(other)?);
        // In one call: a program that is killed leaves whole batches.
        self.out.write_all(&bytes)?;
        self.written += bytes.len() as u64;
        Ok(())
    }
}

fn joined(buffers: &[Buffer]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(buffers.iter().map(Buffer::len).sum());
    for buffer in buffers {
        bytes.extend_from_slice(buffer);
    }
    bytes
}

fn other(error: ArrowError) -> io::Error {
    io::Error::other(error)
}

/// The dictionaries whose values are always the same.
struct Fixed {
    events: ArrayRef,
    kinds: ArrayRef,
    fates: ArrayRef,
    accesses: ArrayRef,
}

impl Fixed {
    fn new() -> Self {
        fn values<'a>(names: impl IntoIterator<Item = &'a str>) -> ArrayRef {
            Arc::new(StringArray::from_iter_values(names))
        }
        Self {
            events: values(EVENTS),
            kinds: values(Kind::ALL.map(Kind::name)),
            fates: values(Fate::ALL.map(Fate::name)),
            accesses: values(Access::ALL.map(Access::name)),
        }
    }
}

/// The names of a column. They are kept from batch to batch, as a dictionary that stays the same is not
/// written again.
#[derive(Default)]
struct Dictionary {
    keys: HashMap<Name, i16>,
    values: Option<ArrayRef>,
}

impl Dictionary {
    /// The column of these names.
    fn column<'a>(
        &mut self,
        names: impl Iterator<Item = Option<&'a Name>> + Clone,
    ) -> Result<ArrayRef, ArrowError> {
        let known = |name: &Name| self.keys.contains_key(name);
        if self.values.is_none() || !names.clone().flatten().all(known) {
            if self.keys.len() > CARRIED_MOST {
                self.keys.clear();
            }
            for name in names.clone().flatten() {
                // CAST: at most `CARRIED_MOST` and `BATCH_ROWS` different names.
                let next = self.keys.len() as i16;
                self.keys.entry(Arc::clone(name)).or_insert(next);
            }
            let mut values: Vec<_> = self.keys.iter().collect();
            values.sort_unstable_by_key(|(_, key)| **key);
            self.values = Some(Arc::new(StringArray::from_iter_values(
                values.iter().map(|(name, _)| name),
            )));
        }
        let keys = names.map(|name| self.keys.get(name?).copied());
        let keys = PrimitiveArray::<ManyKey>::from_iter(keys);
        let values = self
            .values
            .clone()
            .unwrap_or_else(|| Arc::new(StringArray::new_null(0)));
        Ok(Arc::new(DictionaryArray::try_new(keys, values)?))
    }
}

/// The dictionaries of the columns of names.
#[derive(Default)]
struct Dictionaries {
    process: Dictionary,
    thread: Dictionary,
    mapping: Dictionary,
    permissions: Dictionary,
    flags: Dictionary,
    program: Dictionary,
    flag_names: HashMap<u16, Name>,
}

impl Dictionaries {
    /// The texts of the flags of all faults.
    fn name_flags(&mut self, rows: &[Row]) {
        for row in rows {
            if let Row::Fault(fault) | Row::Pending(fault) = row {
                self.flag_names
                    .entry(fault.fault.flags)
                    .or_insert_with_key(|&flags| {
                        let mut text = Vec::new();
                        push_flags(&mut text, flags);
                        String::from_utf8_lossy(&text).into()
                    });
            }
        }
    }
}

/// A column of numbers.
fn numbers<T: ArrowPrimitiveType>(
    rows: &[Row],
    number: impl Fn(&Row) -> Option<T::Native>,
) -> ArrayRef {
    Arc::new(PrimitiveArray::<T>::from_iter(rows.iter().map(number)))
}

/// A column of some of a few names.
fn few(
    rows: &[Row],
    values: &ArrayRef,
    index: impl Fn(&Row) -> Option<usize>,
) -> Result<ArrayRef, ArrowError> {
    // CAST: there are fewer than 128.
    let keys = rows.iter().map(|row| index(row).map(|index| index as i8));
    let keys = PrimitiveArray::<FewKey>::from_iter(keys);
    Ok(Arc::new(DictionaryArray::try_new(
        keys,
        Arc::clone(values),
    )?))
}

/// Times fit in 63 bits for 292 years after the boot.
fn signed(time_ns: u64) -> i64 {
    i64::try_from(time_ns).unwrap_or(i64::MAX)
}

/// The columns of [`super::schema::fields`].
fn columns(
    rows: &[Row],
    fixed: &Fixed,
    names: &mut Dictionaries,
) -> Result<Vec<ArrayRef>, ArrowError> {
    let fault = |row: &Row| match row {
        Row::Fault(fault) | Row::Pending(fault) => Some(fault.fault),
        _ => None,
    };
    macro_rules! of_fault {
        ($row:ident, $fault:ident, $value:expr) => {
            match $row {
                Row::Fault($fault) | Row::Pending($fault) => $value,
                _ => None,
            }
        };
    }
    macro_rules! of_thread {
        ($row:ident, $thread:ident, $value:expr) => {
            match $row {
                Row::Thread($thread) => $value,
                _ => None,
            }
        };
    }
    names.name_flags(rows);
    let flag_names = &names.flag_names;
    let columns: Vec<ArrayRef> = vec![
        few(rows, &fixed.events, |row| Some(row.event_index()))?,
        numbers::<Int64Type>(rows, |row| Some(signed(row.time_ns()))),
        numbers::<UInt16Type>(rows, |row| {
            let cpu = match row {
                Row::Fault(fault) | Row::Pending(fault) => Some(fault.fault.cpu),
                Row::Thread(thread) => Some(thread.cpu),
                Row::Gap(gap) => Some(gap.cpu),
                Row::Lost(lost) => Some(lost.cpu),
                Row::Counter(counter) => counter.cpu,
            };
            // The kernel has at most 8192 CPUs.
            cpu.map(|cpu| u16::try_from(cpu).unwrap_or(u16::MAX))
        }),
        numbers::<UInt32Type>(rows, |row| match row {
            Row::Fault(fault) | Row::Pending(fault) => Some(fault.fault.pid),
            Row::Thread(thread) => Some(thread.pid),
            Row::Gap(gap) => Some(gap.pid),
            Row::Lost(_) | Row::Counter(_) => None,
        }),
        numbers::<UInt32Type>(rows, |row| match row {
            Row::Fault(fault) | Row::Pending(fault) => Some(fault.fault.tid),
            Row::Thread(thread) => Some(thread.tid),
            Row::Gap(gap) => Some(gap.tid),
            Row::Lost(_) | Row::Counter(_) => None,
        }),
        names.process.column(rows.iter().map(|row| match row {
            Row::Fault(fault) | Row::Pending(fault) => fault.process.as_ref(),
            Row::Thread(thread) => thread.process.as_ref(),
            _ => None,
        }))?,
        names.thread.column(rows.iter().map(|row| match row {
            Row::Fault(fault) | Row::Pending(fault) => fault.thread.as_ref(),
            Row::Thread(thread) => thread.thread.as_ref(),
            _ => None,
        }))?,
        few(rows, &fixed.kinds, |row| {
            of_fault!(row, fault, Some(fault.kind as usize))
        })?,
        few(rows, &fixed.fates, |row| match row {
            Row::Fault(fault) => Some(fault.fate as usize),
            _ => None,
        })?,
        few(rows, &fixed.accesses, |row| {
            Some(fault(row)?.access as usize)
        })?,
        numbers::<UInt64Type>(rows, |row| Some(fault(row)?.address)),
        numbers::<UInt64Type>(rows, |row| Some(fault(row)?.ip)),
        names.mapping.column(
            rows.iter()
                .map(|row| of_fault!(row, fault, fault.place.as_ref().map(|place| &place.name))),
        )?,
        names.permissions.column(rows.iter().map(|row| {
            of_fault!(
                row,
                fault,
                fault.place.as_ref().map(|place| &place.permissions)
            )
        }))?,
        numbers::<UInt64Type>(rows, |row| {
            of_fault!(row, fault, fault.place.as_ref()?.file_offset)
        }),
        names
            .flags
            .column(rows.iter().map(|row| flag_names.get(&fault(row)?.flags)))?,
        names.program.column(
            rows.iter()
                .map(|row| of_thread!(row, thread, thread.program.as_ref())),
        )?,
        numbers::<UInt32Type>(rows, |row| of_thread!(row, thread, thread.parent)),
        numbers::<UInt32Type>(rows, |row| of_thread!(row, thread, thread.old_tid)),
        numbers::<UInt64Type>(rows, |row| of_thread!(row, thread, Some(thread.min_flt))),
        numbers::<UInt64Type>(rows, |row| of_thread!(row, thread, Some(thread.maj_flt))),
        numbers::<Int64Type>(rows, |row| match row {
            Row::Gap(gap) => Some(signed(gap.end_ns)),
            Row::Lost(lost) => Some(signed(lost.end_ns)),
            _ => None,
        }),
        numbers::<UInt64Type>(rows, |row| match row {
            Row::Gap(gap) => Some(gap.count),
            Row::Lost(lost) => Some(lost.count),
            Row::Counter(counter) => Some(counter.count),
            _ => None,
        }),
    ];
    debug_assert!(columns.iter().all(|column| column.len() == rows.len()));
    Ok(columns)
}
