// SPDX-License-Identifier: GPL-2.0-only

//! A file is a whole trace at any moment while it is written, whatever room there is, and small in the end.

use std::io::{self, ErrorKind, Write};

use proptest::prelude::*;

use super::{
    compact,
    schema::BATCH_ROWS,
    stream::{Changeable, Destination},
    tests::{metadata, read, rows},
    ReadError, Reader, Writer,
};
use crate::{Account, Row};

/// A file on a disk with so much room, which is read after each change, and where a write may have been cut short.
struct Disk {
    bytes: Vec<u8>,
    room: usize,
    /// What it says when the room is used up.
    full: ErrorKind,
    /// What is written to it, and how many of these rows were said to be in it.
    rows: Vec<Row>,
    flushed: usize,
    /// Whether it is read after each change.
    watching: bool,
    /// Whether what was written can be changed, and how many changes succeed.
    changeable: bool,
    changes: usize,
}

impl Disk {
    fn new(rows: &[Row], room: usize) -> Self {
        Self {
            bytes: Vec::new(),
            room,
            full: ErrorKind::StorageFull,
            rows: rows.to_owned(),
            flushed: 0,
            watching: false,
            changeable: true,
            changes: usize::MAX,
        }
    }

    /// Checks that at least the rows are there that were flushed, in their order, and nothing else.
    fn check(&self) -> (usize, Option<ReadError>) {
        let (found, error) = read(&self.bytes);
        assert!(
            found.len() >= self.flushed,
            "{} of {}",
            found.len(),
            self.flushed
        );
        assert!(found == self.rows[..found.len()]);
        (found.len(), error)
    }

    fn change(&mut self) -> io::Result<()> {
        let none = || io::Error::other("no more changes");
        self.changes = self.changes.checked_sub(1).ok_or_else(none)?;
        Ok(())
    }
}

impl Write for Disk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let before = self.bytes.len();
        let length = bytes.len().min(self.room - before);
        if length == 0 {
            return Err(self.full.into());
        }
        if self.watching && before != 0 {
            for cut in [1, length / 3, length - 1] {
                self.bytes.extend(&bytes[..cut]);
                self.check();
                self.bytes.truncate(before);
            }
        }
        self.bytes.extend(&bytes[..length]);
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Destination for Disk {
    fn changeable(&mut self) -> Option<&mut dyn Changeable> {
        self.changeable.then_some(self)
    }
}

impl Changeable for Disk {
    fn write_over(&mut self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.change()?;
        self.bytes[at as usize..][..bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn cut_to(&mut self, bytes: u64) -> io::Result<()> {
        self.change()?;
        self.bytes.truncate(bytes as usize);
        Ok(())
    }
}

/// Writes all rows; those of a part are flushed together. Returns whether that left it loose.
fn write(disk: &mut Disk, parts: &[usize]) -> io::Result<bool> {
    let all = disk.rows.clone();
    let mut rows = all.iter();
    let mut writer = Writer::new(&mut *disk, &metadata())?;
    for part in parts {
        for row in rows.by_ref().take(*part) {
            writer.push(row)?;
        }
        writer.flush()?;
        writer.destination().flushed = all.len() - rows.len();
    }
    for row in rows {
        writer.push(row)?;
    }
    let bytes = writer.finish()?;
    let loose = writer.is_loose();
    assert_eq!(bytes, disk.bytes.len() as u64);
    Ok(loose)
}

/// The bytes of all rows, written at once.
fn size(rows: &[Row]) -> usize {
    let mut disk = Disk::new(rows, usize::MAX);
    write(&mut disk, &[]).unwrap();
    disk.bytes.len()
}

#[test]
fn what_fits_of_the_first_batch_is_kept() {
    let rows = rows(2 * BATCH_ROWS as u64);
    let room = size(&rows) / 4;
    for full in [
        ErrorKind::StorageFull,
        ErrorKind::QuotaExceeded,
        ErrorKind::FileTooLarge,
    ] {
        let mut disk = Disk::new(&rows, room);
        disk.full = full;
        let error = write(&mut disk, &[]).unwrap_err();
        assert_eq!(error.kind(), full);
        let (kept, end) = disk.check();
        // The file has no end mark, and no torn end.
        assert!(
            matches!(end, Some(ReadError::CutOff { bytes }) if bytes == disk.bytes.len() as u64)
        );
        assert!(
            disk.bytes.len() > room * 3 / 4,
            "{} of {room}",
            disk.bytes.len()
        );
        assert!(kept > rows.len() / 8, "{kept} of {}", rows.len());
    }
}

#[test]
fn what_cannot_be_written_for_another_reason_is_cut_off_at_once() {
    let rows = rows(BATCH_ROWS as u64);
    let mut disk = Disk::new(&rows, size(&rows) / 2);
    disk.full = ErrorKind::Other;
    assert_eq!(
        write(&mut disk, &[1000]).unwrap_err().kind(),
        ErrorKind::Other
    );
    let (kept, end) = disk.check();
    assert!(kept == 1000 && matches!(end, Some(ReadError::CutOff { .. })));
    // What cannot be cut off is a torn end.
    let mut disk = Disk::new(&rows, size(&rows) / 2);
    disk.changes = 0;
    let text = write(&mut disk, &[1000]).unwrap_err().to_string();
    assert!(text.contains("the torn end cannot be cut off"), "{text}");
    assert_eq!(disk.check().0, 1000);
    // Of a pipe, nothing can.
    let mut pipe = Disk::new(&rows, size(&rows) / 2);
    pipe.changeable = false;
    assert_eq!(
        write(&mut pipe, &[1000]).unwrap_err().kind(),
        ErrorKind::StorageFull
    );
    assert_eq!(pipe.check().0, 1000);
}

fn compacted(bytes: &[u8]) -> Vec<u8> {
    let mut copy = Vec::new();
    let mut last = 0;
    let said = compact(bytes, &mut copy, |rows| {
        assert!(rows > last);
        last = rows;
    });
    let said = said.unwrap();
    assert_eq!(said.bytes, copy.len() as u64);
    assert!(said.rows >= last);
    copy
}

#[test]
fn a_compact_copy_is_as_small_as_what_is_written_at_once() {
    let rows = rows(BATCH_ROWS as u64 + 5000);
    let mut disk = Disk::new(&rows, usize::MAX);
    assert!(write(&mut disk, &[500; 70]).unwrap());
    let copy = compacted(&disk.bytes);
    assert!(read(&copy).0 == rows && read(&copy).1.is_none());
    assert_eq!(*Reader::new(&copy[..]).unwrap().metadata(), metadata());
    let at_once = size(&rows);
    assert!(
        copy.len() < at_once + at_once / 50,
        "{} instead of {at_once}",
        copy.len()
    );
    assert!(disk.bytes.len() > at_once + at_once / 2);
    // Nothing is left to be done.
    let mut reader = Reader::new(&copy[..]).unwrap();
    let mut batches = Vec::new();
    while let Some(batch) = reader.next_of_batches().unwrap() {
        batches.push(batch.num_rows());
    }
    assert!(
        batches.windows(2).all(|two| two[0] + two[1] > BATCH_ROWS),
        "{batches:?}"
    );
}

#[test]
fn what_is_written_at_once_is_not_loose() {
    let rows = rows(BATCH_ROWS as u64 + 5000);
    for parts in [&[][..], &[BATCH_ROWS - 10], &[20000, 20000]] {
        let mut disk = Disk::new(&rows, usize::MAX);
        assert!(!write(&mut disk, parts).unwrap(), "{parts:?}");
    }
    let mut disk = Disk::new(&rows, usize::MAX);
    assert!(write(&mut disk, &[20000, 10000]).unwrap());
}

#[test]
fn a_trace_that_is_not_whole_is_not_compacted() {
    let rows = rows(100);
    let mut disk = Disk::new(&rows, usize::MAX);
    write(&mut disk, &[10; 5]).unwrap();
    let cut = disk.bytes.len() - 8;
    let error = compact(&disk.bytes[..cut], Vec::new(), |_| {}).unwrap_err();
    assert!(error.to_string().contains("cut off"), "{error}");
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
        sideband_dropped: 4,
        deaf: 0,
        passed_over: 6,
    };
    let rows = rows(10);
    let mut disk = Disk::new(&rows, usize::MAX);
    let mut writer = Writer::new(&mut disk, &metadata()).unwrap();
    for row in &rows {
        writer.push(row).unwrap();
    }
    writer.flush().unwrap();
    let said = |writer: &mut Writer<&mut Disk>| {
        let bytes = &writer.destination().bytes[..];
        Reader::new(bytes).unwrap().metadata().account
    };
    assert_eq!(said(&mut writer), None);
    // Until the last change, some of it is unknown.
    writer.destination().changes = Account::COUNTS - 1;
    writer.set_account(&account).unwrap_err();
    assert_eq!(said(&mut writer), None);
    writer.destination().changes = usize::MAX;
    writer.set_account(&account).unwrap();
    assert_eq!(said(&mut writer), Some(account));
    writer.finish().unwrap();
    for bytes in [&disk.bytes, &compacted(&disk.bytes)] {
        let reader = Reader::new(&bytes[..]).unwrap();
        assert_eq!(reader.metadata().account, Some(account));
        assert!(read(bytes).0 == rows);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn whatever_is_flushed_stays_in_the_file(
        faults in 0..700u64,
        parts in prop::collection::vec(0..90usize, 0..12),
        room in prop_oneof![Just(usize::MAX), 8000..60_000usize],
    ) {
        let rows = rows(faults);
        let mut disk = Disk::new(&rows, room);
        disk.watching = true;
        let done = write(&mut disk, &parts);
        let (found, end) = disk.check();
        match done {
            Ok(_) => {
                prop_assert!(end.is_none() && found == rows.len());
                prop_assert!(read(&compacted(&disk.bytes)).0 == rows);
            }
            Err(_) => prop_assert!(room != usize::MAX && end.is_some()),
        }
    }
}
