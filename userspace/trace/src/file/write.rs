// SPDX-License-Identifier: GPL-2.0-only

//! Writing a trace.

use std::io;

use arrow_array::RecordBatch;
use arrow_ipc::root_as_message;

use super::{
    batch::Batch,
    schema::{account_metadata, schema, BATCH_ROWS},
    stream::{other, Destination, Pace, Stream, END},
};
use crate::{Account, Metadata, Row};

/// Writes a trace, batch by batch.
///
/// What was not [flushed](Writer::flush) is lost when the writer is dropped.
pub struct Writer<W> {
    stream: Stream<W>,
    batch: Batch,
    /// Where the values of [`account_metadata`] are.
    account_at: [u64; Account::COUNTS],
    /// Rows of the batch that was written last; `None` before the first.
    last_rows: Option<usize>,
    /// Two batches that follow one another would fit in one.
    loose: bool,
}

impl<W: Destination> Writer<W> {
    /// Begins a trace: what is written at once is a whole one without rows.
    ///
    /// # Errors
    ///
    /// Those of `out`.
    pub fn new(out: W, metadata: &Metadata) -> io::Result<Self> {
        let (stream, head) = Stream::begin(out, schema(metadata))?;
        let mut writer = Self {
            stream,
            batch: Batch::default(),
            account_at: account_at(&head)?,
            last_rows: None,
            loose: false,
        };
        writer.write_batch(Pace::Quick)?;
        writer.last_rows = None;
        Ok(writer)
    }

    /// Adds a row; writes a batch when there are enough.
    ///
    /// # Errors
    ///
    /// Those of `out`. Of the rows that were to be written, as many are as there is room for.
    pub fn push(&mut self, row: &Row) -> io::Result<()> {
        self.batch.push(row);
        if self.batch.is_full() {
            self.write_batch(Pace::Quick)?;
        }
        Ok(())
    }

    /// Writes out the rows there are.
    ///
    /// # Errors
    ///
    /// As for [`Writer::push`].
    pub fn flush(&mut self) -> io::Result<()> {
        if self.batch.rows() != 0 {
            // Small batches that stay are to be small.
            let stays = self.stream.destination().changeable().is_none();
            self.write_batch(if stays { Pace::Thorough } else { Pace::Quick })?;
        }
        self.stream.destination().flush()
    }

    /// Writes out the rows there are and ends the stream. Returns the bytes of all.
    ///
    /// # Errors
    ///
    /// As for [`Writer::push`].
    pub fn finish(&mut self) -> io::Result<u64> {
        if self.batch.rows() != 0 {
            self.write_batch(Pace::Thorough)?;
        }
        self.stream.end()
    }

    /// Says in the metadata, at the beginning, what was recorded and lost. What cannot be
    /// [changed](Destination::changeable) does not say it there.
    ///
    /// # Errors
    ///
    /// Those of `out`.
    pub fn set_account(&mut self, account: &Account) -> io::Result<()> {
        if let Some(file) = self.stream.destination().changeable() {
            let metadata = account_metadata(Some(account));
            for (at, (_, value)) in self.account_at.iter().zip(metadata) {
                file.write_over(value.as_bytes(), *at)?;
            }
        }
        Ok(())
    }

    /// The bytes that were written until now.
    pub fn bytes(&self) -> u64 {
        self.stream.bytes()
    }

    /// Whether [`super::compact()`] would make fewer batches of those that were written.
    pub fn is_loose(&self) -> bool {
        self.loose
    }

    /// What it writes to.
    #[cfg(test)]
    pub fn destination(&mut self) -> &mut W {
        self.stream.destination()
    }

    /// Leaves what it wrote to. What was not flushed is lost.
    pub fn into_destination(self) -> W {
        self.stream.into_destination()
    }

    /// Writes the rows of the batch, of which none are left there.
    fn write_batch(&mut self, pace: Pace) -> io::Result<()> {
        let rows = self.batch.rows();
        let before = self.last_rows.replace(rows);
        self.loose |= before.is_some_and(|before| before + rows <= BATCH_ROWS);
        let batch = RecordBatch::try_new(self.stream.schema(), self.batch.take());
        self.stream.write(&batch.map_err(other)?, pace)
    }
}

/// Where in a stream that begins with this head the values of [`account_metadata`] are.
fn account_at(head: &[u8]) -> io::Result<[u64; Account::COUNTS]> {
    let missing = || io::Error::other("the schema lacks its metadata");
    let message = root_as_message(head).ok();
    let schema = message.and_then(|message| message.header_as_schema());
    let metadata = schema.and_then(|schema| schema.custom_metadata());
    let metadata = metadata.ok_or_else(missing)?;
    let mut places = [0; Account::COUNTS];
    for (place, (key, _)) in places.iter_mut().zip(account_metadata(None)) {
        let entry = metadata.iter().find(|entry| entry.key() == Some(key));
        let value = entry.and_then(|entry| entry.value()).ok_or_else(missing)?;
        // The mark and the length stand before the head.
        let start = value.as_ptr().addr() - head.as_ptr().addr() + END.len();
        *place = start as u64;
    }
    Ok(places)
}
