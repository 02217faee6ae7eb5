// SPDX-License-Identifier: GPL-2.0-only

//! A JSON object on each line: all rows, with the columns of the trace file that are not null.

use std::io::{self, Write};

use serde::Serialize;

use super::{Export, Symbol};
use crate::{csv::push_flags, Row};

pub struct Jsonl;

/// Declares [`Line`]: two columns of every row, and those that a row may not have.
macro_rules! line {
    ($a:lifetime: $($column:ident: $type:ty,)*) => {
        /// The columns of the trace file, and those of the symbol. Addresses are hexadecimal texts: many
        /// readers of JSON keep 53 bits.
        #[derive(Default, Serialize)]
        struct Line<$a> {
            event: &'static str,
            time_ns: u64,
            $(
                #[serde(skip_serializing_if = "Option::is_none")]
                $column: Option<$type>,
            )*
        }
    };
}

line! { 'a:
    cpu: u32,
    pid: u32,
    tid: u32,
    process: &'a str,
    thread: &'a str,
    kind: &'static str,
    fate: &'static str,
    access: &'static str,
    address: String,
    ip: String,
    mapping: &'a str,
    permissions: &'a str,
    file_offset: u64,
    flags: String,
    program: &'a str,
    parent: u32,
    old_tid: u32,
    min_flt: u64,
    maj_flt: u64,
    end_ns: u64,
    count: u64,
    object: &'a str,
    ip_offset: u64,
    build_id: &'a str,
    symbol: &'a str,
    symbol_offset: u64,
    duration_ns: u64,
}

impl Export for Jsonl {
    fn row(&mut self, row: &Row, symbol: Option<&Symbol>, out: &mut dyn Write) -> io::Result<()> {
        let line = Line {
            event: row.event(),
            time_ns: row.time_ns(),
            ..Line::default()
        };
        let line = match row {
            Row::Fault(row) | Row::Pending(row) => {
                let mut flags = Vec::new();
                push_flags(&mut flags, row.fault.flags);
                let place = row.place.as_ref();
                Line {
                    cpu: Some(row.fault.cpu),
                    pid: Some(row.fault.pid),
                    tid: Some(row.fault.tid),
                    process: row.process.as_deref(),
                    thread: row.thread.as_deref(),
                    kind: Some(row.kind.name()),
                    fate: Some(row.fate.name()),
                    access: Some(row.fault.access.name()),
                    address: Some(format!("{:#x}", row.fault.address)),
                    ip: Some(format!("{:#x}", row.fault.ip)),
                    mapping: place.map(|place| &*place.name),
                    permissions: place.map(|place| &*place.permissions),
                    file_offset: place.and_then(|place| place.file_offset),
                    flags: Some(String::from_utf8_lossy(&flags).into_owned()),
                    object: row.code.as_ref().map(|code| &*code.object.name),
                    ip_offset: row.code.as_ref().map(|code| code.offset),
                    symbol: symbol.map(|symbol| &*symbol.name),
                    symbol_offset: symbol.map(|symbol| symbol.offset),
                    duration_ns: row.duration_ns,
                    ..line
                }
            }
            Row::Thread(row) => Line {
                cpu: Some(row.cpu),
                pid: Some(row.pid),
                tid: Some(row.tid),
                process: row.process.as_deref(),
                thread: row.thread.as_deref(),
                program: row.program.as_deref(),
                parent: row.parent,
                old_tid: row.old_tid,
                min_flt: Some(row.min_flt),
                maj_flt: Some(row.maj_flt),
                ..line
            },
            Row::Text(row) => Line {
                cpu: Some(row.cpu),
                pid: Some(row.pid),
                tid: Some(row.tid),
                address: Some(format!("{:#x}", row.address)),
                ip_offset: row.elf_address(),
                file_offset: Some(row.file_offset),
                object: Some(&row.object.name),
                build_id: row.object.build_id.as_deref(),
                ..line
            },
            Row::Gap(row) => Line {
                cpu: Some(row.cpu),
                pid: Some(row.pid),
                tid: Some(row.tid),
                end_ns: Some(row.end_ns),
                count: Some(row.count),
                ..line
            },
            Row::Lost(row) => Line {
                cpu: Some(row.cpu),
                end_ns: Some(row.end_ns),
                count: Some(row.count),
                ..line
            },
            Row::Counter(row) => Line {
                cpu: row.cpu,
                count: Some(row.count),
                ..line
            },
        };
        serde_json::to_writer(&mut *out, &line)?;
        out.write_all(b"\n")
    }

    fn end(&mut self, _: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }
}
