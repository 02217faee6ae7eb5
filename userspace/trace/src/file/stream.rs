// SPDX-License-Identifier: GPL-2.0-only

//! Batches as messages of a stream, each appended in one call. Whoever reads the file at any moment, or after the
//! program was killed, finds whole batches and at most one torn end.
//!
//! Where there is no room for a batch, its torn end is cut off, and smaller batches of its rows follow as long as
//! they fit.

use std::{
    fs::File,
    io::{self, ErrorKind, Seek as _, SeekFrom, Write},
    os::unix::fs::FileExt as _,
};

use arrow_array::RecordBatch;
use arrow_ipc::{
    writer::{
        write_message, DictionaryTracker, EncodedData, IpcDataGenerator, IpcWriteContext,
        IpcWriteOptions,
    },
    CompressionType, MetadataVersion,
};
use arrow_schema::{ArrowError, Schema, SchemaRef};

/// Before each message. (The format's `CONTINUATION`.)
pub const MARK: [u8; 4] = [0xff; 4];
/// The end of the stream: a message whose head has no bytes.
pub const END: [u8; 8] = [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];
/// No head is longer: some hundred bytes for each column, and in the schema the command line that was recorded.
pub const HEAD_BYTES_MOST: usize = 1 << 26;

/// Of buffers in the file. Nobody maps compressed ones, so that more than the format asks for is a waste.
const ALIGNMENT: usize = 8;

/// Levels of zstd.
const QUICK: i32 = 1;
const THOROUGH: i32 = 6;
/// Batches with fewer rows are compressed thoroughly where there is time. With more, [`QUICK`] does almost as well.
const FEW_ROWS: usize = 8192;

/// Batches with fewer rows are not tried when there is no room for more: a batch of one row takes as much.
const LEAST_ROWS: usize = 16;

/// Where a trace goes.
pub trait Destination: Write {
    /// What was written, if that can be changed. The trace begins where it does.
    fn changeable(&mut self) -> Option<&mut dyn Changeable>;
}

/// What can be changed after it was written.
pub trait Changeable {
    /// Writes over bytes that are there.
    ///
    /// # Errors
    ///
    /// Those of the file.
    fn write_over(&mut self, bytes: &[u8], at: u64) -> io::Result<()>;

    /// Takes away what lies behind the first bytes: what is written next follows them.
    ///
    /// # Errors
    ///
    /// Those of the file.
    fn cut_to(&mut self, bytes: u64) -> io::Result<()>;
}

impl Destination for Vec<u8> {
    fn changeable(&mut self) -> Option<&mut dyn Changeable> {
        None
    }
}

impl<D: Destination + ?Sized> Destination for &mut D {
    fn changeable(&mut self) -> Option<&mut dyn Changeable> {
        (**self).changeable()
    }
}

/// A file that is empty, and not opened to append.
impl Destination for File {
    fn changeable(&mut self) -> Option<&mut dyn Changeable> {
        // A device or a pipe is not.
        let is_file = self.metadata().is_ok_and(|metadata| metadata.is_file());
        is_file.then_some(self)
    }
}

impl Changeable for File {
    fn write_over(&mut self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.write_all_at(bytes, at)
    }

    fn cut_to(&mut self, bytes: u64) -> io::Result<()> {
        self.set_len(bytes)?;
        self.seek(SeekFrom::Start(bytes)).map(|_| ())
    }
}

/// How much time there is to compress a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// Little.
    Quick,
    /// Enough, if it has few rows.
    Thorough,
}

/// How batches are compressed.
struct Encoding {
    options: IpcWriteOptions,
    /// It keeps the level that it is used with first.
    context: IpcWriteContext,
}

impl Encoding {
    /// With zstd of a level.
    fn new(level: i32) -> Result<Self, ArrowError> {
        let options = IpcWriteOptions::try_new(ALIGNMENT, false, MetadataVersion::V5)?;
        Ok(Self {
            options: options
                .try_with_compression(Some(CompressionType::ZSTD))?
                .try_with_compression_level(Some(level))?,
            context: IpcWriteContext::default(),
        })
    }

    /// The first message of a stream, and names of which readers have none.
    fn head(&self, schema: &Schema) -> (EncodedData, DictionaryTracker) {
        let mut names = DictionaryTracker::new(false);
        let head = IpcDataGenerator::default().schema_to_bytes_with_dictionary_tracker(
            schema,
            &mut names,
            &self.options,
        );
        (head, names)
    }
}

/// A stream that is being written.
pub struct Stream<W> {
    out: W,
    schema: SchemaRef,
    quick: Encoding,
    thorough: Encoding,
    /// The names that readers have.
    names: DictionaryTracker,
    /// What is to be written, in one call: a program that is killed leaves whole batches.
    bytes: Vec<u8>,
    written: u64,
}

impl<W: Destination> Stream<W> {
    /// Begins a stream. Returns it and the head of its schema.
    pub fn begin(out: W, schema: SchemaRef) -> io::Result<(Self, Vec<u8>)> {
        let quick = Encoding::new(QUICK).map_err(other)?;
        let (message, names) = quick.head(&schema);
        let head = message.ipc_message.clone();
        let mut bytes = Vec::new();
        write_message(&mut bytes, message, &quick.options).map_err(other)?;
        let mut stream = Self {
            out,
            schema,
            quick,
            thorough: Encoding::new(THOROUGH).map_err(other)?,
            names,
            bytes,
            written: 0,
        };
        stream.append()?;
        Ok((stream, head))
    }

    /// The columns, and what is known before the first batch.
    pub fn schema(&self) -> SchemaRef {
        SchemaRef::clone(&self.schema)
    }

    /// Appends a batch, or as many of its rows as there is room for.
    ///
    /// # Errors
    ///
    /// Those of the destination. Where it can be changed, it ends with a whole batch then.
    pub fn write(&mut self, batch: &RecordBatch, pace: Pace) -> io::Result<()> {
        match self.write_whole(batch, pace) {
            Err(error) if is_for_room(&error) && self.out.changeable().is_some() => {
                self.write_what_fits(batch, error)
            }
            done => done,
        }
    }

    /// Appends the mark that ends the stream. Returns the bytes of all.
    ///
    /// # Errors
    ///
    /// Those of the destination.
    pub fn end(&mut self) -> io::Result<u64> {
        self.bytes.extend(END);
        self.append()?;
        self.out.flush()?;
        Ok(self.written)
    }

    /// The bytes that were written until now.
    pub fn bytes(&self) -> u64 {
        self.written
    }

    /// Leaves what it was written to.
    pub fn into_destination(self) -> W {
        self.out
    }

    /// What it is written to.
    pub fn destination(&mut self) -> &mut W {
        &mut self.out
    }

    fn write_whole(&mut self, batch: &RecordBatch, pace: Pace) -> io::Result<()> {
        let encoding = match pace {
            Pace::Thorough if batch.num_rows() < FEW_ROWS => &mut self.thorough,
            _ => &mut self.quick,
        };
        let (names, rows) = IpcDataGenerator::default()
            .encode(
                batch,
                &mut self.names,
                &encoding.options,
                &mut encoding.context,
            )
            .map_err(other)?;
        for message in names.into_iter().chain([rows]) {
            write_message(&mut self.bytes, message, &encoding.options).map_err(other)?;
        }
        self.append()
    }

    /// Appends the first rows of a batch for which, as a whole, there was no room. Returns that error if there is
    /// none for some of them.
    fn write_what_fits(&mut self, batch: &RecordBatch, error: io::Error) -> io::Result<()> {
        let rows = batch.num_rows();
        let (mut next, mut length) = (0, rows / 2);
        while next < rows {
            if length < LEAST_ROWS {
                return Err(error);
            }
            let part = batch.slice(next, length.min(rows - next));
            match self.write_whole(&part, Pace::Quick) {
                Ok(()) => next += part.num_rows(),
                Err(error) if is_for_room(&error) => length /= 2,
                Err(other) => return Err(other),
            }
        }
        Ok(())
    }

    /// Appends the bytes of whole messages, all or, where that is possible, none.
    fn append(&mut self) -> io::Result<()> {
        let result = self.out.write_all(&self.bytes);
        let length = self.bytes.len() as u64;
        self.bytes.clear();
        let Err(error) = result else {
            self.written += length;
            return Ok(());
        };
        // The names in the torn end go with it, or nobody reads behind it.
        self.names = self.quick.head(&self.schema).1;
        let Some(file) = self.out.changeable() else {
            return Err(error);
        };
        file.cut_to(self.written).map_err(|second| {
            let text = format!("{error}; and the torn end cannot be cut off: {second}");
            // Of another kind: nothing can follow.
            io::Error::other(text)
        })?;
        Err(error)
    }
}

/// Whether less could be written.
fn is_for_room(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge
    )
}

pub fn other(error: ArrowError) -> io::Error {
    io::Error::other(error)
}
