// SPDX-License-Identifier: GPL-2.0-only

//! CSV: what `drain` writes, and further columns. The first line is the header, as programs that are given no options
//! want it; with comments, these stand before it and at the end.

use std::{
    borrow::Cow,
    io::{self, Write},
};

use super::{wall_time::WallTime, Columns, Export, Names};
use crate::{
    csv::{push_fault, push_hex, write_account, write_preamble, Preamble, HEADER},
    Account, FrameRow, Metadata, ResolvedFault, Row,
};

/// The columns of faults behind those of `drain`.
const MORE: [&str; 21] = [
    "process",
    "thread",
    "kind",
    "fate",
    "mapping",
    "permissions",
    "file_offset",
    "object",
    "ip_offset",
    "symbol",
    "symbol_offset",
    "duration_ns",
    "attempts",
    "returns",
    "program",
    "time",
    "page_bytes",
    "page_node",
    "around",
    "stack",
    "callers",
];

/// The columns of other events behind those.
const OF_EVENTS: [&str; 11] = [
    "parent",
    "old_tid",
    "min_flt",
    "maj_flt",
    "end_ns",
    "count",
    "build_id",
    "device",
    "inode",
    "changed_ns",
    "caller",
];

/// The columns of bands behind those.
const OF_BANDS: [&str; 3] = ["panel", "panel_offset", "panel_label"];

pub struct Csv {
    columns: Columns,
    comments: bool,
    time: WallTime,
    line: Vec<u8>,
    account: Account,
    ended: bool,
}

impl Csv {
    pub fn begin(
        metadata: &Metadata,
        columns: Columns,
        comments: bool,
        out: &mut dyn Write,
    ) -> io::Result<Self> {
        if comments {
            let Metadata {
                version,
                kernel,
                command,
                clock,
                wall_offset_ns,
                wall_error_ns,
                page_size,
                ..
            } = metadata.clone();
            let preamble = Preamble {
                version,
                kernel,
                command,
                clock,
                wall_offset_ns,
                wall_error_ns,
                page_size,
            };
            write_preamble(out, &preamble)?;
        }
        let Columns { events, bands, .. } = columns;
        let mut header = vec![HEADER];
        header.extend(MORE);
        if events {
            header.insert(0, "event");
            header.extend(OF_EVENTS);
        }
        if bands {
            header.extend(OF_BANDS);
        }
        writeln!(out, "{}", header.join(","))?;
        Ok(Self {
            columns,
            comments,
            time: WallTime::new(metadata),
            line: Vec::new(),
            account: Account::default(),
            ended: false,
        })
    }

    /// The columns of a fault.
    fn fault(&mut self, fault: &ResolvedFault, names: &Names) {
        push_fault(&mut self.line, &fault.fault);
        let time = self.time.text(fault.fault.time_ns);
        let line = &mut self.line;
        let place = fault.place.as_ref();
        let code = fault.code.as_ref();
        for text in [
            fault.process.as_deref().unwrap_or(""),
            fault.thread.as_deref().unwrap_or(""),
            fault.kind.name(),
            fault.fate.name(),
            place.map_or("", |place| &place.name),
            place.map_or("", |place| &place.permissions),
        ] {
            push_text(line, text);
        }
        push_number(line, place.and_then(|place| place.file_offset));
        push_text(line, code.map_or("", |code| &code.object.name));
        push_number(line, code.map(|code| code.offset));
        let symbol = names.symbol.as_ref();
        push_text(line, symbol.map_or("", |symbol| &symbol.name));
        push_number(line, symbol.map(|symbol| symbol.offset));
        push_number(line, fault.duration_ns);
        push_number(line, Some(fault.attempts));
        push_number(line, Some(fault.returns));
        push_text(line, fault.program.as_deref().unwrap_or(""));
        push_text(line, &time);
        push_number(line, fault.page_bytes);
        push_number(line, fault.page_node);
        push_number(line, fault.around);
        push_number(line, fault.stack);
        push_text(line, names.callers_text(";").as_deref().unwrap_or(""));
    }

    /// The columns of faults, of a row that is none.
    fn no_fault(&mut self, row: &Row, names: &Names) {
        let time_ns = row.time_ns();
        let time = self.time.text(time_ns);
        let line = &mut self.line;
        push_first(line, time_ns);
        let (cpu, ids) = match row {
            Row::Fault(fault) | Row::Pending(fault) => {
                let fault = &fault.fault;
                (Some(fault.cpu), Some((fault.pid, fault.tid)))
            }
            Row::Thread(thread) => (Some(thread.cpu), Some((thread.pid, thread.tid))),
            Row::Text(text) => (Some(text.cpu), Some((text.pid, text.tid))),
            Row::Frame(frame) => (Some(frame.cpu), Some((frame.pid, frame.tid))),
            Row::Gap(gap) => (Some(gap.cpu), Some((gap.pid, gap.tid))),
            Row::Lost(lost) => (Some(lost.cpu), None),
            Row::Counter(counter) => (counter.cpu, None),
        };
        push_number(line, cpu);
        push_number(line, ids.map(|ids| ids.0));
        push_number(line, ids.map(|ids| ids.1));
        line.push(b',');
        if let Row::Text(text) = row {
            push_hex(line, text.address);
        }
        // Instruction pointer, access and flags.
        line.extend_from_slice(b",,,");
        let [process, thread, program] = match row {
            Row::Thread(thread) => [&thread.process, &thread.thread, &thread.program]
                .map(|name| name.as_deref().unwrap_or("")),
            _ => [""; 3],
        };
        push_text(line, process);
        push_text(line, thread);
        // Kind, fate, mapping and permissions.
        line.extend_from_slice(b",,,,");
        let text = match row {
            Row::Text(text) => Some(text),
            _ => None,
        };
        push_number(line, text.map(|text| text.file_offset));
        let (object, offset) = row.object_and_offset();
        push_text(line, object.map_or("", |object| &object.name));
        push_number(line, offset);
        let symbol = names.symbol.as_ref();
        push_text(line, symbol.map_or("", |symbol| &symbol.name));
        push_number(line, symbol.map(|symbol| symbol.offset));
        // Duration, attempts and returns.
        line.extend_from_slice(b",,,");
        push_text(line, program);
        push_text(line, &time);
        // The size of a page, its node, and those around it.
        line.extend_from_slice(b",,,");
        push_number(line, frame_of(row).map(|frame| frame.id));
        // Its callers.
        line.push(b',');
    }

    /// The columns of other events.
    fn event(&mut self, row: &Row) {
        let line = &mut self.line;
        let thread = match row {
            Row::Thread(thread) => Some(thread),
            _ => None,
        };
        push_number(line, thread.and_then(|thread| thread.parent));
        push_number(line, thread.and_then(|thread| thread.old_tid));
        push_number(line, thread.map(|thread| thread.min_flt));
        push_number(line, thread.map(|thread| thread.maj_flt));
        let (end_ns, count) = match row {
            Row::Gap(gap) => (Some(gap.end_ns), Some(gap.count)),
            Row::Lost(lost) => (Some(lost.end_ns), Some(lost.count)),
            Row::Counter(counter) => (None, Some(counter.count)),
            _ => (None, None),
        };
        push_number(line, end_ns);
        push_number(line, count);
        let object = match row {
            Row::Text(text) => Some(&text.object),
            _ => None,
        };
        let build_id = object.and_then(|object| object.build_id.digits());
        push_text(line, build_id.map_or("", |digits| digits));
        let file = object.and_then(|object| object.file);
        push_number(line, file.map(|file| file.device));
        push_number(line, file.map(|file| file.inode));
        push_number(line, file.and_then(|file| file.changed_ns));
        push_number(line, frame_of(row).map(|frame| frame.caller));
    }
}

fn frame_of(row: &Row) -> Option<&FrameRow> {
    match row {
        Row::Frame(frame) => Some(frame),
        _ => None,
    }
}

impl Export for Csv {
    fn row(&mut self, row: &Row, names: &Names, out: &mut dyn Write) -> io::Result<()> {
        if let Row::Counter(row) = row {
            if !row.add_to(&mut self.account) {
                self.ended = true;
            }
        }
        self.line.clear();
        match row {
            Row::Fault(fault) if !self.columns.events => self.fault(fault, names),
            _ if !self.columns.events => return Ok(()),
            row => {
                self.line.extend_from_slice(row.event().as_bytes());
                self.line.push(b',');
                match row {
                    Row::Fault(fault) | Row::Pending(fault) => self.fault(fault, names),
                    other => self.no_fault(other, names),
                }
                self.event(row);
            }
        }
        if self.columns.bands {
            let band = names.band.as_ref();
            push_number(&mut self.line, band.map(|band| band.panel));
            push_number(&mut self.line, band.map(|band| band.offset));
            push_text(&mut self.line, band.map_or("", |band| &band.label));
        }
        self.line.push(b'\n');
        out.write_all(&self.line)
    }

    fn end(&mut self, out: &mut dyn Write) -> io::Result<()> {
        // Their absence tells that the recording was cut off.
        if self.ended && self.comments {
            write_account(out, &self.account)?;
        }
        Ok(())
    }
}

/// The first number of a line.
fn push_first(line: &mut Vec<u8>, number: u64) {
    line.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// A further text of a line.
fn push_text(line: &mut Vec<u8>, text: &str) {
    line.push(b',');
    line.extend_from_slice(quoted(text).as_bytes());
}

/// A further number of a line, or nothing for none.
fn push_number(line: &mut Vec<u8>, number: Option<impl itoa::Integer>) {
    line.push(b',');
    if let Some(number) = number {
        line.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
    }
}

/// A text as RFC 4180 wants it.
fn quoted(text: &str) -> Cow<'_, str> {
    if text.contains([',', '"', '\n', '\r']) {
        Cow::Owned(format!("\"{}\"", text.replace('"', "\"\"")))
    } else {
        Cow::Borrowed(text)
    }
}
