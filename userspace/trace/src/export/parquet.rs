// SPDX-License-Identifier: GPL-2.0-only

//! Apache Parquet, which DuckDB, Spark and others query: all rows, with the columns of the trace file, and
//! behind them the instruction pointers and the symbols.

use std::{
    io::{self, Write},
    sync::Arc,
};

use arrow_array::{types::UInt64Type, ArrayRef, PrimitiveArray, RecordBatch};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use parquet::{
    arrow::ArrowWriter,
    basic::{Compression, ZstdLevel},
    file::properties::WriterProperties,
};

use super::{Export, Symbol};
use crate::{
    file::{
        batch::{Batch, SymbolNames},
        schema::{fields, many, schema, BATCH_ROWS},
    },
    About, Row,
};

/// Rows of a group, which is written at once: some batches.
const GROUP_ROWS: usize = 8 * BATCH_ROWS;

pub struct Parquet {
    schema: SchemaRef,
    /// Writes to memory, which is emptied into the output again and again.
    writer: Option<ArrowWriter<Vec<u8>>>,
    batch: Batch,
    ips: Vec<Option<u64>>,
    symbols: SymbolNames,
    symbol_offsets: Vec<Option<u64>>,
}

impl Parquet {
    pub fn begin(about: &About) -> io::Result<Self> {
        let mut fields = fields();
        fields.push(Field::new("ip", DataType::UInt64, true));
        fields.push(Field::new("symbol", many(), true));
        fields.push(Field::new("symbol_offset", DataType::UInt64, true));
        let metadata = schema(about).metadata().clone();
        let schema = Arc::new(Schema::new(fields).with_metadata(metadata));
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .set_max_row_group_row_count(Some(GROUP_ROWS))
            .build();
        let writer = ArrowWriter::try_new(Vec::new(), Arc::clone(&schema), Some(properties))?;
        Ok(Self {
            schema,
            writer: Some(writer),
            batch: Batch::default(),
            ips: Vec::new(),
            symbols: SymbolNames::default(),
            symbol_offsets: Vec::new(),
        })
    }

    /// Hands the rows there are to the writer, and what it has written to the output.
    fn write_batch(&mut self, out: &mut dyn Write) -> io::Result<()> {
        let rows = self.batch.rows();
        let numbers = |numbers: &mut Vec<Option<u64>>| -> ArrayRef {
            Arc::new(PrimitiveArray::<UInt64Type>::from_iter(numbers.drain(..)))
        };
        let mut columns = self.batch.take();
        columns.push(numbers(&mut self.ips));
        columns.push(self.symbols.take(rows));
        columns.push(numbers(&mut self.symbol_offsets));
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), columns).map_err(other)?;
        if let Some(writer) = &mut self.writer {
            writer.write(&batch)?;
            writer.sync()?;
            // The writer counts its bytes by itself.
            out.write_all(&std::mem::take(writer.inner_mut()))?;
        }
        Ok(())
    }
}

fn other(error: arrow_schema::ArrowError) -> io::Error {
    io::Error::other(error)
}

impl Export for Parquet {
    fn row(&mut self, row: &Row, symbol: Option<&Symbol>, out: &mut dyn Write) -> io::Result<()> {
        let n = self.batch.rows();
        self.batch.push(row);
        self.ips.push(match row {
            Row::Fault(fault) | Row::Pending(fault) => Some(fault.fault.ip),
            _ => None,
        });
        self.symbols
            .set_option(n, symbol.map(|symbol| &symbol.name));
        self.symbol_offsets.push(symbol.map(|symbol| symbol.offset));
        if self.batch.is_full() {
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
