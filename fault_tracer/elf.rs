// SPDX-License-Identifier: GPL-2.0-only

//! The build id of an ELF file and where its code belongs, found in as much of the file as is in memory.
//!
//! Nothing of the file is believed: each number of it is compared before it is used, and each loop has an end
//! of its own. Laid out as `include/uapi/linux/elf.h` says; read with the bytes in the order of this processor.
//!
//! Only this file knows ELF, and it knows nothing of the kernel: `userspace/ring-tests` compiles it for the host.

/// Longest build id that is reported: linkers make 8, 16 or 20 bytes.
pub const BUILD_ID_BYTES: usize = 32;

/// Program headers, segments of notes in them, and notes in such a segment that are looked at.
const HEADERS_MOST: u16 = 64;
const SEGMENTS_MOST: usize = 4;
const NOTES_MOST: usize = 16;

const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
const PF_X: u32 = 1;
const NT_GNU_BUILD_ID: u32 = 3;

/// A build id; that of a file which has none is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BuildId {
    /// Its bytes, and zeros behind them.
    pub bytes: [u8; BUILD_ID_BYTES],
    /// How many they are.
    pub length: usize,
}

/// Of a file that has none.
const NONE: BuildId = BuildId {
    bytes: [0; BUILD_ID_BYTES],
    length: 0,
};

/// Where the fields stand that differ between files of 64 and of 32 bits.
struct Layout {
    is_64: bool,
    program_headers: usize,
    header_bytes: usize,
    header_count: usize,
    /// Of a program header.
    bytes: u16,
    flags: usize,
    offset: usize,
    address: usize,
    size: usize,
    align: usize,
}

const OF_64: Layout = Layout {
    is_64: true,
    program_headers: 32,
    header_bytes: 54,
    header_count: 56,
    bytes: 56,
    flags: 4,
    offset: 8,
    address: 16,
    size: 32,
    align: 48,
};

const OF_32: Layout = Layout {
    is_64: false,
    program_headers: 28,
    header_bytes: 42,
    header_count: 44,
    bytes: 32,
    flags: 24,
    offset: 4,
    address: 8,
    size: 16,
    align: 28,
};

/// Bytes of the longer of the two headers of a file and of a program header.
const FILE_HEADER: usize = 64;
const PROGRAM_HEADER: usize = 56;
const NOTE_HEADER: usize = 12;

/// What a file says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Described {
    /// Its build id.
    pub build_id: BuildId,
    /// What is to be added (modulo 2^64) to an offset in the file to get the address that its symbols use; `None`
    /// where no code of an ELF file is at the offset in question.
    pub bias: Option<u64>,
}

/// What a file says of itself and of its code in the page at `offset`; pages have `page_bytes`, a power of two. `read` copies the bytes from an offset on, if
/// they are in memory. `None` where nothing can be said: a part of the file is not in memory, or it is an unusual one.
pub fn describe(
    offset: u64,
    page_bytes: u64,
    mut read: impl FnMut(u64, &mut [u8]) -> bool,
) -> Option<Described> {
    let mut found = Described {
        build_id: NONE,
        bias: None,
    };
    let mut header = [0; FILE_HEADER];
    if !read(0, &mut header) {
        return None;
    }
    let layout = match &header {
        [0x7f, b'E', b'L', b'F', 2, 1, ..] => &OF_64,
        [0x7f, b'E', b'L', b'F', 1, 1, ..] => &OF_32,
        // The bytes in the other order.
        [0x7f, b'E', b'L', b'F', ..] => return None,
        _ => return Some(found),
    };
    let first = layout.word(&header, layout.program_headers)?;
    let count = half(&header, layout.header_count)?;
    if count > HEADERS_MOST || half(&header, layout.header_bytes)? != layout.bytes {
        return None;
    }
    let mut segments = 0;
    for number in 0..count {
        let at = first.checked_add(u64::from(number).wrapping_mul(layout.bytes.into()))?;
        let mut segment = [0; PROGRAM_HEADER];
        if !read(at, segment.get_mut(..layout.bytes.into())?) {
            return None;
        }
        let start = layout.word(&segment, layout.offset)?;
        let end = start.checked_add(layout.word(&segment, layout.size)?)?;
        match word(&segment, 0)? {
            PT_LOAD if word(&segment, layout.flags)? & PF_X != 0 => {
                // Code is mapped from the page on that it begins in.
                let has_it = offset >= start & page_bytes.wrapping_neg() && offset < end;
                if has_it && found.bias.is_none() {
                    let address = layout.word(&segment, layout.address)?;
                    found.bias = Some(address.wrapping_sub(start));
                }
            }
            PT_NOTE if found.build_id.length == 0 => {
                segments = usize::wrapping_add(segments, 1);
                if segments > SEGMENTS_MOST {
                    return None;
                }
                let align = match layout.word(&segment, layout.align)? {
                    0..=4 => 4,
                    8 => 8,
                    _ => continue,
                };
                if let Some(id) = among_notes(start, end, align, &mut read)? {
                    found.build_id = id;
                }
            }
            _ => {}
        }
    }
    Some(found)
}

/// The build id among the notes in a range of the file; `None` as in [`describe`].
fn among_notes(
    mut at: u64,
    end: u64,
    align: u64,
    read: &mut impl FnMut(u64, &mut [u8]) -> bool,
) -> Option<Option<BuildId>> {
    // `align` is a power of two.
    let aligned =
        |bytes: u64| Some(bytes.checked_add(align.wrapping_sub(1))? & !align.wrapping_sub(1));
    // The padding counts from the first note on.
    let start = at;
    for _ in 0..NOTES_MOST {
        // What is left is no note.
        if end.saturating_sub(at) < NOTE_HEADER as u64 {
            return Some(None);
        }
        let mut note = [0; NOTE_HEADER + 4];
        if !read(at, note.get_mut(..NOTE_HEADER)?) {
            return None;
        }
        let name_bytes = word(&note, 0)?;
        let bytes = word(&note, 4)?;
        let name_end = at
            .checked_add(NOTE_HEADER as u64)?
            .checked_add(name_bytes.into())?;
        let content = start.checked_add(aligned(name_end.wrapping_sub(start))?)?;
        let content_end = content.checked_add(bytes.into())?;
        if content_end > end {
            return Some(None);
        }
        if name_bytes == 4 && word(&note, 8)? == NT_GNU_BUILD_ID {
            if !read(at, &mut note) {
                return None;
            }
            if note.ends_with(b"GNU\0") {
                let mut found = NONE;
                found.length = bytes as usize;
                // One that is longer than what is reported is left to who can read the file.
                if !read(content, found.bytes.get_mut(..found.length)?) {
                    return None;
                }
                return Some(Some(found));
            }
        }
        at = start.checked_add(aligned(content_end.wrapping_sub(start))?)?;
    }
    None
}

impl Layout {
    /// An address, offset or size: a word of the file's own length.
    fn word(&self, bytes: &[u8], at: usize) -> Option<u64> {
        if self.is_64 {
            let word = bytes.get(at..at.checked_add(8)?)?;
            Some(u64::from_le_bytes(word.try_into().ok()?))
        } else {
            word(bytes, at).map(u64::from)
        }
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let word = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(word.try_into().ok()?))
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    let half = bytes.get(at..at.checked_add(2)?)?;
    Some(u16::from_le_bytes(half.try_into().ok()?))
}
