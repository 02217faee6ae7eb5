// SPDX-License-Identifier: GPL-2.0-only

//! CSV: what `drain` writes, and further columns.

use std::{
    borrow::Cow,
    io::{self, Write},
};

use super::Export;
use crate::{
    csv::{push_fault, write_account, write_preamble, Preamble, HEADER},
    About, Account, Row,
};

/// The columns behind those of `drain`.
const MORE: &str = "process,thread,kind,fate,mapping,permissions,file_offset,duration_ns";

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
    fn row(&mut self, row: &Row, out: &mut dyn Write) -> io::Result<()> {
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
        for text in [
            fault.process.as_deref().unwrap_or(""),
            fault.thread.as_deref().unwrap_or(""),
            fault.kind.name(),
            fault.fate.name(),
            place.map_or("", |place| &place.name),
            place.map_or("", |place| &place.permissions),
        ] {
            line.push(b',');
            line.extend_from_slice(quoted(text).as_bytes());
        }
        for number in [place.and_then(|place| place.file_offset), fault.duration_ns] {
            line.push(b',');
            if let Some(number) = number {
                line.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
            }
        }
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

/// A text as RFC 4180 wants it.
fn quoted(text: &str) -> Cow<'_, str> {
    if text.contains([',', '"', '\n', '\r']) {
        Cow::Owned(format!("\"{}\"", text.replace('"', "\"\"")))
    } else {
        Cow::Borrowed(text)
    }
}
