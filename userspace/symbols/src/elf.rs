// SPDX-License-Identifier: GPL-2.0-only

//! An ELF file's build id, and where its code lies. Only what is needed of the file is read, and none of it
//! believed: a program under trace may be anything. It is not mapped: who shortens it must not end us.

use std::{fs::File, io, os::unix::fs::FileExt as _};

use fault_tracer_trace::PageSize;
use object::{
    elf,
    read::elf::{FileHeader, NoteIterator, ProgramHeader},
    Endianness, FileKind,
};

/// The head that is read at once: the program headers stand in it, but for odd files.
const HEAD_BYTES: usize = 4096;
/// Program headers and notes beyond this are not looked at.
const MOST_BYTES: usize = 1 << 16;

/// What an ELF file says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Elf {
    /// The build id, in hexadecimal digits.
    pub build_id: Option<String>,
    code: Vec<Segment>,
}

/// A segment of code.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Segment {
    offset: u64,
    bytes: u64,
    address: u64,
}

impl Elf {
    /// Reads a file; `None` if it is no ELF file that could be understood.
    ///
    /// # Errors
    ///
    /// Those of the file.
    pub fn read(file: &File) -> io::Result<Option<Self>> {
        let head = read(file, 0, HEAD_BYTES)?;
        Ok(match FileKind::parse(&*head) {
            Ok(FileKind::Elf64) => of::<elf::FileHeader64<Endianness>>(file, head)?,
            Ok(FileKind::Elf32) => of::<elf::FileHeader32<Endianness>>(file, head)?,
            _ => None,
        })
    }

    /// What is to be added (modulo 2^64) to an offset in the file, of code or of the page that code begins
    /// in where pages have that size, to get the address that the file's symbols use.
    pub fn bias(&self, offset: u64, page_size: PageSize) -> Option<u64> {
        let within = |segment: &&Segment| {
            let start = page_size.start_of(segment.offset);
            offset >= start && offset < segment.offset.saturating_add(segment.bytes)
        };
        let segment = self.code.iter().find(within)?;
        Some(segment.address.wrapping_sub(segment.offset))
    }
}

fn of<H: FileHeader<Endian = Endianness>>(file: &File, head: Vec<u8>) -> io::Result<Option<Elf>> {
    let mut data = head;
    let headers = match headers::<H>(&data) {
        Some(headers) => headers,
        None => {
            data = read(file, 0, MOST_BYTES)?;
            match headers::<H>(&data) {
                Some(headers) => headers,
                None => return Ok(None),
            }
        }
    };
    let (endian, headers) = headers;
    let mut found = Elf::default();
    for header in headers {
        let (offset, bytes) = (
            header.p_offset(endian).into(),
            header.p_filesz(endian).into(),
        );
        match header.p_type(endian) {
            elf::PT_LOAD if header.p_flags(endian).contains(elf::PF_X) => {
                found.code.push(Segment {
                    offset,
                    bytes,
                    address: header.p_vaddr(endian).into(),
                });
            }
            elf::PT_NOTE if found.build_id.is_none() => {
                let bytes = usize::try_from(bytes).unwrap_or(MOST_BYTES).min(MOST_BYTES);
                let notes = read(file, offset, bytes)?;
                found.build_id = build_id::<H>(endian, header.p_align(endian), &notes);
            }
            _ => {}
        }
    }
    Ok(Some(found))
}

/// The program headers, if they lie in the data.
fn headers<H: FileHeader<Endian = Endianness>>(
    data: &[u8],
) -> Option<(Endianness, &[H::ProgramHeader])> {
    let header = H::parse(data).ok()?;
    let endian = header.endian().ok()?;
    Some((endian, header.program_headers(endian, data).ok()?))
}

/// The build id among notes.
fn build_id<H: FileHeader<Endian = Endianness>>(
    endian: Endianness,
    align: H::Word,
    notes: &[u8],
) -> Option<String> {
    let mut notes = NoteIterator::<H>::new(endian, align, notes).ok()?;
    while let Ok(Some(note)) = notes.next() {
        if note.name() == elf::ELF_NOTE_GNU && note.n_type(endian) == elf::NT_GNU_BUILD_ID {
            let id = note.desc();
            // All linkers make 8 to 32 bytes.
            if (2..=64).contains(&id.len()) {
                return Some(id.iter().map(|byte| format!("{byte:02x}")).collect());
            }
        }
    }
    None
}

/// Up to so many bytes.
pub(crate) fn read(file: &File, offset: u64, bytes: usize) -> io::Result<Vec<u8>> {
    let mut data = vec![0; bytes];
    let mut length = 0;
    while length < bytes {
        match file.read_at(&mut data[length..], offset.saturating_add(length as u64)) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // An offset that no file can have.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => break,
            Err(error) => return Err(error),
        }
    }
    data.truncate(length);
    Ok(data)
}
