// SPDX-License-Identifier: GPL-2.0-only

//! The columns of the exports that are tables of typed columns (Parquet, Arrow).
//!
//! Types that do not surprise: numbers are signed, so that differences are right, times have a unit and a zone, and
//! what each fault has is never null.

use std::{io, sync::Arc};

use arrow_array::{
    builder::StringBuilder,
    cast::AsArray as _,
    types::{ArrowDictionaryKeyType, Int32Type, Int64Type, UInt16Type, UInt32Type, UInt64Type},
    Array as _, ArrayRef, ArrowPrimitiveType, Int32Array, Int64Array, PrimitiveArray, RecordBatch,
    StringArray, TimestampMicrosecondArray, TimestampNanosecondArray,
};
use arrow_buffer::ScalarBuffer;
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use rustc_hash::FxHashMap;

use super::{wall_time::WallTime, Columns, Names};
use crate::{
    file::{
        batch::{Batch, SymbolNames},
        schema::{fields, many, schema, FewKey, ManyKey},
    },
    BuildId, Metadata, Name, ResolvedFault, Row,
};

/// The zone of the times.
const UTC: &str = "UTC";

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holds {
    Text,
    Time,
    /// A signed number of 32 bits.
    Number,
    /// A signed number of 64 bits.
    Long,
}

/// In which rows a column has a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum In {
    /// In each row.
    All,
    /// In each fault.
    Faults,
    /// In some faults.
    SomeFaults,
    /// In other events alone.
    Events,
    /// In faults, where pictures have them is asked for.
    Bands,
}

/// The columns and their order.
const COLUMNS: [(&str, Holds, In); 44] = [
    ("event", Holds::Text, In::Events),
    ("time", Holds::Time, In::All),
    ("time_ns", Holds::Long, In::All),
    ("cpu", Holds::Number, In::Faults),
    ("pid", Holds::Number, In::Faults),
    ("tid", Holds::Number, In::Faults),
    ("process", Holds::Text, In::SomeFaults),
    ("thread", Holds::Text, In::SomeFaults),
    ("program", Holds::Text, In::SomeFaults),
    ("kind", Holds::Text, In::Faults),
    ("fate", Holds::Text, In::Faults),
    ("access", Holds::Text, In::Faults),
    ("address", Holds::Long, In::Faults),
    ("mapping", Holds::Text, In::SomeFaults),
    ("permissions", Holds::Text, In::SomeFaults),
    ("file_offset", Holds::Long, In::SomeFaults),
    ("flags", Holds::Text, In::Faults),
    ("ip", Holds::Long, In::Faults),
    ("object", Holds::Text, In::SomeFaults),
    ("ip_offset", Holds::Long, In::SomeFaults),
    ("build_id", Holds::Text, In::SomeFaults),
    ("symbol", Holds::Text, In::SomeFaults),
    ("symbol_offset", Holds::Long, In::SomeFaults),
    ("duration_ns", Holds::Long, In::SomeFaults),
    ("attempts", Holds::Number, In::Faults),
    ("returns", Holds::Number, In::Faults),
    ("page_bytes", Holds::Long, In::SomeFaults),
    ("page_node", Holds::Number, In::SomeFaults),
    ("around", Holds::Number, In::SomeFaults),
    ("stack", Holds::Number, In::SomeFaults),
    ("callers", Holds::Text, In::SomeFaults),
    ("parent", Holds::Number, In::Events),
    ("old_tid", Holds::Number, In::Events),
    ("min_flt", Holds::Long, In::Events),
    ("maj_flt", Holds::Long, In::Events),
    ("end_ns", Holds::Long, In::Events),
    ("count", Holds::Long, In::Events),
    ("device", Holds::Long, In::Events),
    ("inode", Holds::Long, In::Events),
    ("changed_ns", Holds::Long, In::Events),
    ("caller", Holds::Number, In::Events),
    ("panel", Holds::Number, In::Bands),
    ("panel_offset", Holds::Long, In::Bands),
    ("panel_label", Holds::Text, In::Bands),
];

/// How texts are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Texts {
    /// As Arrow's plain strings.
    Plain,
    /// As dictionaries, for a writer that makes plain strings of them.
    Dictionaries,
}

/// Rows, which become columns.
pub struct Table {
    columns: Columns,
    texts: Texts,
    schema: SchemaRef,
    time: WallTime,
    /// The columns that the trace file has, too.
    batch: Batch,
    more: More,
}

/// The columns that the trace file has not, or as something else.
#[derive(Default)]
struct More {
    times: Vec<i64>,
    ips: Vec<Option<i64>>,
    ip_offsets: Vec<Option<i64>>,
    returns: Vec<Option<i32>>,
    build_ids: SymbolNames,
    /// The build id of what has none.
    no_build_id: Option<Name>,
    symbols: SymbolNames,
    symbol_offsets: Vec<Option<i64>>,
    callers: SymbolNames,
    /// The texts of the callers, by stack: so that equal ones are known again.
    callers_of: FxHashMap<u32, Name>,
    panels: Vec<Option<i32>>,
    panel_offsets: Vec<Option<i64>>,
    panel_labels: SymbolNames,
}

impl Table {
    pub fn new(metadata: &Metadata, with: Columns, texts: Texts) -> Self {
        let ours = fields();
        let fields = columns(with).map(|(name, holds, present)| {
            let data_type = match holds {
                Holds::Time => DataType::Timestamp(with.time_unit(), Some(UTC.into())),
                Holds::Number => DataType::Int32,
                Holds::Long => DataType::Int64,
                Holds::Text if texts == Texts::Plain => DataType::Utf8,
                Holds::Text => ours
                    .iter()
                    .find(|field| field.name() == name)
                    .map(|field| field.data_type().clone())
                    .filter(|data_type| *data_type != DataType::Utf8)
                    .unwrap_or_else(many),
            };
            let always = match present {
                In::All => true,
                In::Faults => !with.events,
                In::SomeFaults | In::Bands => false,
                In::Events => name == "event",
            };
            Field::new(name, data_type, !always)
        });
        let metadata_of = schema(metadata).metadata().clone();
        let entries = metadata_of
            .into_iter()
            // Room for longer numbers is of no use here.
            .map(|(key, value)| (key, value.trim_end().to_owned()));
        let schema = Schema::new(fields.collect::<Vec<_>>()).with_metadata(entries.collect());
        Self {
            columns: with,
            texts,
            schema: Arc::new(schema),
            time: WallTime::new(metadata),
            batch: Batch::default(),
            more: More::default(),
        }
    }

    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Whether it holds as many rows as a batch may.
    pub fn is_full(&self) -> bool {
        self.batch.is_full()
    }

    /// Adds a row, if it is to be exported.
    ///
    /// # Panics
    ///
    /// If it [is full](Table::is_full).
    pub fn push(&mut self, row: &Row, names: &Names) {
        if !self.columns.events && !matches!(row, Row::Fault(_)) {
            return;
        }
        let n = self.batch.rows();
        self.batch.push(row);
        let more = &mut self.more;
        more.times.push(self.time.since_1970(row.time_ns()));
        let fault = match row {
            Row::Fault(fault) | Row::Pending(fault) => Some(&**fault),
            _ => None,
        };
        more.push_fault(fault);
        // CAST: a place in a file, or an address of a program.
        let offset = row.object_and_offset().1.map(|offset| offset as i64);
        if let (Some(_), Some(last)) = (offset, more.ip_offsets.last_mut()) {
            *last = offset;
        }
        let object = match row {
            Row::Text(text) => Some(&text.object),
            _ => fault.and_then(|fault| fault.code.as_ref().map(|code| &code.object)),
        };
        let build_id = match object.map(|object| &object.build_id) {
            Some(BuildId::Of(build_id)) => Some(build_id),
            Some(BuildId::Absent) => Some(&*more.no_build_id.get_or_insert_with(|| "".into())),
            Some(BuildId::Unread) | None => None,
        };
        more.build_ids.set_option(n, build_id);
        let symbol = names.symbol.as_ref();
        more.symbols
            .set_option(n, symbol.map(|symbol| &symbol.name));
        more.symbol_offsets
            .push(symbol.map(|symbol| symbol.offset as i64));
        let stack = fault.and_then(|fault| fault.stack);
        let callers = stack.map(|stack| {
            let text = || names.callers_text(";").unwrap_or_default().into();
            &*more.callers_of.entry(stack).or_insert_with(text)
        });
        more.callers.set_option(n, callers);
        let band = names.band.as_ref();
        // CAST: pictures have some thousands of panels of at most 2^44 bytes.
        more.panels.push(band.map(|band| band.panel as i32));
        more.panel_offsets.push(band.map(|band| band.offset as i64));
        more.panel_labels
            .set_option(n, band.map(|band| &band.label));
    }

    /// All rows, of which none are left here.
    pub fn take(&mut self) -> io::Result<RecordBatch> {
        RecordBatch::try_new(Arc::clone(&self.schema), self.take_columns())
            .map_err(io::Error::other)
    }

    fn take_columns(&mut self) -> Vec<ArrayRef> {
        let rows = self.batch.rows();
        let ours: Vec<_> = fields().into_iter().zip(self.batch.take()).collect();
        let more = &mut self.more;
        let times = self.columns.times(std::mem::take(&mut more.times));
        let numbers = |numbers: &mut Vec<Option<i32>>| -> ArrayRef {
            Arc::new(Int32Array::from(std::mem::take(numbers)))
        };
        let longs = |numbers: &mut Vec<Option<i64>>| -> ArrayRef {
            Arc::new(Int64Array::from(std::mem::take(numbers)))
        };
        let added: [(&str, ArrayRef); 11] = [
            ("time", times),
            ("ip", longs(&mut more.ips)),
            ("ip_offset", longs(&mut more.ip_offsets)),
            ("symbol_offset", longs(&mut more.symbol_offsets)),
            ("returns", numbers(&mut more.returns)),
            ("panel", numbers(&mut more.panels)),
            ("panel_offset", longs(&mut more.panel_offsets)),
            ("panel_label", more.panel_labels.take(rows)),
            ("build_id", more.build_ids.take(rows)),
            ("symbol", more.symbols.take(rows)),
            ("callers", more.callers.take(rows)),
        ];
        let texts = self.texts;
        let find = |name: &str| {
            let added = added.iter().find(|(of, _)| *of == name);
            let ours = || ours.iter().find(|(field, _)| field.name() == name);
            added
                .map(|(_, column)| column)
                .or_else(|| ours().map(|(_, column)| column))
        };
        columns(self.columns)
            .filter_map(|(name, holds, _)| Some(converted(find(name)?, holds, texts)))
            .collect()
    }
}

impl More {
    /// What faults alone have.
    fn push_fault(&mut self, fault: Option<&ResolvedFault>) {
        // CAST: addresses of programs are below 2^63, but for those of [vsyscall], which are negative.
        self.ips.push(fault.map(|fault| fault.fault.ip as i64));
        let code = fault.and_then(|fault| fault.code.as_ref());
        self.ip_offsets.push(code.map(|code| code.offset as i64));
        self.returns
            .push(fault.map(|fault| i32::try_from(fault.returns).unwrap_or(i32::MAX)));
    }
}

impl Columns {
    fn time_unit(self) -> TimeUnit {
        if self.microseconds {
            TimeUnit::Microsecond
        } else {
            TimeUnit::Nanosecond
        }
    }

    /// The column `time`, of nanoseconds since 1970.
    fn times(self, times: Vec<i64>) -> ArrayRef {
        if self.microseconds {
            let times = times.into_iter().map(|time_ns| time_ns.div_euclid(1000));
            let times: TimestampMicrosecondArray = times.collect::<Vec<_>>().into();
            Arc::new(times.with_timezone(UTC))
        } else {
            Arc::new(TimestampNanosecondArray::from(times).with_timezone(UTC))
        }
    }
}

/// The columns that there are.
fn columns(with: Columns) -> impl Iterator<Item = (&'static str, Holds, In)> {
    COLUMNS
        .into_iter()
        .filter(move |(_, _, present)| match present {
            In::Events => with.events,
            In::Bands => with.bands,
            In::All | In::Faults | In::SomeFaults => true,
        })
}

/// A column of ours as it is exported.
fn converted(column: &ArrayRef, holds: Holds, texts: Texts) -> ArrayRef {
    match (holds, column.data_type()) {
        (Holds::Text, DataType::Dictionary(..)) if texts == Texts::Plain => plain(column),
        (Holds::Number, DataType::UInt16) => {
            let numbers = column.as_primitive::<UInt16Type>();
            Arc::new(numbers.unary::<_, Int32Type>(i32::from))
        }
        // Process ids have 22 bits.
        (Holds::Number, DataType::UInt32) => {
            Arc::new(signed::<_, Int32Type>(column.as_primitive::<UInt32Type>()))
        }
        (Holds::Long, DataType::UInt64) => {
            Arc::new(signed::<_, Int64Type>(column.as_primitive::<UInt64Type>()))
        }
        _ => Arc::clone(column),
    }
}

/// The same bits as signed numbers of the same size.
fn signed<T: ArrowPrimitiveType, S: ArrowPrimitiveType>(
    numbers: &PrimitiveArray<T>,
) -> PrimitiveArray<S> {
    let bits = numbers.values().inner().clone();
    let values = ScalarBuffer::new(bits, 0, numbers.len());
    PrimitiveArray::new(values, numbers.nulls().cloned())
}

/// The texts of a dictionary.
fn plain(column: &ArrayRef) -> ArrayRef {
    fn of<K: ArrowDictionaryKeyType>(keys: &PrimitiveArray<K>, values: &StringArray) -> ArrayRef
    where
        K::Native: Into<i64>,
    {
        let mut texts = StringBuilder::with_capacity(keys.len(), 16 * keys.len());
        for key in keys {
            // CAST: keys are not negative.
            texts.append_option(key.map(|key| values.value(key.into() as usize)));
        }
        Arc::new(texts.finish())
    }
    if let Some(dictionary) = column.as_dictionary_opt::<FewKey>() {
        of(dictionary.keys(), dictionary.values().as_string())
    } else {
        let dictionary = column.as_dictionary::<ManyKey>();
        of(dictionary.keys(), dictionary.values().as_string())
    }
}
