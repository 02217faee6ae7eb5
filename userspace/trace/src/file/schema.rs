// SPDX-License-Identifier: GPL-2.0-only

//! The columns of the table, and what the schema's metadata says.

use std::{collections::HashMap, sync::Arc};

use arrow_array::types::{ArrowDictionaryKeyType, Int16Type, Int8Type};
use arrow_schema::{DataType, Field, Schema, SchemaRef};

use crate::{Account, Metadata};

/// Version of the format. It changes when a column or a meaning changes; new events and new columns at
/// the end leave it as it is.
pub const FORMAT: &str = "3";

/// Keys of the metadata.
pub mod key {
    pub const FORMAT: &str = "fault_tracer.format";
    pub const VERSION: &str = "fault_tracer.version";
    pub const HOST: &str = "host";
    pub const KERNEL: &str = "kernel";
    pub const COMMAND: &str = "command";
    pub const CLOCK: &str = "clock";
    pub const WALL_OFFSET: &str = "wall_offset_ns";
    pub const WALL_ERROR: &str = "wall_error_ns";
    pub const LATENCY: &str = "latency";
    pub const ATTEMPTS: &str = "attempts";
    pub const NODES: &str = "nodes";
    pub const PAGE_BYTES: &str = "page_bytes";
    pub const SELECTION: &str = "selection";
}

/// What the metadata says of an account: as long whatever it is. It gets known when the recording ends, and the
/// schema stands at the beginning.
pub fn account_metadata(account: Option<&Account>) -> [(&'static str, String); Account::COUNTS] {
    let counts = account.copied().unwrap_or_default().counts();
    counts.map(|(key, count)| {
        let text = account.map_or_else(|| "unknown".into(), |_| count.to_string());
        // As long as the longest number.
        (key, format!("{text:<20}"))
    })
}

/// The account that the metadata tells, if it does.
pub fn account_of(metadata: impl Fn(&str) -> String) -> Option<Account> {
    let mut account = Account::default();
    for (key, count) in account.counts_mut() {
        let text = metadata(key);
        // Traces of older versions have no such key.
        if ["deaf", "passed_over"].contains(&key) && text.is_empty() {
            continue;
        }
        *count = text.trim_end().parse().ok()?;
    }
    Some(account)
}

/// Keys of columns with some tens of different values, all of them known before.
pub type FewKey = Int8Type;
/// Keys of columns with at most as many different values as a batch has rows, and some from before.
pub type ManyKey = Int16Type;

/// A dictionary with more names than this is not carried on when there is a new one.
pub const CARRIED_MOST: usize = 256;

/// In the column `build_id`: the file could not be read. It is no hexadecimal number.
pub const UNREAD: &str = "unread";

/// Rows of the largest batch: what [`ManyKey`] can tell apart.
pub const BATCH_ROWS: usize = (1 << 15) - CARRIED_MOST;

fn dictionary<K: ArrowDictionaryKeyType>() -> DataType {
    DataType::Dictionary(Box::new(K::DATA_TYPE), Box::new(DataType::Utf8))
}

/// Columns that each trace has: later versions have added those behind them.
pub const FIELDS_FIRST: usize = 31;

/// A column with [`ManyKey`].
pub fn many() -> DataType {
    dictionary::<ManyKey>()
}

/// Names, types and order of the columns.
pub fn fields() -> Vec<Field> {
    let few = dictionary::<FewKey>;
    vec![
        Field::new("event", few(), false),
        Field::new("time_ns", DataType::Int64, false),
        Field::new("cpu", DataType::UInt16, true),
        Field::new("pid", DataType::UInt32, true),
        Field::new("tid", DataType::UInt32, true),
        Field::new("process", many(), true),
        Field::new("thread", many(), true),
        Field::new("kind", few(), true),
        Field::new("fate", few(), true),
        Field::new("access", few(), true),
        Field::new("address", DataType::UInt64, true),
        Field::new("mapping", many(), true),
        Field::new("permissions", many(), true),
        Field::new("file_offset", DataType::UInt64, true),
        Field::new("flags", many(), true),
        Field::new("program", many(), true),
        Field::new("parent", DataType::UInt32, true),
        Field::new("old_tid", DataType::UInt32, true),
        Field::new("min_flt", DataType::UInt64, true),
        Field::new("maj_flt", DataType::UInt64, true),
        Field::new("end_ns", DataType::Int64, true),
        Field::new("count", DataType::UInt64, true),
        Field::new("object", many(), true),
        Field::new("ip_offset", DataType::UInt64, true),
        Field::new("build_id", DataType::Utf8, true),
        Field::new("duration_ns", DataType::UInt64, true),
        Field::new("attempts", DataType::UInt32, true),
        Field::new("returns", DataType::UInt32, true),
        Field::new("device", DataType::UInt64, true),
        Field::new("inode", DataType::UInt64, true),
        Field::new("changed_ns", DataType::Int64, true),
        Field::new("page_bytes", DataType::UInt64, true),
        Field::new("stack", DataType::UInt32, true),
        Field::new("caller", DataType::UInt32, true),
        Field::new("page_node", DataType::UInt32, true),
        Field::new("around", DataType::UInt32, true),
    ]
}

/// The schema of a trace.
pub fn schema(metadata: &Metadata) -> SchemaRef {
    let Metadata {
        version,
        host,
        kernel,
        command,
        clock,
        wall_offset_ns,
        wall_error_ns,
        latency,
        attempts_apart,
        selection,
        nodes,
        page_size,
        account,
    } = metadata;
    let entries = [
        (key::FORMAT, FORMAT),
        (key::VERSION, version),
        (key::HOST, host),
        (key::KERNEL, kernel),
        (key::COMMAND, command),
        (key::CLOCK, clock),
        (key::WALL_OFFSET, &wall_offset_ns.to_string()),
        (key::WALL_ERROR, &wall_error_ns.to_string()),
        (key::LATENCY, &latency.to_string()),
        (
            key::ATTEMPTS,
            if *attempts_apart { "apart" } else { "joined" },
        ),
        (key::NODES, &nodes.to_string()),
        (key::PAGE_BYTES, &page_size.to_string()),
        (key::SELECTION, selection),
    ];
    let entries = entries.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let account = account_metadata(account.as_ref()).map(|(key, value)| (key.to_owned(), value));
    let entries = entries.into_iter().chain(account);
    Arc::new(Schema::new(fields()).with_metadata(HashMap::from_iter(entries)))
}
