// SPDX-License-Identifier: GPL-2.0-only

//! Puts new messages in the place of the last ones of a stream, so that whoever reads the file at any moment
//! in between, or after the program was killed in between, finds either the old or the new ones, whole.
//!
//! A message is a mark of four bytes, the length of its head, the head and the body. The head begins with the
//! offset of its root table and may be longer than what that refers to. So a message can begin with bytes that
//! nobody looks at, and which they are depends on no more than the length and the offset of the root: eight
//! bytes behind the mark, written at once. With `S` the first old and `E` the end of the file:
//!
//! 1. The new messages are appended at `E`, but for the first eight bytes: an end mark stands there, at which
//!    readers stop.
//! 2. The eight bytes at `S + 4` are written: the first new message begins at `S` now, its root and its end lie
//!    behind `E`, and the old messages are bytes that nobody looks at.
//! 3. Over them the new messages are written once more, from `S` on, with an end mark behind, but for the eight
//!    bytes that still refer to what lies behind `E`.
//! 4. These are written: the new messages are what lies at `S`.
//! 5. The file is cut off behind them.
//!
//! The kernel heeds a signal that kills between the pages of one call, never within one: so step 2 and 4 are
//! done or not, if the eight bytes are in one page. [`may_begin_at`] says where they are.

use std::{
    fs::File,
    io::{self, Seek as _, SeekFrom, Write},
    os::unix::fs::FileExt as _,
};

/// Before each message. (The format's `CONTINUATION`.)
pub const MARK: [u8; 4] = [0xff; 4];
/// The end of the stream: a message whose head has no bytes.
pub const END: [u8; 8] = [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];
/// No head is longer: some hundred bytes for each column, or a batch of rows and their names that nobody looks
/// at.
pub const HEAD_BYTES_MOST: usize = 1 << 26;

/// No page is smaller.
const PAGE: u64 = 4096;

/// Where a trace goes.
pub trait Destination: Write {
    /// How to change what was written, if that is possible. The trace begins where it does.
    fn rewrite(&mut self) -> Option<&mut dyn Rewrite>;
}

/// What can be changed after it was written.
pub trait Rewrite: Write {
    /// Writes over bytes that are there.
    ///
    /// # Errors
    ///
    /// Those of the file.
    fn write_over(&mut self, bytes: &[u8], at: u64) -> io::Result<()>;

    /// Takes away what lies behind the first bytes: what is written next follows them.
    ///
    /// # Errors
    ///
    /// Those of the file.
    fn cut_to(&mut self, bytes: u64) -> io::Result<()>;
}

impl Destination for Vec<u8> {
    fn rewrite(&mut self) -> Option<&mut dyn Rewrite> {
        None
    }
}

impl<D: Destination + ?Sized> Destination for &mut D {
    fn rewrite(&mut self) -> Option<&mut dyn Rewrite> {
        (**self).rewrite()
    }
}

/// A file that is empty, and not opened to append.
impl Destination for File {
    fn rewrite(&mut self) -> Option<&mut dyn Rewrite> {
        // A device or a pipe is not.
        let is_file = self.metadata().is_ok_and(|metadata| metadata.is_file());
        is_file.then_some(self)
    }
}

impl Rewrite for File {
    fn write_over(&mut self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.write_all_at(bytes, at)
    }

    fn cut_to(&mut self, bytes: u64) -> io::Result<()> {
        self.set_len(bytes)?;
        self.seek(SeekFrom::Start(bytes)).map(|_| ())
    }
}

/// Whether messages that begin there can be replaced: whether the eight bytes lie in one page.
pub fn may_begin_at(start: u64) -> bool {
    (start + 4) / PAGE == (start + 11) / PAGE
}

/// Makes the head of a message eight bytes longer: what follows it begins so much later.
pub fn lengthen(message: &mut Vec<u8>) {
    let length = head_length(message);
    let end = 8 + length;
    message.splice(end..end, [0; 8]);
    // CAST: heads are short.
    message[4..8].copy_from_slice(&(length as u32 + 8).to_le_bytes());
}

fn head_length(message: &[u8]) -> usize {
    u32::from_le_bytes([message[4], message[5], message[6], message[7]]) as usize
}

/// Whether [`replace`] can be done: the new messages with an end mark are not longer than the old ones, and these
/// not longer than a head may be.
pub fn is_replaceable(start: u64, end: u64, new: &[u8]) -> bool {
    let old = end - start;
    may_begin_at(start)
        && (new.len() + END.len()) as u64 <= old
        && old + head_length(new) as u64 <= HEAD_BYTES_MOST as u64
}

/// Puts `new`, messages without an end mark, in the place of those from `start` to `end`, where the file ends.
/// `written` is kept up to date: so many bytes of the file are a whole trace, whatever fails.
///
/// # Errors
///
/// Those of `out`.
///
/// # Panics
///
/// If they are [not replaceable](is_replaceable).
pub fn replace(out: &mut dyn Rewrite, start: u64, written: &mut u64, new: &[u8]) -> io::Result<()> {
    let end = *written;
    assert!(is_replaceable(start, end, new));
    let root = u32::from_le_bytes([new[8], new[9], new[10], new[11]]);
    // CAST: as long as a head may be.
    let ahead = (end - start) as u32;
    let mut reference = [0; 8];
    reference[..4].copy_from_slice(&(head_length(new) as u32 + ahead).to_le_bytes());
    reference[4..].copy_from_slice(&(root + ahead).to_le_bytes());

    out.write_all(&[&END[..], &new[END.len()..]].concat())?;
    out.write_over(&reference, start + 4)?;
    *written = end + new.len() as u64;
    out.write_over(&[&new[12..], &END[..]].concat(), start + 12)?;
    out.write_over(&new[4..12], start + 4)?;
    *written = start + new.len() as u64;
    out.cut_to(*written)
}
