// SPDX-License-Identifier: GPL-2.0-only

//! A JSON object on each line, with the columns of the table that are not null.

use std::io::{self, Write};

use serde::Serialize;

use super::{wall_time::WallTime, Export, Names};
use crate::{csv::push_flags, BuildId, Metadata, Row};

pub struct Jsonl {
    events: bool,
    time: WallTime,
}

impl Jsonl {
    pub fn new(metadata: &Metadata, events: bool) -> Self {
        Self {
            events,
            time: WallTime::new(metadata),
        }
    }
}

/// Declares [`Line`]: two columns of every row, and those that a row may not have.
macro_rules! line {
    ($a:lifetime: $($column:ident: $type:ty,)*) => {
        /// The columns of [`super::table`]. Addresses are numbers: those of programs have at most 47 bits (56 on a
        /// machine with five levels of page tables, where they ask for it).
        #[derive(Default, Serialize)]
        struct Line<$a> {
            #[serde(skip_serializing_if = "Option::is_none")]
            event: Option<&'static str>,
            time: String,
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
    address: i64,
    ip: i64,
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
    attempts: u32,
    returns: u32,
    page_bytes: u64,
    page_node: u32,
    around: u32,
    device: u64,
    inode: u64,
    changed_ns: i64,
    stack: u32,
    callers: String,
    panel: u32,
    panel_offset: u64,
    panel_label: &'a str,
    caller: u32,
}

/// A build id: an empty text if there is none, nothing if it is not known.
fn digits(build_id: &BuildId) -> Option<&str> {
    match build_id {
        BuildId::Of(digits) => Some(digits),
        BuildId::Absent => Some(""),
        BuildId::Unread => None,
    }
}

impl Export for Jsonl {
    fn row(&mut self, row: &Row, names: &Names, out: &mut dyn Write) -> io::Result<()> {
        if !self.events && !matches!(row, Row::Fault(_)) {
            return Ok(());
        }
        let line = Line {
            event: self.events.then(|| row.event()),
            time: self.time.text(row.time_ns()),
            time_ns: row.time_ns(),
            ..Line::default()
        };
        let symbol = names.symbol.as_ref();
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
                    // CAST: those of programs are below 2^63, but for [vsyscall], which is negative.
                    address: Some(row.fault.address as i64),
                    ip: Some(row.fault.ip as i64),
                    mapping: place.map(|place| &*place.name),
                    permissions: place.map(|place| &*place.permissions),
                    file_offset: place.and_then(|place| place.file_offset),
                    flags: Some(String::from_utf8_lossy(&flags).into_owned()),
                    object: row.code.as_ref().map(|code| &*code.object.name),
                    ip_offset: row.code.as_ref().map(|code| code.offset),
                    build_id: row
                        .code
                        .as_ref()
                        .and_then(|code| digits(&code.object.build_id)),
                    symbol: symbol.map(|symbol| &*symbol.name),
                    symbol_offset: symbol.map(|symbol| symbol.offset),
                    program: row.program.as_deref(),
                    duration_ns: row.duration_ns,
                    attempts: Some(row.attempts),
                    returns: Some(row.returns),
                    page_bytes: row.page_bytes,
                    page_node: row.page_node,
                    around: row.around,
                    stack: row.stack,
                    callers: names.callers_text(";"),
                    panel: names.band.as_ref().map(|band| band.panel),
                    panel_offset: names.band.as_ref().map(|band| band.offset),
                    panel_label: names.band.as_ref().map(|band| &*band.label),
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
                address: Some(row.address as i64),
                ip_offset: row.elf_address(),
                file_offset: Some(row.file_offset),
                object: Some(&row.object.name),
                build_id: digits(&row.object.build_id),
                device: row.object.file.map(|file| file.device),
                inode: row.object.file.map(|file| file.inode),
                changed_ns: row.object.file.and_then(|file| file.changed_ns),
                ..line
            },
            Row::Frame(row) => Line {
                cpu: Some(row.cpu),
                pid: Some(row.pid),
                tid: Some(row.tid),
                object: row.code.as_ref().map(|code| &*code.object.name),
                ip_offset: Some(row.ip_offset()),
                symbol: symbol.map(|symbol| &*symbol.name),
                symbol_offset: symbol.map(|symbol| symbol.offset),
                stack: Some(row.id),
                caller: Some(row.caller),
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
