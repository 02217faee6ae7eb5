// SPDX-License-Identifier: GPL-2.0-only

//! A file that is changed while it is written is a whole trace at any moment.

use std::io::{self, Write};

use proptest::prelude::*;

use super::{
    replace::{is_replaceable, lengthen, may_begin_at, replace, HEAD_BYTES_MOST},
    schema::BATCH_ROWS,
    tests::{about, read, rows},
    Destination, Reader, Rewrite, Writer,
};
use crate::{Account, Row};

/// A file, which is read after each change, and where a change may have been cut short.
struct Watched {
    bytes: Vec<u8>,
    /// What is written, and how much of it was said to be in the file.
    rows: Vec<Row>,
    flushed: usize,
    /// Changes that were not additions.
    changes: usize,
    /// How many changes are made before one fails.
    fails: usize,
    /// Whether it is read after each change.
    watching: bool,
}

impl Watched {
    fn new(rows: &[Row]) -> Self {
        Self {
            bytes: Vec::new(),
            rows: rows.to_owned(),
            flushed: 0,
            changes: 0,
            fails: usize::MAX,
            watching: true,
        }
    }

    fn check(&self) {
        if self.watching {
            check(&self.bytes, &self.rows, self.flushed);
        }
    }

    fn change(&mut self) -> io::Result<()> {
        self.changes += 1;
        if self.changes > self.fails {
            return Err(io::Error::other("no more"));
        }
        Ok(())
    }
}

/// Checks that at least so many of the rows are there, in their order, and nothing else.
fn check(bytes: &[u8], rows: &[Row], flushed: usize) {
    let (found, _) = read(bytes);
    assert!(found.len() >= flushed, "{} of {flushed}", found.len());
    assert!(found == rows[..found.len()]);
}

impl Write for Watched {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let before = self.bytes.len();
        for cut in [1, bytes.len() / 3, bytes.len() - 1, bytes.len()] {
            self.bytes.truncate(before);
            self.bytes.extend(&bytes[..cut]);
            if before != 0 {
                self.check();
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Destination for Watched {
    fn rewrite(&mut self) -> Option<&mut dyn Rewrite> {
        Some(self)
    }
}

impl Rewrite for Watched {
    fn write_over(&mut self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.change()?;
        let at = at as usize;
        // The kernel stops at the end of a page alone.
        let next_page = at.next_multiple_of(4096);
        for cut in (next_page..at + bytes.len()).step_by(4096) {
            self.bytes[at..cut].copy_from_slice(&bytes[..cut - at]);
            self.check();
        }
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
        self.check();
        Ok(())
    }

    fn cut_to(&mut self, bytes: u64) -> io::Result<()> {
        self.change()?;
        self.bytes.truncate(bytes as usize);
        self.check();
        Ok(())
    }
}

/// Writes all rows; those of a part are flushed together. With the bytes that are said to be whole before the
/// last call.
fn write(file: &mut Watched, parts: &[usize]) -> (io::Result<u64>, u64) {
    let all = file.rows.clone();
    let mut rows = all.iter();
    let mut writer = Writer::new(file, &about()).unwrap();
    let result = parts.iter().try_for_each(|&part| {
        rows.by_ref()
            .take(part)
            .try_for_each(|row| writer.push(row))?;
        writer.flush()?;
        writer.destination().flushed = all.len() - rows.len();
        Ok(())
    });
    let written = writer.written();
    (result.and_then(|()| writer.finish()), written)
}

#[test]
fn a_file_that_is_changed_has_batches_that_are_full() {
    let rows = rows(BATCH_ROWS as u64 + 100);
    let mut file = Watched::new(&rows);
    let (result, _) = write(&mut file, &[BATCH_ROWS / 2; 3]);
    assert_eq!(result.unwrap(), file.bytes.len() as u64);
    assert!(read(&file.bytes).0 == rows);
    let mut at_once = Vec::new();
    let mut writer = Writer::new(&mut at_once, &about()).unwrap();
    for row in &rows {
        writer.push(row).unwrap();
    }
    writer.finish().unwrap();
    // But for the place of a mark.
    assert!(file.bytes.len().abs_diff(at_once.len()) <= 64);
    // A full batch and the end, of four changes each.
    assert_eq!(file.changes, 8);
}

#[test]
fn a_change_that_fails_loses_nothing_that_was_flushed() {
    let rows = rows(BATCH_ROWS as u64);
    for fails in 0..4 {
        let mut file = Watched::new(&rows);
        (file.fails, file.watching) = (fails, false);
        let (result, written) = write(&mut file, &[BATCH_ROWS - 1, rows.len()]);
        result.unwrap_err();
        assert_eq!(file.changes, fails + 1);
        check(&file.bytes, &rows, BATCH_ROWS - 1);
        // As the recorder leaves it.
        file.bytes.truncate(written as usize);
        check(&file.bytes, &rows, BATCH_ROWS - 1);
    }
}

/// The metadata stands at the beginning, and the account is known at the end.
#[test]
fn the_account_is_unknown_or_whole() {
    let account = Account {
        hits: u64::MAX,
        recorded: 7,
        dropped: 6,
        overwritten: 5,
        missed: 0,
        untold: 4,
    };
    let rows = rows(10);
    let mut file = Watched::new(&rows);
    let mut writer = Writer::new(&mut file, &about()).unwrap();
    for row in &rows {
        writer.push(row).unwrap();
    }
    writer.flush().unwrap();
    let said = |writer: &mut Writer<&mut Watched>| {
        let bytes = &writer.destination().bytes[..];
        Reader::new(bytes).unwrap().about().account
    };
    assert_eq!(said(&mut writer), None);
    // Six changes: until the last, some of it is unknown.
    writer.destination().fails = 5;
    writer.set_account(&account).unwrap_err();
    assert_eq!(said(&mut writer), None);
    writer.destination().fails = usize::MAX;
    writer.set_account(&account).unwrap();
    assert_eq!(said(&mut writer), Some(account));
    writer.finish().unwrap();
    let reader = Reader::new(&file.bytes[..]).unwrap();
    assert_eq!(reader.about().account, Some(account));
    assert!(read(&file.bytes).0 == rows);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn whatever_is_flushed_stays_in_the_file(
        faults in 0..700u64,
        parts in prop::collection::vec(0..90usize, 0..12),
        fails in prop_oneof![Just(usize::MAX), 0..6usize],
    ) {
        let rows = rows(faults);
        let parts: Vec<_> = parts.into_iter().chain([rows.len()]).collect();
        let mut file = Watched::new(&rows);
        file.fails = fails;
        let (result, _) = write(&mut file, &parts);
        match result {
            Ok(bytes) => {
                let (found, error) = read(&file.bytes);
                prop_assert!(error.is_none() && found == rows);
                prop_assert_eq!(bytes, file.bytes.len() as u64);
            }
            Err(_) => {
                prop_assert!(file.changes > fails);
                check(&file.bytes, &rows, rows.len());
            }
        }
    }

    /// Messages of any lengths: in the place of the old ones they read as they do elsewhere.
    #[test]
    fn eight_bytes_are_never_in_two_pages(start in (0..3000u64).prop_map(|words| words * 8), head in 1..600u32) {
        prop_assert_eq!(may_begin_at(start), start % 4096 != 4088);
        let mut message = vec![0; 8 + head as usize * 8 + 24];
        message[4..8].copy_from_slice(&(head * 8).to_le_bytes());
        let before = message.len();
        lengthen(&mut message);
        prop_assert_eq!(message.len(), before + 8);
        prop_assert_eq!(&message[4..8], &(head * 8 + 8).to_le_bytes());
        // One of the two ends is where messages may begin.
        let (end, longer) = (start + before as u64, start + message.len() as u64);
        prop_assert!(may_begin_at(end) || may_begin_at(longer));
        let room = message.len() as u64 + 8;
        prop_assert_eq!(is_replaceable(start, start + room, &message), may_begin_at(start));
        prop_assert!(!is_replaceable(start, start + room - 8, &message));
        prop_assert!(!is_replaceable(start, start + HEAD_BYTES_MOST as u64, &message));
    }
}

#[test]
fn what_is_longer_replaces_nothing() {
    let mut file = Watched::new(&[]);
    let mut written = 16;
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        replace(&mut file, 0, &mut written, &[0; 16])
    }));
    assert!(result.is_err() && file.bytes.is_empty());
}
