// SPDX-License-Identifier: GPL-2.0-only

//! Writing a trace.

use std::{io, sync::Arc};

use arrow_array::RecordBatch;
use arrow_ipc::{
    root_as_message,
    writer::{
        write_message, DictionaryTracker, EncodedData, IpcDataGenerator, IpcWriteContext,
        IpcWriteOptions,
    },
    CompressionType, MetadataVersion,
};
use arrow_schema::{ArrowError, Schema, SchemaRef};

use super::{
    batch::Batch,
    replace::{is_replaceable, lengthen, may_begin_at, replace, Destination, END},
    schema::{account_metadata, schema},
};
use crate::{About, Account, Row};

/// Of a batch with so many rows or more, and of a smaller one. Many faults must cost little time each, and
/// compress well; few must not cost much space, and their time does not count.
const LEVELS: (usize, i32, i32) = (8192, 1, 6);

/// Of buffers in the file. Nobody maps compressed ones, so that more than the format asks for is a waste.
const ALIGNMENT: usize = 8;

/// How batches are compressed.
struct Encoding {
    options: IpcWriteOptions,
    context: IpcWriteContext,
}

impl Encoding {
    /// With zstd of a level, or not at all.
    fn new(level: Option<i32>) -> Result<Self, ArrowError> {
        let mut options = IpcWriteOptions::try_new(ALIGNMENT, false, MetadataVersion::V5)?;
        if level.is_some() {
            options = options
                .try_with_compression(Some(CompressionType::ZSTD))?
                .try_with_compression_level(level)?;
        }
        Ok(Self {
            options,
            // It keeps the level that it is used with first.
            context: IpcWriteContext::default(),
        })
    }

    /// Adds the messages of a batch and of its names that are not known; returns where the batch's own begins.
    fn encode(
        &mut self,
        batch: &RecordBatch,
        known: &mut Dictionaries,
        bytes: &mut Vec<u8>,
    ) -> Result<usize, ArrowError> {
        let (names, rows) = IpcDataGenerator::default().encode(
            batch,
            &mut known.0,
            &self.options,
            &mut self.context,
        )?;
        for message in names {
            write_message(&mut *bytes, message, &self.options)?;
        }
        let start = bytes.len();
        write_message(&mut *bytes, rows, &self.options)?;
        Ok(start)
    }
}

/// What a reader knows of the names.
struct Dictionaries(DictionaryTracker);

impl Dictionaries {
    /// Nothing, and the head of the stream.
    fn new(schema: &Schema, encoding: &Encoding) -> (Self, EncodedData) {
        let mut tracker = DictionaryTracker::new(false);
        let head = IpcDataGenerator::default().schema_to_bytes_with_dictionary_tracker(
            schema,
            &mut tracker,
            &encoding.options,
        );
        (Self(tracker), head)
    }
}

/// Writes a trace, batch by batch.
///
/// Where the destination can be [changed](Destination::rewrite), rows that are flushed before there are enough for
/// a batch are written as they are, and replaced by a batch of all of them when there are: a small
/// batch takes some kilobytes, however few rows it has.
///
/// What was not [flushed](Writer::flush) is lost when the writer is dropped.
pub struct Writer<W> {
    out: W,
    schema: SchemaRef,
    large: Encoding,
    small: Encoding,
    plain: Encoding,
    batch: Batch,
    /// What readers know of the names behind the last batch.
    known: Dictionaries,
    /// Rows of the batch that are written provisionally.
    flushed: Option<Flushed>,
    /// Where the values of [`account_metadata`] are.
    account_at: [u64; 6],
    /// What is to be written, in one call: a program that is killed leaves whole batches.
    bytes: Vec<u8>,
    written: u64,
}

/// Rows that are to be replaced.
struct Flushed {
    /// Where their first message begins.
    start: u64,
    rows: usize,
    /// What readers know of the names behind them.
    known: Dictionaries,
}

impl<W: Destination> Writer<W> {
    /// Begins a trace: what is written at once is a whole one without rows.
    ///
    /// # Errors
    ///
    /// Those of `out`.
    pub fn new(out: W, about: &About) -> io::Result<Self> {
        let (_, large, small) = LEVELS;
        let schema = schema(about);
        let small = Encoding::new(Some(small)).map_err(other)?;
        let (known, head) = Dictionaries::new(&schema, &small);
        let mut writer = Self {
            out,
            schema,
            large: Encoding::new(Some(large)).map_err(other)?,
            small,
            plain: Encoding::new(None).map_err(other)?,
            batch: Batch::default(),
            known,
            flushed: None,
            account_at: account_at(&head.ipc_message)?,
            bytes: Vec::new(),
            written: 0,
        };
        write_message(&mut writer.bytes, head, &writer.small.options).map_err(other)?;
        writer.write_out()?;
        writer.write_batch()?;
        Ok(writer)
    }

    /// Adds a row; writes a batch when there are enough.
    ///
    /// # Errors
    ///
    /// Those of `out`.
    pub fn push(&mut self, row: &Row) -> io::Result<()> {
        self.batch.push(row);
        if self.batch.is_full() {
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
        let flushed = self.flushed.as_ref().map_or(0, |flushed| flushed.rows);
        if self.batch.rows() != flushed {
            if self.out.rewrite().is_some() {
                self.write_provisionally(flushed)?;
            } else {
                self.write_batch()?;
            }
        }
        self.out.flush()
    }

    /// Writes out the rows there are and ends the stream. Returns the bytes of all.
    ///
    /// # Errors
    ///
    /// Those of `out`.
    pub fn finish(mut self) -> io::Result<u64> {
        if self.batch.rows() != 0 {
            self.write_batch()?;
        }
        self.out.write_all(&END)?;
        self.out.flush()?;
        Ok(self.written + END.len() as u64)
    }

    /// Says in the metadata, at the beginning, what was recorded and lost. What cannot be
    /// [changed](Destination::rewrite) does not say it there.
    ///
    /// # Errors
    ///
    /// Those of `out`.
    pub fn set_account(&mut self, account: &Account) -> io::Result<()> {
        if let Some(out) = self.out.rewrite() {
            let metadata = account_metadata(Some(account));
            for (at, (_, value)) in self.account_at.iter().zip(metadata) {
                out.write_over(value.as_bytes(), *at)?;
            }
        }
        Ok(())
    }

    /// Bytes of the batches that were written: after an error, what is behind them is a torn one.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// What it writes to.
    #[cfg(test)]
    pub fn destination(&mut self) -> &mut W {
        &mut self.out
    }

    /// Writes the rows of the batch from one on.
    fn write_provisionally(&mut self, from: usize) -> io::Result<()> {
        let rows = self.batch.rows();
        let columns = self.batch.columns_from(from);
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), columns).map_err(other)?;
        let flushed = self.flushed.get_or_insert_with(|| Flushed {
            start: self.written,
            rows: 0,
            known: Dictionaries::new(&self.schema, &self.plain).0,
        });
        self.plain
            .encode(&batch, &mut flushed.known, &mut self.bytes)
            .map_err(other)?;
        flushed.rows = rows;
        self.write_out()
    }

    /// Writes the rows of the batch, of which none are left there, in the place of those that were flushed.
    fn write_batch(&mut self) -> io::Result<()> {
        let encoding = if self.batch.rows() >= LEVELS.0 {
            &mut self.large
        } else {
            &mut self.small
        };
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), self.batch.take());
        let batch = batch.map_err(other)?;
        let last = encoding
            .encode(&batch, &mut self.known, &mut self.bytes)
            .map_err(other)?;
        let flushed = self.flushed.take();
        let start = flushed
            .as_ref()
            .map_or(self.written, |flushed| flushed.start);
        if !may_begin_at(start + self.bytes.len() as u64) {
            let mut message = self.bytes.split_off(last);
            lengthen(&mut message);
            self.bytes.append(&mut message);
        }
        let Some(flushed) = flushed else {
            return self.write_out();
        };
        match self.out.rewrite() {
            Some(out) if is_replaceable(start, self.written, &self.bytes) => {
                let done = replace(out, start, &mut self.written, &self.bytes);
                self.bytes.clear();
                done
            }
            // It has more names than rows. Those that were flushed stay.
            _ => {
                self.bytes.clear();
                self.known = flushed.known;
                let rest = batch.slice(flushed.rows, batch.num_rows() - flushed.rows);
                encoding
                    .encode(&rest, &mut self.known, &mut self.bytes)
                    .map_err(other)?;
                self.write_out()
            }
        }
    }

    fn write_out(&mut self) -> io::Result<()> {
        self.out.write_all(&self.bytes)?;
        self.written += self.bytes.len() as u64;
        self.bytes.clear();
        Ok(())
    }
}

/// Where in a stream that begins with this head the values of [`account_metadata`] are.
fn account_at(head: &[u8]) -> io::Result<[u64; 6]> {
    let missing = || io::Error::other("the schema lacks its metadata");
    let message = root_as_message(head).ok();
    let schema = message.and_then(|message| message.header_as_schema());
    let metadata = schema.and_then(|schema| schema.custom_metadata());
    let metadata = metadata.ok_or_else(missing)?;
    let mut places = [0; 6];
    for (place, (key, _)) in places.iter_mut().zip(account_metadata(None)) {
        let entry = metadata.iter().find(|entry| entry.key() == Some(key));
        let value = entry.and_then(|entry| entry.value()).ok_or_else(missing)?;
        // The mark and the length stand before the head.
        let start = value.as_ptr().addr() - head.as_ptr().addr() + END.len();
        *place = start as u64;
    }
    Ok(places)
}

fn other(error: ArrowError) -> io::Error {
    io::Error::other(error)
}
