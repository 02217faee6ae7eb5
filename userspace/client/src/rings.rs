// SPDX-License-Identifier: GPL-2.0-only

//! Taking records out of a session's rings: by its drain call, or from memory shared with the module.
//!
//! The letters (A), (B) and (C) name the pairs of ordered accesses of `uapi/PROTOCOL.md`.

use std::{
    os::fd::BorrowedFd,
    ptr::NonNull,
    sync::atomic::{fence, AtomicU64, Ordering},
};

use fault_tracer_uapi::{self as uapi, mode};
use rustix::{
    mm::{mmap, munmap, MapFlags, ProtFlags},
    param::page_size,
};

use crate::{
    record::{count_faults, LONGEST_RECORD_WORDS},
    Drained, Error, Result, Session, BUFFER_WORDS_MIN,
};

/// Words of the buffer through which rings are read: 512 KiB.
const BUFFER_WORDS: usize = 64 * 1024;
const _: () = assert!(BUFFER_WORDS >= BUFFER_WORDS_MIN);

/// The rings of a session that has been started.
#[derive(Debug)]
pub struct Rings<'a> {
    session: &'a Session,
    cpus: Vec<u32>,
    /// By index in `cpus`; empty where the module copies.
    mapped: Vec<MappedRing>,
    overwrite: bool,
    buffer: Vec<u64>,
}

impl<'a> Rings<'a> {
    /// Reads by `FT_IOC_DRAIN`: one call of the kernel for each look at a ring.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] where the session was never started.
    pub fn by_call(session: &'a Session) -> Result<Self> {
        let mut cpus = Vec::new();
        for cpu in 0..session.cpus() {
            if session.counters(cpu)?.is_some() {
                cpus.push(cpu);
            }
        }
        Ok(Self {
            session,
            cpus,
            mapped: Vec::new(),
            overwrite: session.info()?.mode == mode::OVERWRITE,
            buffer: vec![0; BUFFER_WORDS],
        })
    }

    /// Reads from shared memory: a look at a ring costs no call. From then on nobody may drain the
    /// session by calls.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] where the session was never started, or its rings cannot be mapped.
    pub fn by_mapping(session: &'a Session) -> Result<Self> {
        let mut rings = Self::by_call(session)?;
        let info = session.info()?;
        rings.mapped = rings
            .cpus
            .iter()
            .map(|&cpu| MappedRing::new(session.as_fd(), &info, cpu))
            .collect::<Result<_>>()?;
        Ok(rings)
    }

    /// The CPUs that have a ring, by index.
    pub fn cpus(&self) -> &[u32] {
        &self.cpus
    }

    /// Takes the oldest records of the CPU of an index.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`]; [`Error::Damaged`] where a mapped ring makes no sense.
    ///
    /// # Panics
    ///
    /// If there is no such index.
    pub fn take(&mut self, index: usize) -> Result<Drained<'_>> {
        match self.mapped.get_mut(index) {
            Some(ring) => ring.take(&mut self.buffer),
            None => {
                let mut drained = self.session.drain_cpu(self.cpus[index], &mut self.buffer)?;
                // It may also have ended before a gap.
                drained.emptied &= !self.overwrite || drained.words.is_empty();
                Ok(drained)
            }
        }
    }
}

/// Memory of the module, shown to this process.
#[derive(Debug)]
struct Map {
    start: NonNull<std::ffi::c_void>,
    bytes: usize,
}

impl Map {
    fn new(file: BorrowedFd<'_>, offset: u64, bytes: usize, writable: bool) -> Result<Self> {
        let mut rights = ProtFlags::READ;
        rights.set(ProtFlags::WRITE, writable);
        // SAFETY: The kernel chooses where; nothing that exists is replaced.
        let start = unsafe {
            mmap(
                std::ptr::null_mut(),
                bytes,
                rights,
                MapFlags::SHARED,
                file,
                offset,
            )
        };
        let refused = |source| Error::Refused {
            action: "show its rings",
            source,
        };
        let start = start.map_err(|errno| refused(errno.into()))?;
        let start = NonNull::new(start).ok_or_else(|| refused(std::io::ErrorKind::Other.into()))?;
        Ok(Self { start, bytes })
    }

    /// Words of it, of which others may write some at any time.
    fn words(&self, offset: usize, count: usize) -> &[AtomicU64] {
        let end = count
            .checked_mul(8)
            .and_then(|bytes| bytes.checked_add(offset));
        assert!(offset % 8 == 0 && end.is_some_and(|end| end <= self.bytes));
        // SAFETY: The range lies in the mapping (just checked), which begins at a page and lives as long as
        // `self`. Atomics may be written by others; read-only memory is never written through them.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr().byte_add(offset).cast(), count) }
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: The mapping is this value's own, and borrows of it have ended.
        // It cannot fail: the range is that of a mapping.
        let _ = unsafe { munmap(self.start.as_ptr(), self.bytes) };
    }
}

/// One CPU's ring in shared memory.
#[derive(Debug)]
struct MappedRing {
    cpu: u32,
    /// Producer's page and data, read-only.
    ring: Map,
    consumer: Map,
    producer_offset: usize,
    data_offset: usize,
    data_words: usize,
    overwrite: bool,
}

/// The words of the two pages.
const HEAD: usize = 0;
const TAIL: usize = 1;
const POSITION: usize = 0;
const DELIVERED: usize = 1;

impl MappedRing {
    fn new(file: BorrowedFd<'_>, info: &uapi::Info, cpu: u32) -> Result<Self> {
        let page = page_size();
        let length = u64::from(info.data_offset) + info.ring_bytes;
        // Sizes come from a module whose version was checked; a ring that is no power of two would
        // make `take` read the wrong words, though never outside of the mapping.
        if length > info.ring_stride || !info.ring_bytes.is_power_of_two() {
            return Err(Error::Damaged {
                cpu,
                what: "its geometry makes no sense",
            });
        }
        let offset = u64::from(cpu) * info.ring_stride;
        Ok(Self {
            cpu,
            // CAST: a 64-bit program.
            ring: Map::new(file, offset, length as usize, false)?,
            consumer: Map::new(file, offset + u64::from(info.consumer_offset), page, true)?,
            producer_offset: info.producer_offset as usize,
            data_offset: info.data_offset as usize,
            data_words: info.ring_bytes as usize / 8,
            overwrite: info.mode == mode::OVERWRITE,
        })
    }

    fn take<'b>(&mut self, buffer: &'b mut [u64]) -> Result<Drained<'b>> {
        View {
            producer: self.ring.words(self.producer_offset, 2),
            consumer: self.consumer.words(0, 2),
            data: self.ring.words(self.data_offset, self.data_words),
            overwrite: self.overwrite,
        }
        .take(buffer)
        .map_err(|what| Error::Damaged {
            cpu: self.cpu,
            what,
        })
    }
}

/// The parts of a ring, wherever they lie.
struct View<'a> {
    producer: &'a [AtomicU64],
    consumer: &'a [AtomicU64],
    /// A power of two of words.
    data: &'a [AtomicU64],
    overwrite: bool,
}

impl View<'_> {
    /// Copies whole records into `buffer`, and consumes them.
    fn take<'b>(&self, buffer: &'b mut [u64]) -> std::result::Result<Drained<'b>, &'static str> {
        let mask = self.data.len() - 1;
        // Only this side writes it.
        let before = self.consumer[POSITION].load(Ordering::Relaxed);
        let mut position = before;
        // (A): what lies below `head` is written.
        let mut head = self.producer[HEAD].load(Ordering::Acquire);
        if self.overwrite {
            let tail = self.producer[TAIL].load(Ordering::Relaxed);
            if tail > position {
                position = tail;
                // The tail may be newer than the head seen before; (A) again.
                head = self.producer[HEAD].load(Ordering::Acquire);
            }
        }
        let available = head.wrapping_sub(position) / 8;
        if head < position || (available > self.data.len() as u64 && !self.overwrite) {
            return Err("its positions make no sense");
        }
        // In mode overwrite the producer may have run ahead since: what is too old is found out below.
        // CAST: at most the length of a slice.
        let words = available
            .min(self.data.len() as u64)
            .min(buffer.len() as u64) as usize;
        let start = (position as usize / 8) & mask;
        let first = words.min(self.data.len() - start);
        let (to_end, from_start) = buffer[..words].split_at_mut(first);
        for (to, from) in [(to_end, &self.data[start..]), (from_start, self.data)] {
            for (to, from) in to.iter_mut().zip(from) {
                *to = from.load(Ordering::Relaxed);
            }
        }
        let mut torn = 0;
        if self.overwrite {
            // (C): what was not given up before we read it was not written over when we read it.
            fence(Ordering::Acquire);
            let tail = self.producer[TAIL].load(Ordering::Relaxed);
            torn = (tail.saturating_sub(position) / 8).min(words as u64) as usize;
            position = position.max(tail);
        }
        let complete = words as u64 == available;
        let whole = whole_records(&buffer[torn..words]);
        if whole == 0 && torn < words && complete {
            return Err("a record reaches beyond its head");
        }
        let taken = &buffer[torn..torn + whole];
        let faults = count_faults(taken).map_err(|_| "a record's length makes no sense")?;
        let delivered = &self.consumer[DELIVERED];
        delivered.store(
            delivered.load(Ordering::Relaxed).wrapping_add(faults),
            Ordering::Relaxed,
        );
        // (B): the records are read before the producer may write over them.
        self.consumer[POSITION].store(position + whole as u64 * 8, Ordering::Release);
        Ok(Drained {
            words: taken,
            emptied: complete && torn + whole == words,
            gap_slots: (position - before) / uapi::SLOT_BYTES as u64,
        })
    }
}

/// Takes from a ring whose pages say `[head, tail]` and `[position, delivered]`: for the tests that let them say
/// anything. `data` is a power of two of words.
///
/// # Errors
///
/// What is damaged.
#[doc(hidden)]
pub fn take_from<'b>(
    pages: ([u64; 2], [u64; 2]),
    data: &[u64],
    overwrite: bool,
    buffer: &'b mut [u64],
) -> std::result::Result<Drained<'b>, &'static str> {
    let data: Vec<_> = data.iter().copied().map(AtomicU64::new).collect();
    View {
        producer: &pages.0.map(AtomicU64::new),
        consumer: &pages.1.map(AtomicU64::new),
        data: &data,
        overwrite,
    }
    .take(buffer)
}

/// Words of the whole records at the beginning of a copy.
fn whole_records(words: &[u64]) -> usize {
    const SLOT_WORDS: usize = uapi::SLOT_BYTES / 8;
    let mut next = 0;
    while let Some(&header) = words.get(next) {
        // A length of zero is damage, and is emitted by whoever reads the records.
        let length = (uapi::header_slots(header).max(1) as usize) * SLOT_WORDS;
        if length > words.len() - next {
            break;
        }
        next += length;
    }
    debug_assert!(words.len() - next < LONGEST_RECORD_WORDS);
    next
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SLOT: u64 = uapi::SLOT_BYTES as u64;

    /// A ring in this process's own memory, with a producer that does as the protocol says.
    struct Model {
        producer: [AtomicU64; 2],
        consumer: [AtomicU64; 2],
        data: Vec<AtomicU64>,
        overwrite: bool,
        dropped: Vec<u64>,
    }

    impl Model {
        fn new(slots: usize, overwrite: bool) -> Self {
            Self {
                producer: [0, 0].map(AtomicU64::new),
                consumer: [0, 0].map(AtomicU64::new),
                data: (0..slots * 4).map(|_| AtomicU64::new(0)).collect(),
                overwrite,
                dropped: Vec::new(),
            }
        }

        fn view(&self) -> View<'_> {
            View {
                producer: &self.producer,
                consumer: &self.consumer,
                data: &self.data,
                overwrite: self.overwrite,
            }
        }

        fn word(&self, position: u64) -> &AtomicU64 {
            &self.data[(position as usize / 8) & (self.data.len() - 1)]
        }

        fn push(&mut self, time: u64) {
            let capacity = self.data.len() as u64 * 8;
            let head = self.producer[HEAD].load(Ordering::Relaxed);
            if self.overwrite {
                let tail = self.producer[TAIL].load(Ordering::Relaxed);
                if head - tail > capacity - SLOT {
                    self.dropped
                        .push(self.word(tail + 8).load(Ordering::Relaxed));
                    self.producer[TAIL].store(tail + SLOT, Ordering::Relaxed);
                }
            } else if head - self.consumer[POSITION].load(Ordering::Relaxed) > capacity - SLOT {
                self.dropped.push(time);
                return;
            }
            let header = uapi::record_type::FAULT << uapi::HEADER_TYPE_SHIFT;
            for (i, word) in (0..).zip([header, time, 0, 0]) {
                self.word(head + i * 8).store(word, Ordering::Relaxed);
            }
            self.producer[HEAD].store(head + SLOT, Ordering::Release);
        }
    }

    fn times(drained: &Drained<'_>) -> Vec<u64> {
        drained.words.chunks(4).map(|record| record[1]).collect()
    }

    #[test]
    fn a_record_longer_than_the_ring_holds_is_damage() {
        let model = Model::new(4, false);
        model.data[0].store(
            uapi::record_type::TASK << uapi::HEADER_TYPE_SHIFT | 3 << uapi::HEADER_SLOTS_SHIFT,
            Ordering::Relaxed,
        );
        model.producer[HEAD].store(2 * SLOT, Ordering::Relaxed);
        assert!(model.view().take(&mut [0; 64]).is_err());
        model.producer[HEAD].store(5 * SLOT, Ordering::Relaxed);
        assert!(model.view().take(&mut [0; 64]).is_err());
    }

    proptest! {
        #[test]
        fn everything_is_taken_once_or_known_as_lost(
            overwrite in any::<bool>(),
            steps in prop::collection::vec(prop_oneof![Just(None), (1..20usize).prop_map(Some)], 0..60),
        ) {
            let mut model = Model::new(8, overwrite);
            let mut pushed = 0;
            let mut taken = Vec::new();
            let mut gaps = 0;
            for step in steps.into_iter().chain([None, None, None, None]) {
                match step {
                    Some(count) => for _ in 0..count {
                        pushed += 1;
                        model.push(pushed);
                    },
                    None => {
                        let mut buffer = [0; 12];
                        let drained = model.view().take(&mut buffer).unwrap();
                        if let Some(&first) = times(&drained).first() {
                            // What is missing before these is what the gap says.
                            let last = taken.last().copied().unwrap_or(0);
                            prop_assert!(!overwrite || drained.gap_slots == first - last - 1);
                        }
                        gaps += drained.gap_slots;
                        taken.extend(times(&drained));
                        let left = model.producer[HEAD].load(Ordering::Relaxed)
                            - model.consumer[POSITION].load(Ordering::Relaxed);
                        prop_assert_eq!(drained.emptied, left == 0);
                    }
                }
            }
            prop_assert!(taken.is_sorted());
            prop_assert_eq!(model.consumer[DELIVERED].load(Ordering::Relaxed), taken.len() as u64);
            // What was overwritten after it was taken is no loss.
            let mut all = model.dropped.clone();
            all.extend(&taken);
            all.sort_unstable();
            all.dedup();
            prop_assert_eq!(all, (1..=pushed).collect::<Vec<_>>());
            if overwrite {
                prop_assert_eq!(taken.len() as u64 + gaps, pushed);
            } else {
                prop_assert_eq!((taken.len() + model.dropped.len()) as u64, pushed);
                prop_assert_eq!(gaps, 0);
            }
        }
    }
}
