// SPDX-License-Identifier: GPL-2.0-only

//! Reading a trace, as far as it is whole.
//!
//! The frames of the stream are read and checked here, before Arrow's decoder sees them: it trusts offsets
//! and lengths that damage can make anything.

use std::{
    cell::Cell,
    collections::{HashMap, VecDeque},
    io::{self, Read},
    panic::{catch_unwind, set_hook, take_hook, AssertUnwindSafe},
    sync::{Arc, Once},
    thread,
};

use arrow_array::{
    cast::AsArray,
    types::{ArrowDictionaryKeyType, Int64Type, UInt16Type, UInt32Type, UInt64Type},
    Array, ArrayRef, ArrowPrimitiveType, RecordBatch, StringArray,
};
use arrow_buffer::{ArrowNativeType, Buffer};
use arrow_ipc::{
    convert::fb_to_schema,
    reader::{read_dictionary, read_record_batch},
    root_as_message, MessageHeader,
};
use arrow_schema::{ArrowError, Schema, SchemaRef};
use rustc_hash::FxHashMap;

use super::schema::{account_of, fields, key, FewKey, ManyKey, FIELDS_FIRST, FORMAT, UNREAD};
use super::stream::{HEAD_BYTES_MOST, MARK};
use crate::{
    csv::parse_flags, Access, BuildId, Code, Counter, CounterRow, Fate, Fault, FileId, FrameRow,
    GapRow, Kind, Loss, LostRow, Metadata, Name, Nodes, Object, PageSize, Place, ResolvedFault,
    Row, TextRow, ThreadEvent, ThreadRow, EVENTS,
};

/// Why a trace cannot be read, or not to its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The file itself cannot be read.
    #[error("the file cannot be read")]
    Io(#[source] io::Error),
    /// It is something else.
    #[error("this is no trace ({what}): give the file that 'fault-tracer record -o FILE' writes")]
    NotOurs {
        /// How that is known.
        what: String,
    },
    /// It was written by another version.
    #[error("the trace has format {found:?}, and this program reads {FORMAT:?}: use the version that wrote it")]
    Format {
        /// What its metadata says.
        found: String,
    },
    /// Its pages have a size that no machine's have.
    #[error(
        "the trace says that pages have {found:?} bytes (page_bytes), and it must be a power of two from 4096 to 65536: \
         it is damaged, or of a newer version"
    )]
    PageSize {
        /// What its metadata says.
        found: String,
    },
    /// It ends before its end.
    #[error(
        "the trace is cut off after {bytes} bytes: the recording was killed, or the file is not whole; \
         what stands before is read"
    )]
    CutOff {
        /// Bytes that could be read.
        bytes: u64,
    },
    /// It is read twice, and was not the same.
    #[error("the trace was changed while it was read: try again when the recording has ended")]
    Changed,
    /// Something in it makes no sense.
    #[error("the trace is damaged at byte {byte} ({what}); what stands before is read")]
    Damaged {
        /// Where the part begins that is damaged.
        byte: u64,
        /// What is wrong with it.
        what: String,
    },
}

impl ReadError {
    /// Of a trace that is damaged, with what Arrow says of it, which may have several lines, on one.
    fn damaged(byte: u64, what: &str) -> Self {
        let what = what.split_whitespace().collect::<Vec<_>>().join(" ");
        Self::Damaged { byte, what }
    }
}

/// No frame's body is longer, compressed or not: at most some hundred bytes for each of a batch's rows,
/// and names of at most 4 KiB each.
const BODY_BYTES_MOST: usize = 1 << 28;

/// Reads a trace, row by row.
///
/// [`Row::Pending`] does not come out: where the fault itself is not in the trace, since it was cut off,
/// the pending one takes its place in the end, with an unknown fate. In a trace with an end, such a fault is in the next file.
pub struct Reader<R> {
    input: R,
    bytes: u64,
    decoder: Decoder,
    metadata: Metadata,
    rows: VecDeque<Row>,
    pending: HashMap<(u32, u64), Box<ResolvedFault>>,
    texts: Texts,
    state: State,
}

enum State {
    Reading,
    /// The pending faults are to be given out, then the error if there is one.
    Ending(Option<ReadError>),
    Ended,
}

/// A frame of the stream.
enum Frame {
    Message { head: Vec<u8>, body: Vec<u8> },
    End,
}

/// What frames that came before are needed for.
#[derive(Default)]
struct Decoder {
    schema: Option<SchemaRef>,
    dictionaries: HashMap<i64, ArrayRef>,
}

impl Decoder {
    fn decode(&mut self, head: &[u8], body: Vec<u8>) -> Result<Option<RecordBatch>, ArrowError> {
        let damaged = |what: &str| ArrowError::IpcError(what.into());
        let message = root_as_message(head).map_err(|error| damaged(&error.to_string()))?;
        let body = Buffer::from_vec(body);
        if let Some(schema) = message.header_as_schema() {
            if self.schema.is_some() {
                return Err(damaged("a second schema"));
            }
            self.schema = Some(Arc::new(fb_to_schema(schema)));
            return Ok(None);
        }
        let schema = self
            .schema
            .as_ref()
            .ok_or_else(|| damaged("there is no schema"))?;
        if let Some(dictionary) = message.header_as_dictionary_batch() {
            read_dictionary(
                &body,
                dictionary,
                schema,
                &mut self.dictionaries,
                &message.version(),
            )?;
            return Ok(None);
        }
        let batch = message
            .header_as_record_batch()
            .ok_or_else(|| damaged("an empty frame"))?;
        read_record_batch(
            &body,
            batch,
            Arc::clone(schema),
            &self.dictionaries,
            None,
            &message.version(),
        )
        .map(Some)
    }
}

impl<R: Read> Reader<R> {
    /// Reads the beginning. `input` should be buffered.
    ///
    /// # Errors
    ///
    /// [`ReadError::Io`], [`ReadError::NotOurs`], [`ReadError::Format`], [`ReadError::PageSize`].
    pub fn new(input: R) -> Result<Self, ReadError> {
        let mut reader = Self {
            input,
            bytes: 0,
            decoder: Decoder::default(),
            metadata: Metadata::default(),
            rows: VecDeque::new(),
            pending: HashMap::new(),
            texts: Texts::default(),
            state: State::Reading,
        };
        let not_ours = |what: &str| ReadError::NotOurs { what: what.into() };
        match reader.next_batch() {
            Ok(Some(None)) => {}
            Err(error @ ReadError::Io(_)) => return Err(error),
            Err(ReadError::Damaged { what, .. }) => return Err(ReadError::NotOurs { what }),
            Err(_) => return Err(not_ours("it is too short")),
            Ok(_) => return Err(not_ours("it has no schema")),
        }
        let schema = reader
            .decoder
            .schema
            .clone()
            .ok_or_else(|| not_ours("it has no schema"))?;
        let entry = |key: &str| schema.metadata().get(key).cloned().unwrap_or_default();
        match entry(key::FORMAT).as_str() {
            FORMAT => {}
            "" => return Err(not_ours("it is an Arrow stream of something else")),
            other => {
                return Err(ReadError::Format {
                    found: other.chars().take(20).collect(),
                })
            }
        }
        if !fits(&schema) {
            return Err(not_ours("its columns are others"));
        }
        let page_size = match entry(key::PAGE_BYTES) {
            // Traces of older versions have none.
            text if text.is_empty() => PageSize::default(),
            text => PageSize::parse(&text).ok_or_else(|| ReadError::PageSize {
                found: text.chars().take(20).collect(),
            })?,
        };
        reader.metadata = Metadata {
            version: entry(key::VERSION),
            host: entry(key::HOST),
            kernel: entry(key::KERNEL),
            command: entry(key::COMMAND),
            clock: entry(key::CLOCK),
            wall_offset_ns: entry(key::WALL_OFFSET).parse().unwrap_or(0),
            wall_error_ns: entry(key::WALL_ERROR).parse().unwrap_or(0),
            latency: entry(key::LATENCY) == "true",
            attempts_apart: entry(key::ATTEMPTS) == "apart",
            selection: entry(key::SELECTION),
            // Traces of older versions have none: of these they are not known.
            nodes: Nodes::parse(&entry(key::NODES)).unwrap_or_default(),
            page_size,
            account: account_of(entry),
        };
        Ok(reader)
    }

    /// What the trace says of itself.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The columns and the metadata.
    pub(super) fn schema(&self) -> Option<SchemaRef> {
        self.decoder.schema.clone()
    }

    /// Reads the next batch; `None` at the end of the stream. Not to be mixed with reading rows.
    pub(super) fn next_of_batches(&mut self) -> Result<Option<RecordBatch>, ReadError> {
        loop {
            match self.next_batch()? {
                Some(Some(batch)) => return Ok(Some(batch)),
                Some(None) => {}
                None => return Ok(None),
            }
        }
    }

    /// Reads up to the next batch: `None` at the end of the stream, `Some(None)` for what is no batch.
    fn next_batch(&mut self) -> Result<Option<Option<RecordBatch>>, ReadError> {
        let byte = self.bytes;
        let (head, body) = match self.next_frame()? {
            Frame::Message { head, body } => (head, body),
            Frame::End => return Ok(None),
        };
        let decoder = &mut self.decoder;
        // What the checks of the frame did not find may still be beyond Arrow's decoder.
        match quietly(|| decoder.decode(&head, body)) {
            Ok(Ok(batch)) => Ok(Some(batch)),
            Ok(Err(error)) => Err(ReadError::damaged(byte, &error.to_string())),
            Err(_) => Err(ReadError::damaged(byte, "it cannot be decoded")),
        }
    }

    /// Reads and checks the next frame.
    fn next_frame(&mut self) -> Result<Frame, ReadError> {
        let byte = self.bytes;
        let damaged = |what: &str| ReadError::damaged(byte, what);
        let start = self.read(8)?;
        let (mark, length) = start.split_at(4);
        if mark != MARK {
            return Err(damaged(what_else(byte, &start)));
        }
        let length = u32::from_le_bytes(length.try_into().unwrap_or_default()) as usize;
        if length == 0 {
            return Ok(Frame::End);
        }
        if length > HEAD_BYTES_MOST {
            return Err(damaged("a frame's head is too long"));
        }
        let head = self.read(length)?;
        let message = root_as_message(&head).map_err(|error| damaged(&error.to_string()))?;
        let length = usize::try_from(message.bodyLength())
            .ok()
            .filter(|&length| length <= BODY_BYTES_MOST)
            .ok_or_else(|| damaged("a frame's body is too long"))?;
        let body = self.read(length)?;
        check_buffers(&head, &body).map_err(damaged)?;
        Ok(Frame::Message { head, body })
    }

    /// Reads so many bytes of the input.
    fn read(&mut self, count: usize) -> Result<Vec<u8>, ReadError> {
        let mut to = Vec::new();
        // Memory is taken for what is there, not for what is asked for.
        let read = (&mut self.input)
            .take(count as u64)
            .read_to_end(&mut to)
            .map_err(ReadError::Io)?;
        if read < count {
            return Err(ReadError::CutOff { bytes: self.bytes });
        }
        self.bytes += count as u64;
        Ok(to)
    }

    fn next_row(&mut self) -> Option<Result<Row, ReadError>> {
        loop {
            if let Some(row) = self.rows.pop_front() {
                return Some(Ok(row));
            }
            match &mut self.state {
                State::Reading => {
                    let byte = self.bytes;
                    let rows = match self.next_batch() {
                        Ok(Some(None)) => continue,
                        Ok(Some(Some(batch))) => rows_of(&batch, &mut self.texts)
                            .map_err(|what| ReadError::damaged(byte, &what)),
                        Ok(None) => {
                            self.state = State::Ending(None);
                            continue;
                        }
                        Err(error) => Err(error),
                    };
                    match rows {
                        Ok(rows) => self.settle(rows),
                        Err(error) => self.state = State::Ending(Some(error)),
                    }
                }
                State::Ending(error) => {
                    let error = error.take();
                    self.state = State::Ended;
                    let mut left: Vec<_> = self
                        .pending
                        .drain()
                        .map(|(_, fault)| Row::Fault(fault))
                        .collect();
                    left.sort_by_key(Row::time_ns);
                    self.rows.extend(left);
                    if let Some(error) = error {
                        // Behind the faults that are left.
                        if self.rows.is_empty() {
                            return Some(Err(error));
                        }
                        self.state = State::Ending(Some(error));
                    }
                }
                State::Ended => return None,
            }
        }
    }

    /// Takes the rows of a batch, and keeps pending faults back.
    fn settle(&mut self, rows: Vec<Row>) {
        for row in rows {
            match row {
                Row::Pending(fault) => {
                    self.pending
                        .insert((fault.fault.tid, fault.fault.time_ns), fault);
                }
                Row::Fault(fault) => {
                    if !self.pending.is_empty() {
                        self.pending.remove(&(fault.fault.tid, fault.fault.time_ns));
                    }
                    self.rows.push_back(Row::Fault(fault));
                }
                Row::Counter(row) if row.counter == Counter::End => {
                    // They are in the file in which the recording goes on.
                    self.pending.clear();
                    self.rows.push_back(Row::Counter(row));
                }
                other => self.rows.push_back(other),
            }
        }
    }
}

impl<R: Read> Iterator for Reader<R> {
    type Item = Result<Row, ReadError>;

    /// The next row. After an `Err`, which is the last, there is none.
    fn next(&mut self) -> Option<Self::Item> {
        self.next_row()
    }
}

/// Whether a schema has this version's columns, maybe without the last ones or with others behind them.
fn fits(schema: &Schema) -> bool {
    let fields = fields();
    schema.fields().len() >= FIELDS_FIRST
        && fields.iter().zip(schema.fields()).all(|(ours, theirs)| {
            ours.name() == theirs.name() && ours.data_type() == theirs.data_type()
        })
}

/// Checks what a frame's head says of its body.
fn check_buffers(head: &[u8], body: &[u8]) -> Result<(), &'static str> {
    let message = root_as_message(head).map_err(|_| "a frame's head is damaged")?;
    let batch = match message.header_type() {
        MessageHeader::Schema => return Ok(()),
        MessageHeader::RecordBatch => message.header_as_record_batch(),
        MessageHeader::DictionaryBatch => message
            .header_as_dictionary_batch()
            .and_then(|dictionary| dictionary.data()),
        _ => return Err("a frame is of an unknown type"),
    };
    let batch = batch.ok_or("a frame's head is incomplete")?;
    let rows = batch.length();
    if !(0..=BODY_BYTES_MOST as i64).contains(&rows) {
        return Err("a batch has an impossible number of rows");
    }
    let nodes = batch.nodes().ok_or("a batch has no columns")?;
    if nodes
        .iter()
        .any(|node| !(0..=rows).contains(&node.null_count()) || node.length() != rows)
    {
        return Err("a column has another length than its batch");
    }
    let compressed = batch.compression().is_some();
    let mut total = 0;
    for buffer in batch.buffers().ok_or("a batch has no data")? {
        let range = usize::try_from(buffer.offset())
            .ok()
            .zip(usize::try_from(buffer.length()).ok())
            .and_then(|(offset, length)| Some(offset..offset.checked_add(length)?));
        let bytes = range
            .and_then(|range| body.get(range))
            .ok_or("a column lies outside of its frame")?;
        if let (true, Some((length, _))) =
            (compressed && !bytes.is_empty(), bytes.split_first_chunk())
        {
            let length = i64::from_le_bytes(*length);
            // -1 stands for data that did not get smaller.
            if !(-1..=BODY_BYTES_MOST as i64).contains(&length) {
                return Err("a column has an impossible length");
            }
            total += length.max(0);
        } else if compressed && !bytes.is_empty() {
            return Err("a column is shorter than its length");
        }
    }
    if total > BODY_BYTES_MOST as i64 {
        return Err("a batch is too long");
    }
    Ok(())
}

/// What a file is that begins otherwise than a trace.
fn what_else(byte: u64, start: &[u8]) -> &'static str {
    const OTHERS: [(&[u8], &str); 4] = [
        (
            b"PAR1",
            "it is a Parquet table: record --rotate --keep-traces keeps its trace",
        ),
        (b"ARROW1", "it is an Arrow file, as export writes it"),
        (b"time_ns", "it is a CSV"),
        (b"PERFILE2", "it is perf's"),
    ];
    let found = OTHERS.iter().find(|(mark, _)| start.starts_with(mark));
    match found {
        Some((_, what)) if byte == 0 => what,
        _ => "no frame begins there",
    }
}

/// Catches a panic of `work`, without its message: the caller tells what is wrong in its own words.
fn quietly<T>(work: impl FnOnce() -> T) -> thread::Result<T> {
    thread_local! {
        static QUIET: Cell<bool> = const { Cell::new(false) };
    }
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let other = take_hook();
        set_hook(Box::new(move |panic| {
            if !QUIET.get() {
                other(panic);
            }
        }));
    });
    QUIET.set(true);
    let result = catch_unwind(AssertUnwindSafe(work));
    QUIET.set(false);
    result
}

/// A column of words from a dictionary, each of which is understood once for the whole batch.
struct Words<T> {
    /// By row; [`NULL`] where there is none.
    keys: Vec<u32>,
    /// What the words mean; `None` for one that is not known.
    values: Vec<Option<T>>,
}

const NULL: u32 = u32::MAX;

impl<T> Words<T> {
    fn of<K: ArrowDictionaryKeyType>(
        column: &ArrayRef,
        meaning: impl Fn(&str) -> Option<T>,
    ) -> Option<Self> {
        let dictionary = column.as_dictionary_opt::<K>()?;
        let values = dictionary.values().as_string_opt::<i32>()?;
        // CAST: keys have 16 bits at most.
        let key = |key: Option<K::Native>| key.map_or(NULL, |key| key.as_usize() as u32);
        Some(Self {
            keys: dictionary.keys().iter().map(key).collect(),
            values: values.iter().map(|value| meaning(value?)).collect(),
        })
    }

    /// The word of a row, and in it what it means, if that is known.
    fn word(&self, row: usize) -> Option<Option<&T>> {
        let key = *self.keys.get(row)?;
        (key != NULL).then(|| self.values.get(key as usize)?.as_ref())
    }

    /// What the word of a row means.
    fn get(&self, row: usize) -> Option<&T> {
        self.word(row)?
    }
}

/// A column of names.
type Names = Words<Name>;

impl Names {
    fn names<K: ArrowDictionaryKeyType>(column: &ArrayRef) -> Option<Self> {
        Self::of::<K>(column, |name| Some(Arc::from(name)))
    }
}

/// A column of numbers.
struct Numbers<T: ArrowPrimitiveType>(arrow_array::PrimitiveArray<T>);

impl<T: ArrowPrimitiveType> Numbers<T> {
    fn of(column: &ArrayRef) -> Option<Self> {
        column.as_primitive_opt::<T>().cloned().map(Self)
    }

    fn get(&self, row: usize) -> Option<T::Native> {
        self.0.is_valid(row).then(|| self.0.value(row))
    }
}

/// The rows `text` so far, by process and object, in order of time.
#[derive(Default)]
struct Texts {
    reported: FxHashMap<u32, FxHashMap<Name, Vec<TextFrom>>>,
    /// The last ones, by the names of the objects.
    build_ids: FxHashMap<Name, BuildId>,
}

struct TextFrom {
    time_ns: u64,
    base: u64,
    object: Arc<Object>,
}

impl Texts {
    fn add(&mut self, text: &TextRow) {
        let objects = self.reported.entry(text.pid).or_default();
        let name = Arc::clone(&text.object.name);
        objects.entry(name).or_default().push(TextFrom {
            time_ns: text.time_ns,
            base: text.base(),
            object: Arc::clone(&text.object),
        });
    }

    /// The last one until a time.
    fn of(&self, pid: u32, object: &str, time_ns: u64) -> Option<&TextFrom> {
        let reported = self.reported.get(&pid)?.get(object)?;
        let count = reported.partition_point(|reported| reported.time_ns <= time_ns);
        reported.get(count.checked_sub(1)?)
    }
}

/// The columns of [`fields`], by their types.
struct Columns {
    event: Names,
    time_ns: Numbers<Int64Type>,
    cpu: Numbers<UInt16Type>,
    pid: Numbers<UInt32Type>,
    tid: Numbers<UInt32Type>,
    process: Names,
    thread: Names,
    kind: Words<Kind>,
    fate: Words<Fate>,
    access: Words<Access>,
    address: Numbers<UInt64Type>,
    mapping: Names,
    permissions: Names,
    file_offset: Numbers<UInt64Type>,
    flags: Words<u16>,
    program: Names,
    parent: Numbers<UInt32Type>,
    old_tid: Numbers<UInt32Type>,
    min_flt: Numbers<UInt64Type>,
    maj_flt: Numbers<UInt64Type>,
    end_ns: Numbers<Int64Type>,
    count: Numbers<UInt64Type>,
    object: Names,
    ip_offset: Numbers<UInt64Type>,
    build_id: StringArray,
    duration_ns: Numbers<UInt64Type>,
    attempts: Numbers<UInt32Type>,
    returns: Numbers<UInt32Type>,
    device: Numbers<UInt64Type>,
    inode: Numbers<UInt64Type>,
    changed_ns: Numbers<Int64Type>,
    /// This one and those behind it are not in older traces.
    page_bytes: Option<Numbers<UInt64Type>>,
    stack: Option<Numbers<UInt32Type>>,
    caller: Option<Numbers<UInt32Type>>,
    page_node: Option<Numbers<UInt32Type>>,
    around: Option<Numbers<UInt32Type>>,
}

/// A column that older traces do not have: `Some(None)` where there is none, `None` where it is of another type.
fn later<T: ArrowPrimitiveType>(column: Option<&ArrayRef>) -> Option<Option<Numbers<T>>> {
    column.map_or(Some(None), |column| Numbers::of(column).map(Some))
}

impl Columns {
    fn of(batch: &RecordBatch) -> Option<Self> {
        let mut columns = batch.columns().iter();
        // In the order of the fields, which are those of the columns.
        Some(Self {
            event: Names::names::<FewKey>(columns.next()?)?,
            time_ns: Numbers::of(columns.next()?)?,
            cpu: Numbers::of(columns.next()?)?,
            pid: Numbers::of(columns.next()?)?,
            tid: Numbers::of(columns.next()?)?,
            process: Names::names::<ManyKey>(columns.next()?)?,
            thread: Names::names::<ManyKey>(columns.next()?)?,
            kind: Words::of::<FewKey>(columns.next()?, |word| {
                Kind::ALL.into_iter().find(|known| known.name() == word)
            })?,
            fate: Words::of::<FewKey>(columns.next()?, |word| {
                Fate::ALL.into_iter().find(|known| known.name() == word)
            })?,
            access: Words::of::<FewKey>(columns.next()?, |word| {
                Access::ALL.into_iter().find(|known| known.name() == word)
            })?,
            address: Numbers::of(columns.next()?)?,
            mapping: Names::names::<ManyKey>(columns.next()?)?,
            permissions: Names::names::<ManyKey>(columns.next()?)?,
            file_offset: Numbers::of(columns.next()?)?,
            flags: Words::of::<ManyKey>(columns.next()?, parse_flags)?,
            program: Names::names::<ManyKey>(columns.next()?)?,
            parent: Numbers::of(columns.next()?)?,
            old_tid: Numbers::of(columns.next()?)?,
            min_flt: Numbers::of(columns.next()?)?,
            maj_flt: Numbers::of(columns.next()?)?,
            end_ns: Numbers::of(columns.next()?)?,
            count: Numbers::of(columns.next()?)?,
            object: Names::names::<ManyKey>(columns.next()?)?,
            ip_offset: Numbers::of(columns.next()?)?,
            build_id: columns.next()?.as_string_opt()?.clone(),
            duration_ns: Numbers::of(columns.next()?)?,
            attempts: Numbers::of(columns.next()?)?,
            returns: Numbers::of(columns.next()?)?,
            device: Numbers::of(columns.next()?)?,
            inode: Numbers::of(columns.next()?)?,
            changed_ns: Numbers::of(columns.next()?)?,
            page_bytes: later(columns.next())?,
            stack: later(columns.next())?,
            caller: later(columns.next())?,
            page_node: later(columns.next())?,
            around: later(columns.next())?,
        })
    }

    /// The row of an index; `Ok(None)` for an event that a later version may have added.
    fn row(&self, row: usize, texts: &mut Texts) -> Result<Option<Row>, &'static str> {
        // CAST: written from a `u64`.
        let time_ns = self.time_ns.get(row).ok_or("a row without a time")? as u64;
        let event = self.event.get(row).ok_or("a row without an event")?;
        let cpu = self.cpu.get(row).map(u32::from);
        let one_cpu = || cpu.ok_or("a row without a CPU");
        let pid = || self.pid.get(row).ok_or("a row without a process");
        let tid = || self.tid.get(row).ok_or("a row without a thread");
        let count = || self.count.get(row).ok_or("a row without a count");
        let end_ns = || {
            let end = self.end_ns.get(row).ok_or("a row without an end");
            end.map(|end| end as u64)
        };
        let thread = |event| {
            Ok::<_, &'static str>(Row::Thread(Box::new(ThreadRow {
                event,
                time_ns,
                cpu: one_cpu()?,
                pid: pid()?,
                tid: tid()?,
                process: self.process.get(row).cloned(),
                thread: self.thread.get(row).cloned(),
                program: self.program.get(row).cloned(),
                parent: self.parent.get(row),
                old_tid: self.old_tid.get(row),
                min_flt: self.min_flt.get(row).ok_or("a thread without counters")?,
                maj_flt: self.maj_flt.get(row).ok_or("a thread without counters")?,
            })))
        };
        let counter = |counter| {
            Ok::<_, &'static str>(Row::Counter(CounterRow {
                counter,
                time_ns,
                cpu,
                count: count()?,
            }))
        };
        let row = match &**event {
            "fault" => Row::Fault(Box::new(self.fault(row, time_ns, texts)?)),
            "pending" => Row::Pending(Box::new(self.fault(row, time_ns, texts)?)),
            "present" => thread(ThreadEvent::Present)?,
            "fork" => thread(ThreadEvent::Fork)?,
            "exec" => thread(ThreadEvent::Exec)?,
            "rename" => thread(ThreadEvent::Rename)?,
            "exit" => thread(ThreadEvent::Exit)?,
            "alive" => thread(ThreadEvent::Alive)?,
            "left" => thread(ThreadEvent::Left)?,
            "gap" => Row::Gap(GapRow {
                time_ns,
                end_ns: end_ns()?,
                cpu: one_cpu()?,
                pid: pid()?,
                tid: tid()?,
                count: count()?,
            }),
            "lost" | "overrun" => Row::Lost(LostRow {
                how: if &**event == "lost" {
                    Loss::Dropped
                } else {
                    Loss::Overwritten
                },
                time_ns,
                end_ns: end_ns()?,
                cpu: one_cpu()?,
                count: count()?,
            }),
            "hits" => counter(Counter::Hits)?,
            "recorded" => counter(Counter::Recorded)?,
            "dropped" => counter(Counter::Dropped)?,
            "overwritten" => counter(Counter::Overwritten)?,
            "missed" => counter(Counter::Missed)?,
            "sideband_dropped" => counter(Counter::SidebandDropped)?,
            "deaf" => counter(Counter::Deaf)?,
            "passed_over" => counter(Counter::PassedOver)?,
            "missed_returns" => counter(Counter::MissedReturns)?,
            "end" => counter(Counter::End)?,
            "text" => {
                let text = TextRow {
                    time_ns,
                    cpu: one_cpu()?,
                    pid: pid()?,
                    tid: tid()?,
                    address: self.address.get(row).ok_or("a text without an address")?,
                    file_offset: self
                        .file_offset
                        .get(row)
                        .ok_or("a text without an offset")?,
                    object: self.object(row, texts).ok_or("a text without an object")?,
                };
                texts.add(&text);
                Row::Text(Box::new(text))
            }
            "frame" => {
                let number = |column: &Option<Numbers<UInt32Type>>| {
                    let number = column.as_ref().and_then(|column| column.get(row));
                    number.ok_or("a frame without its number or its caller's")
                };
                let (address, code) = self.code(row, (pid()?, time_ns), texts)?;
                Row::Frame(Box::new(FrameRow {
                    time_ns,
                    cpu: one_cpu()?,
                    pid: pid()?,
                    tid: tid()?,
                    id: number(&self.stack)?,
                    caller: number(&self.caller)?,
                    address,
                    code,
                }))
            }
            other => {
                debug_assert!(!EVENTS.contains(&other));
                return Ok(None);
            }
        };
        Ok(Some(row))
    }

    /// That of a row `text`.
    fn object(&self, row: usize, texts: &mut Texts) -> Option<Arc<Object>> {
        let offset = self.file_offset.get(row)?;
        let name = Arc::clone(self.object.get(row)?);
        if self.build_id.is_valid(row) {
            let build_id = match self.build_id.value(row) {
                "" => BuildId::Absent,
                UNREAD => BuildId::Unread,
                digits => BuildId::Of(digits.into()),
            };
            texts.build_ids.insert(Arc::clone(&name), build_id);
        }
        let file = self.device.get(row).zip(self.inode.get(row));
        Some(Arc::new(Object {
            build_id: texts.build_ids.get(&name).cloned().unwrap_or_default(),
            name,
            file: file.map(|(device, inode)| FileId {
                device,
                inode,
                changed_ns: self.changed_ns.get(row),
            }),
            bias: self
                .ip_offset
                .get(row)
                .map(|elf_address| elf_address.wrapping_sub(offset)),
        }))
    }

    /// A fault's instruction pointer, or the address of a frame, and its code.
    fn code(
        &self,
        row: usize,
        (pid, time_ns): (u32, u64),
        texts: &Texts,
    ) -> Result<(u64, Option<Code>), &'static str> {
        const NO_IP: &str = "a fault without an instruction pointer";
        let offset = self.ip_offset.get(row).ok_or(NO_IP)?;
        let Some(name) = self.object.get(row) else {
            return Ok((offset, None));
        };
        let text = texts.of(pid, name, time_ns).ok_or(NO_IP)?;
        let code = Code {
            object: Arc::clone(&text.object),
            offset,
        };
        Ok((text.base.wrapping_add(offset), Some(code)))
    }

    fn fault(
        &self,
        row: usize,
        time_ns: u64,
        texts: &Texts,
    ) -> Result<ResolvedFault, &'static str> {
        let number = |number: Option<u64>| number.ok_or("a fault without an address");
        let place = self.mapping.get(row).zip(self.permissions.get(row));
        let kind = self.kind.word(row).ok_or("a fault without a kind")?;
        let access = self.access.word(row).ok_or("a fault without an access")?;
        let flags = self.flags.word(row).ok_or("a fault without flags")?;
        let pid = self.pid.get(row).ok_or("a fault without a process")?;
        let (ip, code) = self.code(row, (pid, time_ns), texts)?;
        Ok(ResolvedFault {
            fault: Fault {
                time_ns,
                cpu: self
                    .cpu
                    .get(row)
                    .map(u32::from)
                    .ok_or("a fault without a CPU")?,
                pid,
                tid: self.tid.get(row).ok_or("a fault without a thread")?,
                address: number(self.address.get(row))?,
                ip,
                access: *access.ok_or("an unknown access")?,
                flags: *flags.ok_or("unknown flags")?,
            },
            process: self.process.get(row).cloned(),
            thread: self.thread.get(row).cloned(),
            program: self.program.get(row).cloned(),
            place: place.map(|(name, permissions)| Place {
                name: Arc::clone(name),
                permissions: Arc::clone(permissions),
                file_offset: self.file_offset.get(row),
            }),
            code,
            kind: *kind.ok_or("an unknown kind of fault")?,
            fate: match self.fate.word(row) {
                None => Fate::Unknown,
                Some(fate) => *fate.ok_or("an unknown fate")?,
            },
            attempts: self.attempts.get(row).ok_or("a fault without attempts")?,
            returns: self.returns.get(row).unwrap_or(0),
            duration_ns: self.duration_ns.get(row),
            page_bytes: self.page_bytes.as_ref().and_then(|of| of.get(row)),
            page_node: self.page_node.as_ref().and_then(|of| of.get(row)),
            around: self.around.as_ref().and_then(|of| of.get(row)),
            stack: self.stack.as_ref().and_then(|of| of.get(row)),
        })
    }
}

fn rows_of(batch: &RecordBatch, texts: &mut Texts) -> Result<Vec<Row>, String> {
    let columns = Columns::of(batch).ok_or("its columns are of other types")?;
    let rows = (0..batch.num_rows()).filter_map(|row| columns.row(row, texts).transpose());
    rows.collect::<Result<_, _>>().map_err(Into::into)
}
