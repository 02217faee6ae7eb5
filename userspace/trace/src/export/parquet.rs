// SPDX-License-Identifier: GPL-2.0-only

//! Apache Parquet, which DuckDB, Spark and others query.

use std::{
    io::{self, Write},
    sync::Arc,
};

use parquet::{
    arrow::{arrow_writer::ArrowWriterOptions, ArrowWriter},
    basic::{Compression, Encoding, ZstdLevel},
    file::{metadata::KeyValue, properties::WriterProperties},
    schema::types::ColumnPath,
};

use super::{
    table::{Table, Texts},
    Columns, Export, Names,
};
use crate::{file::schema::BATCH_ROWS, Metadata, Row};

/// Rows of a group, which is written at once: some batches.
const GROUP_ROWS: usize = 8 * BATCH_ROWS;

/// Columns that rise by little from row to row.
const RISING: [&str; 2] = ["time", "time_ns"];

pub struct Parquet {
    /// Writes to memory, which is emptied into the output again and again.
    writer: Option<ArrowWriter<Vec<u8>>>,
    table: Table,
}

impl Parquet {
    pub fn begin(metadata: &Metadata, columns: Columns) -> io::Result<Self> {
        let table = Table::new(metadata, columns, Texts::Dictionaries);
        let entries = table.schema().metadata().iter();
        let entries = entries.map(|(key, value)| KeyValue::new(key.clone(), value.clone()));
        let mut properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .set_max_row_group_row_count(Some(GROUP_ROWS))
            .set_key_value_metadata(Some(entries.collect()));
        for column in RISING {
            properties = properties
                .set_column_dictionary_enabled(ColumnPath::from(column), false)
                .set_column_encoding(ColumnPath::from(column), Encoding::DELTA_BINARY_PACKED);
        }
        // With Arrow's own schema in the file, readers would make dictionaries of its texts.
        let options = ArrowWriterOptions::new()
            .with_properties(properties.build())
            .with_skip_arrow_metadata(true);
        let schema = Arc::clone(table.schema());
        let writer = ArrowWriter::try_new_with_options(Vec::new(), schema, options)?;
        Ok(Self {
            writer: Some(writer),
            table,
        })
    }

    /// Hands the rows there are to the writer, and what it has written to the output.
    fn write_batch(&mut self, out: &mut dyn Write) -> io::Result<()> {
        let batch = self.table.take()?;
        if let Some(writer) = &mut self.writer {
            writer.write(&batch)?;
            writer.sync()?;
            // The writer counts its bytes by itself.
            out.write_all(&std::mem::take(writer.inner_mut()))?;
        }
        Ok(())
    }
}

impl Export for Parquet {
    fn row(&mut self, row: &Row, names: &Names, out: &mut dyn Write) -> io::Result<()> {
        self.table.push(row, names);
        if self.table.is_full() {
            self.write_batch(out)?;
        }
        Ok(())
    }

    fn end(&mut self, out: &mut dyn Write) -> io::Result<()> {
        self.write_batch(out)?;
        if let Some(writer) = self.writer.take() {
            out.write_all(&writer.into_inner()?)?;
        }
        Ok(())
    }
}
