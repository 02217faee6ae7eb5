// SPDX-License-Identifier: GPL-2.0-only

//! CSV: what `drain` writes, and further columns.

use std::{
    borrow::Cow,
    io::{self, Write},
};

use super::{Export, Symbol};
use crate::{
    csv::{push_fault, write_account, write_preamble, Preamble, HEADER},
    About, Account, Row,
};

/// The columns behind those of `drain`.
const MORE: &str = "process,thread,kind,fate,mapping,permissions,file_offset,object,ip_offset,symbol,symbol_offset,\
    duration_ns";

pub struct Csv {
    line: Vec<u8>,
    account: Account,
    ended: bool,
}

impl Csv {
    pub fn begin(about: &About, out: &mut dyn Write) -> io::Result<Self> {
        let About {
            version,
            kernel,
            command,
            clock,
            wall_offset_ns,
            wall_error_ns,
            ..
        } = about.clone();
        let preamble = Preamble {
            version,
            kernel,
            command,
            clock,
            wall_offset_ns,
            wall_error_ns,
        };
        write_preamble(out, &preamble)?;
        writeln!(out, "{HEADER},{MORE}")?;
        Ok(Self {
            line: Vec::new(),
            account: Account::default(),
            ended: false,
        })
    }
}

impl Export for Csv {
    fn row(&mut self, row: &Row, symbol: Option<&Symbol>, out: &mut dyn Write) -> io::Result<()> {
        let fault = match row {
            Row::Fault(fault) => fault,
            Row::Counter(row) => {
                if !row.add_to(&mut self.account) {
                    self.ended = true;
                }
                return Ok(());
            }
            _ => return Ok(()),
        };
        let line = &mut self.line;
        line.clear();
        push_fault(line, &fault.fault);
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
        push_text(line, symbol.map_or("", |symbol| &symbol.name));
        push_number(line, symbol.map(|symbol| symbol.offset));
        push_number(line, fault.duration_ns);
        line.push(b'\n');
        out.write_all(line)
    }

    fn end(&mut self, out: &mut dyn Write) -> io::Result<()> {
        // Their absence tells that the recording was cut off.
        if self.ended {
            write_account(out, &self.account)?;
        }
        Ok(())
    }
}

/// A further text of a line.
fn push_text(line: &mut Vec<u8>, text: &str) {
    line.push(b',');
    line.extend_from_slice(quoted(text).as_bytes());
}

/// A further number of a line, or nothing for none.
fn push_number(line: &mut Vec<u8>, number: Option<u64>) {
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
