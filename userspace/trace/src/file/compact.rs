// SPDX-License-Identifier: GPL-2.0-only

//! Makes few large batches of many small ones: a small batch takes some kilobytes, however few rows it has.

use std::{
    io::{self, Read},
    sync::Arc,
};

use arrow_array::{
    cast::AsArray as _, Array, ArrayRef, DictionaryArray, PrimitiveArray, RecordBatch, StringArray,
};
use arrow_buffer::NullBufferBuilder;
use arrow_schema::SchemaRef;
use arrow_select::concat::concat;
use rustc_hash::FxHashMap;

use super::{
    read::Reader,
    schema::{many, ManyKey, BATCH_ROWS},
    stream::{other, Destination, Pace, Stream},
};

/// A trace that was copied.
#[derive(Clone, Copy, Debug)]
pub struct Compacted {
    /// Bytes of the copy.
    pub bytes: u64,
    /// Rows that are in it.
    pub rows: u64,
}

/// Copies a trace from its beginning to its end. Batches that follow one another and fit in one are one in the copy.
/// `progress` is emitted the rows that were copied.
///
/// # Errors
///
/// If the trace is not whole, or those of `to`: then nothing that stands there is of any use.
pub fn compact(
    from: impl Read,
    to: impl Destination,
    mut progress: impl FnMut(u64),
) -> io::Result<Compacted> {
    let mut reader = Reader::new(from).map_err(io::Error::other)?;
    let schema = reader
        .schema()
        .ok_or_else(|| io::Error::other("there is no schema"))?;
    let (mut stream, _) = Stream::begin(to, Arc::clone(&schema))?;
    let mut group: Vec<RecordBatch> = Vec::new();
    let (mut rows, mut copied) = (0, 0);
    while let Some(batch) = reader.next_of_batches().map_err(io::Error::other)? {
        if !group.is_empty() && rows + batch.num_rows() > BATCH_ROWS {
            stream.write(&joined(&schema, &group)?, Pace::Thorough)?;
            group.clear();
            copied += rows as u64;
            progress(copied);
            rows = 0;
        }
        rows += batch.num_rows();
        group.push(batch);
    }
    if !group.is_empty() {
        stream.write(&joined(&schema, &group)?, Pace::Thorough)?;
    }
    Ok(Compacted {
        bytes: stream.end()?,
        rows: copied + rows as u64,
    })
}

/// One batch of several.
fn joined(schema: &SchemaRef, group: &[RecordBatch]) -> io::Result<RecordBatch> {
    let columns = schema.fields().iter().enumerate().map(|(index, field)| {
        let parts: Vec<&ArrayRef> = group.iter().map(|batch| batch.column(index)).collect();
        if *field.data_type() == many() {
            return joined_names(&parts);
        }
        // Few different values: their dictionary stays the same throughout a file.
        let parts: Vec<_> = parts.into_iter().map(AsRef::as_ref).collect();
        concat(&parts).map_err(other)
    });
    let columns = columns.collect::<io::Result<_>>()?;
    RecordBatch::try_new(Arc::clone(schema), columns).map_err(other)
}

/// One column of several, with one dictionary of the names that are used.
fn joined_names(parts: &[&ArrayRef]) -> io::Result<ArrayRef> {
    type Key = <ManyKey as arrow_array::ArrowPrimitiveType>::Native;
    let wrong = || io::Error::other("a column of names is of another type");
    let rows = parts.iter().map(Array::len).sum();
    let mut keys: Vec<Key> = Vec::with_capacity(rows);
    let mut valid = NullBufferBuilder::new(rows);
    let mut names: Vec<&str> = Vec::new();
    let mut by_text: FxHashMap<&str, Key> = FxHashMap::default();
    for part in parts {
        let part = part.as_dictionary_opt::<ManyKey>().ok_or_else(wrong)?;
        let values = part.values().as_string_opt::<i32>().ok_or_else(wrong)?;
        let mut new_keys: Vec<Option<Key>> = vec![None; values.len()];
        for key in part.keys() {
            valid.append(key.is_some());
            let Some(key) = key else {
                keys.push(0);
                continue;
            };
            // CAST: not negative; the reader has checked that it is one of the values.
            let index = key as usize;
            let new_key = *new_keys[index].get_or_insert_with(|| {
                *by_text.entry(values.value(index)).or_insert_with(|| {
                    names.push(values.value(index));
                    // CAST: not more different names than rows, which a key can tell apart.
                    (names.len() - 1) as Key
                })
            });
            keys.push(new_key);
        }
    }
    let keys = PrimitiveArray::<ManyKey>::new(keys.into(), valid.finish());
    let names = StringArray::from_iter_values(names);
    let column = DictionaryArray::try_new(keys, Arc::new(names)).map_err(other)?;
    Ok(Arc::new(column))
}
