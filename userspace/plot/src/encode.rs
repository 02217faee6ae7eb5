// SPDX-License-Identifier: GPL-2.0-only

//! Columns → chunks, as the page's own decoder (assets/decode.js) reads them.
//!
//! A chunk is a zlib stream of sections. Each begins with its length in bytes (u32, little endian); what they hold
//! is said beside [`raw_chunk`] and [`mark_chunk`]. "Planes" are a byte with their number, then the lowest bytes
//! of all values, then the next ones. "Varints" have 7 bits a byte, the lowest first; "zigzag" puts the sign into
//! the lowest bit.

use std::{io::Write as _, ops::Range};

use flate2::{write::ZlibEncoder, Compression};
use rustc_hash::FxHashMap;

use crate::{input::NO_DURATION, pyramid::Mark, scene::Scene};

/// Faults of a chunk.
pub const CHUNK_FAULTS: usize = 1 << 16;

/// How hard is compressed: beyond it, time grows faster than the file shrinks.
const LEVEL: u32 = 4;

/// Bytes as the text of a script element: seven bits a character, the lowest first. Characters that are not kept as
/// they are in a page (NUL, ends of lines) or might end the element (`<`) have 128 added, which the decoder drops. All
/// of it is a string of one byte a character in the browser; base64 would take an eighth more of the file.
pub fn text(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 6 / 5);
    let (mut bits, mut count) = (0u32, 0);
    let mut character = |seven: u32| {
        // CAST: seven bits.
        let plain = char::from((seven & 0x7f) as u8);
        text.push(match plain {
            '\0' | '\n' | '\r' | '<' => char::from(plain as u8 | 0x80),
            plain => plain,
        });
    };
    for &byte in bytes {
        bits |= u32::from(byte) << count;
        count += 8;
        while count >= 7 {
            character(bits);
            bits >>= 7;
            count -= 7;
        }
    }
    if count > 0 {
        character(bits);
    }
    text
}

/// Sections of a chunk.
#[derive(Default)]
struct Sections(Vec<u8>);

impl Sections {
    fn add(&mut self, section: &[u8]) {
        // CAST: some megabytes.
        self.0.extend((section.len() as u32).to_le_bytes());
        self.0.extend(section);
    }

    fn compress(&self) -> Vec<u8> {
        compress(&self.0)
    }
}

/// A zlib stream.
pub fn compress(bytes: &[u8]) -> Vec<u8> {
    let mut encoder =
        ZlibEncoder::new(Vec::with_capacity(bytes.len() / 2), Compression::new(LEVEL));
    let written = encoder.write_all(bytes).and_then(|()| encoder.finish());
    written.expect("memory takes all that is written")
}

/// Values as planes.
fn planes(values: &[u64]) -> Vec<u8> {
    let most = values.iter().copied().max().unwrap_or(0);
    let count = (64 - most.leading_zeros()).div_ceil(8).max(1);
    let mut bytes = Vec::with_capacity(1 + values.len() * count as usize);
    // CAST: at most 8; one byte of a value.
    bytes.push(count as u8);
    for plane in 0..count {
        bytes.extend(values.iter().map(|value| (value >> (8 * plane)) as u8));
    }
    bytes
}

/// Adds a varint.
fn varint(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push((value as u8 & 0x7f) | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

/// Puts the sign into the lowest bit.
const fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// Values by the order of their first appearance, and these values as varints.
fn local(values: impl Iterator<Item = u32>) -> (Vec<u64>, Vec<u8>) {
    let mut index: FxHashMap<u32, u64> = FxHashMap::default();
    let mut table = Vec::new();
    let column = values
        .map(|value| {
            let next = index.len() as u64;
            *index.entry(value).or_insert_with(|| {
                varint(&mut table, u64::from(value));
                next
            })
        })
        .collect();
    (column, table)
}

/// What is left out of raw chunks to save space.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Less {
    /// The place within the page.
    pub low: bool,
    /// The lower digits of durations.
    pub durations: bool,
}

/// The faults of a range, in ten sections:
///
/// 0. times: planes of the differences, the first from 0;
/// 1. classes: planes;
/// 2. threads of the chunk: varints; 3. threads: planes of indices in 2;
/// 4. y: zigzag varints of the difference to the last of the same thread and panel;
/// 5. places: varints, 0 where it is the last of the same thread and panel, else 1 more;
/// 6. codes of the chunk: varints; 7. codes: planes of indices in 6 (empty: none);
/// 8. the address within the page: planes (empty: left out);
/// 9. durations (empty: none): planes of 1 + 8 × the bit length + the three bits below the highest (0: not
///    known), then the bits below those, in order, each value with as many bits as its head says, without gaps, the
///    lowest first;
/// 10. attempts above 1: varints of the index in the chunk and the attempts.
pub fn raw_chunk(scene: &Scene, range: Range<usize>, less: Less) -> Vec<u8> {
    let mut sections = Sections::default();
    let mut before = 0;
    let times: Vec<u64> = scene.time[range.clone()]
        .iter()
        .map(|&time| {
            let step = time - before;
            before = time;
            step
        })
        .collect();
    sections.add(&planes(&times));
    let classes: Vec<u64> = scene.class[range.clone()]
        .iter()
        .copied()
        .map(u64::from)
        .collect();
    sections.add(&planes(&classes));
    let (threads, table) = local(scene.thread[range.clone()].iter().copied());
    sections.add(&table);
    sections.add(&planes(&threads));

    let mut last: FxHashMap<(u64, u32), (u32, u32)> = FxHashMap::default();
    let (mut ys, mut places) = (Vec::new(), Vec::new());
    for (index, &thread) in range.clone().zip(&threads) {
        let panel = scene.classes[scene.class[index] as usize].panel;
        let (y, place) = (scene.y[index], scene.place[index]);
        let (last_y, last_place) = last
            .insert((thread, panel), (y, place))
            .unwrap_or((0, u32::MAX));
        varint(&mut ys, zigzag(i64::from(y) - i64::from(last_y)));
        let coded = if place == last_place {
            0
        } else {
            u64::from(place) + 1
        };
        varint(&mut places, coded);
    }
    sections.add(&ys);
    sections.add(&places);

    if scene.code.is_empty() {
        sections.add(&[]);
        sections.add(&[]);
    } else {
        let (codes, table) = local(scene.code[range.clone()].iter().copied());
        sections.add(&table);
        sections.add(&planes(&codes));
    }
    if less.low {
        sections.add(&[]);
    } else {
        let low: Vec<u64> = scene.low[range.clone()]
            .iter()
            .copied()
            .map(u64::from)
            .collect();
        sections.add(&planes(&low));
    }
    sections.add(&durations(
        scene.duration_ns.get(range.clone()).unwrap_or(&[]),
        less,
    ));
    let mut attempts = Vec::new();
    if !scene.attempts.is_empty() {
        for index in range.clone() {
            // CAST: faults have indices of 32 bits.
            if let Some(&count) = scene.attempts.get(&(index as u32)) {
                varint(&mut attempts, (index - range.start) as u64);
                varint(&mut attempts, u64::from(count));
            }
        }
    }
    sections.add(&attempts);
    sections.compress()
}

fn durations(durations: &[u64], less: Less) -> Vec<u8> {
    if durations.is_empty() {
        return Vec::new();
    }
    let mut heads = Vec::with_capacity(durations.len());
    let mut rest = Vec::new();
    let (mut bits, mut count) = (0u128, 0);
    for &duration in durations {
        if duration == NO_DURATION {
            heads.push(0);
            continue;
        }
        heads.push(duration_head(duration));
        if less.durations {
            continue;
        }
        let below = (64 - duration.leading_zeros()).saturating_sub(4);
        bits |= u128::from(duration & ((1 << below) - 1)) << count;
        count += below;
        while count >= 8 {
            // CAST: the lowest byte.
            rest.push(bits as u8);
            bits >>= 8;
            count -= 8;
        }
    }
    if count > 0 {
        // CAST: fewer than eight bits.
        rest.push(bits as u8);
    }
    // The heads exceed a byte for durations of more than 2^31 ns: the planes say so.
    let mut bytes = planes(&heads);
    bytes.extend(rest);
    bytes
}

/// Marks, in six sections:
///
/// 0. columns: varints of the differences, the first from 0;
/// 1. classes: planes;
/// 2. threads: planes;
/// 3. rows: zigzag varints of the difference to the mark before;
/// 4. counts: varints;
/// 5. the mean duration (empty: none), as the head in 9 of [`raw_chunk`]: planes.
pub fn mark_chunk(marks: &[Mark], with_durations: bool) -> Vec<u8> {
    let mut sections = Sections::default();
    let mut columns = Vec::new();
    let mut before = 0;
    for mark in marks {
        varint(&mut columns, mark.column - before);
        before = mark.column;
    }
    sections.add(&columns);
    let column = |of: fn(&Mark) -> u32| -> Vec<u64> {
        marks.iter().map(|mark| u64::from(of(mark))).collect()
    };
    sections.add(&planes(&column(|mark| mark.class)));
    sections.add(&planes(&column(|mark| mark.thread)));
    let mut rows = Vec::new();
    let mut before = 0;
    for mark in marks {
        varint(&mut rows, zigzag(i64::from(mark.row) - before));
        before = i64::from(mark.row);
    }
    sections.add(&rows);
    let mut counts = Vec::new();
    for mark in marks {
        varint(&mut counts, u64::from(mark.count));
    }
    sections.add(&counts);
    if with_durations {
        let heads: Vec<u64> = marks
            .iter()
            .map(|mark| match mark.durations {
                0 => 0,
                count => duration_head(mark.duration_ns / u64::from(count)),
            })
            .collect();
        sections.add(&planes(&heads));
    } else {
        sections.add(&[]);
    }
    sections.compress()
}

/// A duration to an eighth of a power of two, in order.
pub const fn duration_head(duration: u64) -> u64 {
    let length = 64 - duration.leading_zeros();
    let below = length.saturating_sub(4);
    1 + 8 * length as u64 + (duration >> below & 7)
}
