// SPDX-License-Identifier: GPL-2.0-only

//! The Arrow IPC *file* format, also called Feather 2, which pandas, polars and R open by name. (The trace itself is
//! a stream.)

use std::io::{self, Write};

use arrow_ipc::{
    writer::{FileWriter, IpcWriteOptions},
    CompressionType,
};

use super::{
    table::{Table, Texts},
    Columns, Export, Names,
};
use crate::{Metadata, Row};

/// Of zstd: the lowest.
const LEVEL: i32 = 1;

pub struct Arrow {
    /// Writes to memory, which is emptied into the output again and again.
    writer: FileWriter<Vec<u8>>,
    table: Table,
}

impl Arrow {
    pub fn begin(metadata: &Metadata, columns: Columns) -> io::Result<Self> {
        let table = Table::new(metadata, columns, Texts::Plain);
        let writer = || {
            let options = IpcWriteOptions::default()
                .try_with_compression(Some(CompressionType::ZSTD))?
                .try_with_compression_level(Some(LEVEL))?;
            FileWriter::try_new_with_options(Vec::new(), table.schema(), options)
        };
        Ok(Self {
            writer: writer().map_err(io::Error::other)?,
            table,
        })
    }

    /// Hands the rows there are to the writer, and what it has written to the output.
    fn write_batch(&mut self, out: &mut dyn Write) -> io::Result<()> {
        let batch = self.table.take()?;
        self.writer.write(&batch).map_err(io::Error::other)?;
        self.empty(out)
    }

    fn empty(&mut self, out: &mut dyn Write) -> io::Result<()> {
        // The writer counts its bytes by itself.
        out.write_all(&std::mem::take(self.writer.get_mut()))
    }
}

impl Export for Arrow {
    fn row(&mut self, row: &Row, names: &Names, out: &mut dyn Write) -> io::Result<()> {
        self.table.push(row, names);
        if self.table.is_full() {
            self.write_batch(out)?;
        }
        Ok(())
    }

    fn end(&mut self, out: &mut dyn Write) -> io::Result<()> {
        self.write_batch(out)?;
        self.writer.finish().map_err(io::Error::other)?;
        self.empty(out)
    }
}
