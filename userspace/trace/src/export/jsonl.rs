// SPDX-License-Identifier: GPL-2.0-only

//! A JSON object on each line: all rows, with the columns of the trace file that are not null.

use std::io::{self, Write};

use serde::Serialize;

use super::{Export, Symbol};
use crate::{csv::push_flags, Row};

pub struct Jsonl;

/// The columns of the trace file, and those of the symbol. Addresses are hexadecimal texts: many readers of JSON keep 53 bits.
#[derive(Default, Serialize)]
struct Line<'a> {
    event: &'static str,
    time_ns: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    process: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thread: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fate: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    access: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ip: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mapping: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    permissions: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file_offset: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    flags: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    program: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    old_tid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    min_flt: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    maj_flt: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    end_ns: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    object: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ip_offset: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    build_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    symbol: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    symbol_offset: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    duration_ns: Option<u64>,
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
