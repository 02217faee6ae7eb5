// SPDX-License-Identifier: GPL-2.0-only

//! Writing a trace.

use std::{
    io::{self, Write},
    sync::Arc,
};

use arrow_array::RecordBatch;
use arrow_ipc::{
    writer::{
        write_message, DictionaryTracker, IpcDataGenerator, IpcWriteContext, IpcWriteOptions,
    },
    CompressionType, MetadataVersion,
};
use arrow_schema::{ArrowError, SchemaRef};

use super::{batch::Batch, schema::schema};
use crate::{About, Row};

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
    fn new(level: i32) -> Result<Self, ArrowError> {
        Ok(Self {
            options: IpcWriteOptions::try_new(ALIGNMENT, false, MetadataVersion::V5)?
                .try_with_compression(Some(CompressionType::ZSTD))?
                .try_with_compression_level(Some(level))?,
            // It keeps the level that it is used with first.
            context: IpcWriteContext::default(),
        })
    }
}

/// Writes a trace, batch by batch.
///
/// What was not [flushed](Writer::flush) is lost when the writer is dropped.
pub struct Writer<W> {
    out: W,
    schema: SchemaRef,
    generator: IpcDataGenerator,
    dictionaries: DictionaryTracker,
    large: Encoding,
    small: Encoding,
    batch: Batch,
    /// What is to be written, in one call: a program that is killed leaves whole batches.
    bytes: Vec<u8>,
    written: u64,
}

impl<W: Write> Writer<W> {
    /// Begins a trace: what is written at once is a whole one without rows.
    ///
    /// # Errors
    ///
    /// Those of `out`.
    pub fn new(out: W, about: &About) -> io::Result<Self> {
        let (_, large, small) = LEVELS;
        let mut writer = Self {
            out,
            schema: schema(about),
            generator: IpcDataGenerator::default(),
            dictionaries: DictionaryTracker::new(false),
            large: Encoding::new(large).map_err(other)?,
            small: Encoding::new(small).map_err(other)?,
            batch: Batch::default(),
            bytes: Vec::new(),
            written: 0,
        };
        let head = writer.generator.schema_to_bytes_with_dictionary_tracker(
            &writer.schema,
            &mut writer.dictionaries,
            &writer.small.options,
        );
        write_message(&mut writer.bytes, head, &writer.small.options).map_err(other)?;
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
        if self.batch.rows() != 0 {
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
        self.out.write_all(&END)?;
        self.out.flush()?;
        Ok(self.written + END.len() as u64)
    }

    /// Bytes of the batches that were written: after an error, what is behind them is a torn one.
    pub fn written(&self) -> u64 {
        self.written
    }

    fn write_batch(&mut self) -> io::Result<()> {
        let encoding = if self.batch.rows() >= LEVELS.0 {
            &mut self.large
        } else {
            &mut self.small
        };
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), self.batch.take());
        let encoded = batch.and_then(|batch| {
            self.generator.encode(
                &batch,
                &mut self.dictionaries,
                &encoding.options,
                &mut encoding.context,
            )
        });
        let (dictionaries, batch) = encoded.map_err(other)?;
        for message in dictionaries.into_iter().chain([batch]) {
            write_message(&mut self.bytes, message, &encoding.options).map_err(other)?;
        }
        self.out.write_all(&self.bytes)?;
        self.written += self.bytes.len() as u64;
        self.bytes.clear();
        Ok(())
    }
}

/// The end mark of the format: a frame without a head.
const END: [u8; 8] = [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];

fn other(error: ArrowError) -> io::Error {
    io::Error::other(error)
}
