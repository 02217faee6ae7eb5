// SPDX-License-Identifier: GPL-2.0-only

//! The per-CPU ring: one producer that never waits, one consumer that never stops it.
//!
//! This file is the algorithm alone. It needs nothing but `core`, so the host's tests compile the
//! very same file, once with `core`'s atomics and once with loom's. The letters (A) to (C) name the
//! pairs of ordered accesses of `uapi/PROTOCOL.md`, which is the contract of this file.
//!
//! The atomics are `core`'s rather than `kernel::sync::atomic`: the latter compile to calls of
//! helper functions in a module (`rust_helper_atomic64_read`, ...), a call for each access on the
//! fault path, where these compile to plain moves. Nothing here is a read-modify-write.

use core::mem::size_of;

use super::sync::{fence, AtomicU64, Ordering};
use super::uapi;

/// Words of 64 bits in a slot.
pub const SLOT_WORDS: usize = uapi::SLOT_BYTES / 8;

const SLOT_BYTES: u64 = uapi::SLOT_BYTES as u64;

/// Bytes of memory for a byte of the ring: 1, but for loom's atomics, which are larger than what they hold.
const MEMORY_BYTES: usize = size_of::<AtomicU64>() / 8;

/// The producer's half of a ring's state. User space may map it, but read-only.
///
/// Positions count bytes since the ring was made and never wrap in practice (2^64 bytes); a record at
/// position `p` lies at `p` modulo the size of the ring.
#[repr(C, align(64))]
pub struct ProducerPage {
    /// Position at which the next record will be written.
    pub head: AtomicU64,
    /// Position of the oldest record that is not overwritten (mode *overwrite*; 0 in *discard*).
    pub tail: AtomicU64,
    /// Faults of targets that reached the ring.
    pub hits: AtomicU64,
    /// Faults written to the ring.
    pub written: AtomicU64,
    /// Faults that found the ring full (mode *discard*).
    pub dropped: AtomicU64,
    /// The producer's last look at the consumer's position: spares it the consumer's cache line.
    pub consumer_seen: AtomicU64,
    /// Head when the producer last asked for the reader to be woken.
    pub woken: AtomicU64,
    /// In mode *discard*, a fault that finds `head` below this has room and wakes nobody.
    pub look_at: AtomicU64,
    /// Faults dropped that no `LOST` record tells of yet, and the times of the first and the last of them.
    pub lost: AtomicU64,
    /// See `lost`.
    pub lost_first_ns: AtomicU64,
    /// See `lost`.
    pub lost_last_ns: AtomicU64,
    /// Records of tasks that found even their reserve full.
    pub sideband_dropped: AtomicU64,
    /// Faults written whose return is not: no hook could be placed, or the ring was full then.
    pub missed_returns: AtomicU64,
}

/// The consumer's half of a ring's state. The producer treats what it reads here as hostile.
#[repr(C, align(64))]
pub struct ConsumerPage {
    /// Position up to which everything is consumed.
    pub position: AtomicU64,
    /// Faults delivered, as the consumer counts them. Used for its own account alone.
    pub delivered: AtomicU64,
}

/// One CPU's ring.
///
/// # Invariants
///
/// `data.len()` is a power of two and at least [`SLOT_WORDS`]; `slot_mask` is as it says.
pub struct Ring<'a> {
    producer: &'a ProducerPage,
    consumer: &'a ConsumerPage,
    data: &'a [AtomicU64],
    /// Size of the data less that of a slot, in bytes.
    slot_mask: usize,
    shape: Shape,
    /// A fault fits if no more bytes than this are in use: all but its own and the reserve.
    fault_limit: u64,
}

/// Most bytes that faults and mappings leave to the records of tasks and losses: what a thousand threads
/// need to begin and end while nobody reads. No more than an eighth of the ring.
const RESERVE_MOST: u64 = 64 << 10;

/// Records that are walked over before the walker is asked whether to go on: some hundred microseconds.
const RECORDS_BETWEEN: u64 = 1 << 16;

/// How a ring behaves.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Whether the oldest records are overwritten when it is full; otherwise the new one is dropped.
    pub overwrite: bool,
    /// After so many bytes, a push tells that it is time to wake the reader.
    pub watermark_bytes: u64,
    /// Whether there are records beside the faults, `LOST` among them.
    pub sideband: bool,
    /// Whether a record that was consumed counts as gone.
    pub retell: bool,
}

/// Where a fault has room.
#[derive(Clone, Copy)]
pub struct Room(u64);

/// Room for a record beside the faults that is written in its place, and behind it for a fault.
pub struct Space<'a> {
    /// Where the ring ends.
    head: u64,
    /// Where the record begins: behind `head` if it would wrap around the end otherwise.
    start: u64,
    /// Its words. Nobody reads them before [`Ring::end_side`].
    pub words: &'a [AtomicU64],
}

/// What became of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// It found the ring full.
    Dropped,
    /// As `Dropped`, and the reader was not woken since the last record: nothing more will come until it
    /// reads.
    Full,
    /// It is in the ring.
    Written,
    /// It is in the ring, and since the reader was last woken as many bytes as the watermark have come.
    Crossed,
}

/// What [`Ring::copy_out`] copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Position of the first record copied. Beyond the position asked for if records were overwritten.
    pub start: u64,
    /// Words copied: whole records.
    pub words: usize,
    /// Faults among the records copied.
    pub faults: u64,
}

impl Batch {
    /// Position behind the last record copied: the consumer's next.
    pub fn end(&self) -> u64 {
        self.start.wrapping_add(self.words as u64 * 8)
    }
}

impl<'a> Ring<'a> {
    /// Makes a ring of zeroed parts; `None` if the length of `data` is no power of two or too small.
    pub fn new(
        producer: &'a ProducerPage,
        consumer: &'a ConsumerPage,
        data: &'a [AtomicU64],
        shape: Shape,
    ) -> Option<Self> {
        if !data.len().is_power_of_two() || data.len() < SLOT_WORDS {
            return None;
        }
        let capacity = (data.len() as u64).wrapping_mul(8);
        // Where the oldest are overwritten, there is always room.
        let reserve = if shape.sideband && !shape.overwrite {
            (capacity / 8).min(RESERVE_MOST) & !(SLOT_BYTES - 1)
        } else {
            0
        };
        let open = capacity.wrapping_sub(reserve);
        // INVARIANT: Just checked.
        Some(Self {
            producer,
            consumer,
            data,
            slot_mask: data.len().wrapping_sub(SLOT_WORDS).wrapping_mul(8),
            shape: Shape {
                // A ring that is full for faults is worth reading.
                watermark_bytes: shape.watermark_bytes.min(open),
                ..shape
            },
            fault_limit: open.wrapping_sub(SLOT_BYTES),
        })
    }

    /// Size of the data in bytes.
    fn capacity(&self) -> u64 {
        (self.data.len() as u64).wrapping_mul(8)
    }

    /// The word at a position (a multiple of 8).
    #[inline(always)]
    fn word(&self, position: u64) -> &AtomicU64 {
        let index = (position / 8) as usize & (self.data.len().wrapping_sub(1));
        // SAFETY: By the type invariant `len` is a power of two, so masking by `len - 1` gives an
        // index below `len`.
        unsafe { self.data.get_unchecked(index) }
    }

    /// The slot at a position (a multiple of [`SLOT_BYTES`]).
    #[inline(always)]
    fn slot(&self, position: u64) -> &[AtomicU64; SLOT_WORDS] {
        let offset = (position as usize & self.slot_mask).wrapping_mul(MEMORY_BYTES);
        // SAFETY: By the type invariant the size of the data is a power of two and at least that of a slot,
        // one too; so masking by their difference gives a multiple of the latter that is at most the
        // difference.
        unsafe { &*self.data.as_ptr().byte_add(offset).cast() }
    }

    /// Adds one to a counter that only the producer writes.
    #[inline(always)]
    fn count(counter: &AtomicU64) {
        counter.store(
            counter.load(Ordering::Relaxed).wrapping_add(1),
            Ordering::Relaxed,
        );
    }

    /// Records a fault: the producer's side.
    ///
    /// There must be one producer at a time; two at once would overwrite each other's records (but
    /// nothing else). In the module that is the CPU that the ring belongs to, with preemption
    /// disabled.
    #[inline(always)]
    pub fn push_fault(&self, record: [u64; SLOT_WORDS]) -> Pushed {
        if self.shape.overwrite {
            Self::count(&self.producer.hits);
            let head = self.producer.head.load(Ordering::Relaxed);
            self.evict_for(head, SLOT_BYTES);
            let head = self.put(self.producer, head, record, true);
            return self.crossed(head);
        }
        match self.room_for_plain() {
            Some(room) => {
                self.push_plain(room, record);
                Pushed::Written
            }
            None => self.push_with_a_look(record),
        }
    }

    /// Where there is room for a fault that is to wake nobody, if that is known without a look at the
    /// consumer. Mode *discard* alone.
    #[inline(always)]
    pub fn room_for_plain(&self) -> Option<Room> {
        let head = self.producer.head.load(Ordering::Relaxed);
        (head < self.producer.look_at.load(Ordering::Relaxed)).then_some(Room(head))
    }

    /// As [`Ring::push_fault`], where there is room.
    #[inline(always)]
    pub fn push_plain(&self, room: Room, record: [u64; SLOT_WORDS]) {
        let producer = self.producer;
        Self::count(&producer.hits);
        self.put(producer, room.0, record, true);
    }

    /// Records the return of a fault that is written, or counts it as missed. One producer, as for
    /// [`Ring::push_fault`].
    #[inline(always)]
    pub fn push_return(&self, record: [u64; SLOT_WORDS]) -> Pushed {
        match self.room_for_plain() {
            Some(room) if !self.shape.overwrite => {
                self.put(self.producer, room.0, record, false);
                Pushed::Written
            }
            _ => self.push_return_with_a_look(record),
        }
    }

    /// As [`Ring::push_return`], where there may be no room, or somebody to be woken.
    #[cold]
    #[inline(never)]
    fn push_return_with_a_look(&self, record: [u64; SLOT_WORDS]) -> Pushed {
        let mut head = self.producer.head.load(Ordering::Relaxed);
        if self.shape.overwrite {
            self.evict_for(head, SLOT_BYTES);
        } else {
            match self.room_for(head, SLOT_BYTES) {
                Some(behind_lost) => head = behind_lost,
                None => {
                    self.miss_return();
                    return Pushed::Dropped;
                }
            }
        }
        let head = self.put(self.producer, head, record, false);
        self.crossed(head)
    }

    /// Counts a fault that is written and whose return will not be. One producer, as for
    /// [`Ring::push_fault`].
    pub fn miss_return(&self) {
        Self::count(&self.producer.missed_returns);
    }

    /// As [`Ring::push_fault`] in mode *discard*, where there may be no room, or somebody to be woken.
    #[cold]
    #[inline(never)]
    fn push_with_a_look(&self, record: [u64; SLOT_WORDS]) -> Pushed {
        Self::count(&self.producer.hits);
        let head = self.producer.head.load(Ordering::Relaxed);
        let Some(head) = self.room_for(head, SLOT_BYTES) else {
            return self.drop_fault(head, record[1]);
        };
        let producer = self.producer;
        let head = self.put(producer, head, record, true);
        let pushed = self.crossed(head);
        let seen = producer.consumer_seen.load(Ordering::Relaxed);
        let woken = producer.woken.load(Ordering::Relaxed);
        // Below the one there is room, see `room_for`; below the other nobody is woken, see `crossed`. What
        // has been seen and where the reader was woken changes here and where there was no room alone.
        let full = seen.wrapping_add(self.fault_limit).wrapping_add(1);
        let wake = woken
            .saturating_add(self.shape.watermark_bytes)
            .saturating_sub(SLOT_BYTES);
        producer.look_at.store(full.min(wake), Ordering::Relaxed);
        pushed
    }

    /// Writes a fault, or its return, at `head`, where there is room, and returns the new head.
    #[inline(always)]
    fn put(
        &self,
        producer: &ProducerPage,
        head: u64,
        record: [u64; SLOT_WORDS],
        is_fault: bool,
    ) -> u64 {
        for (to, word) in self.slot(head).iter().zip(record) {
            to.store(word, Ordering::Relaxed);
        }
        if is_fault {
            Self::count(&producer.written);
        }
        // (A): the record is written before the position that shows it.
        let head = head.wrapping_add(SLOT_BYTES);
        producer.head.store(head, Ordering::Release);
        head
    }

    /// Whether the reader is to be woken, now that the ring ends at `head`; notes it if so.
    #[inline(always)]
    fn crossed(&self, head: u64) -> Pushed {
        let woken = &self.producer.woken;
        if head.wrapping_sub(woken.load(Ordering::Relaxed)) < self.shape.watermark_bytes {
            return Pushed::Written;
        }
        woken.store(head, Ordering::Relaxed);
        Pushed::Crossed
    }

    /// Records something beside the faults that can be emitted again: whole slots, whose first word says what
    /// and how many. Returns its position, or `None` if there is no room for it. One producer, as for
    /// [`Ring::push_fault`].
    pub fn push_side(&self, record: &[u64]) -> Option<u64> {
        let bytes = (record.len() as u64).wrapping_mul(8);
        let mut head = self.producer.head.load(Ordering::Relaxed);
        if self.shape.overwrite {
            self.evict_for(head, self.needed(head, bytes)?);
        } else {
            head = self.room_for(head, self.needed(head, bytes)?)?;
            // A `LOST` record may have moved it, and with it what is left before the end.
            head = self.room_for(head, self.needed(head, bytes)?)?;
        }
        Some(self.write(head, record, bytes))
    }

    /// Room for a record of up to so many words, whole slots, that is written in its place, and behind it for the fault
    /// that it belongs to; `None` where there is no room for both. One producer, as for [`Ring::push_fault`]. Nothing
    /// has come into the ring before [`Ring::end_side`].
    pub fn begin_side(&self, words: usize) -> Option<Space<'_>> {
        let bytes = (words as u64).wrapping_mul(8);
        let both = bytes.wrapping_add(SLOT_BYTES);
        let mut head = self.producer.head.load(Ordering::Relaxed);
        if self.shape.overwrite {
            self.evict_for(head, self.needed(head, both)?);
        } else {
            head = self.room_for(head, self.needed(head, both)?)?;
            // As in `push_side`.
            head = self.room_for(head, self.needed(head, both)?)?;
        }
        let start = head.wrapping_add(self.gap(head, both));
        let from = (start / 8) as usize & (self.data.len().wrapping_sub(1));
        Some(Space {
            head,
            start,
            words: self.data.get(from..from.wrapping_add(words))?,
        })
    }

    /// Records the first words of a space, whole slots, no more than it has. Their first word says what they are.
    pub fn end_side(&self, space: Space<'_>, words: usize) {
        self.pad(space.head, space.start.wrapping_sub(space.head));
        // (A), as for a fault.
        self.producer.head.store(
            space.start.wrapping_add((words as u64).wrapping_mul(8)),
            Ordering::Release,
        );
    }

    /// As [`Ring::push_side`], for what must be emitted once and in time: also where there is no room for
    /// faults any more. Counted where there is none at all. Says nothing of losses: they are emitted where
    /// the faults go on.
    pub fn push_reserved(&self, record: &[u64]) -> Option<u64> {
        let bytes = (record.len() as u64).wrapping_mul(8);
        let head = self.producer.head.load(Ordering::Relaxed);
        let written = self.needed(head, bytes).and_then(|needed| {
            if self.shape.overwrite {
                self.evict_for(head, needed);
            } else {
                // The last slot is for the losses that are emitted at the end.
                let limit = self
                    .capacity()
                    .checked_sub(needed.wrapping_add(SLOT_BYTES))?;
                self.fits(head, limit).then_some(())?;
            }
            Some(self.write(head, record, bytes))
        });
        if written.is_none() {
            Self::count(&self.producer.sideband_dropped);
        }
        written
    }

    /// Tells of losses that no fault has followed. To be called when nobody pushes any more.
    pub fn emit_losses(&self) {
        let head = self.producer.head.load(Ordering::Relaxed);
        let count = self.producer.lost.load(Ordering::Relaxed);
        if count != 0 && self.fits(head, self.capacity().wrapping_sub(SLOT_BYTES)) {
            self.write_lost(head, count);
        }
    }

    /// Bytes of the longest record that finds room in the ring when it is empty, wherever its head is: what
    /// is left before the end is at most a slot less than the record, and a `LOST` record may come first.
    pub fn longest(&self) -> u64 {
        (self.fault_limit.wrapping_add(SLOT_BYTES) / 2) & !(SLOT_BYTES - 1)
    }

    /// Bytes that a record behind `head` needs: it does not wrap around the end, and what is left before it
    /// is filled up. With a slot to spare for a `LOST` record, that is never more than the whole ring: `None`
    /// where it would be.
    fn needed(&self, head: u64, bytes: u64) -> Option<u64> {
        let needed = bytes.wrapping_add(self.gap(head, bytes));
        (needed.wrapping_add(SLOT_BYTES) <= self.capacity()).then_some(needed)
    }

    /// Writes a record for which there is room behind `head`. Returns its position.
    fn write(&self, mut head: u64, record: &[u64], bytes: u64) -> u64 {
        let gap = self.gap(head, bytes);
        self.pad(head, gap);
        head = head.wrapping_add(gap);
        for (i, &word) in record.iter().enumerate() {
            self.word(head.wrapping_add(i as u64 * 8))
                .store(word, Ordering::Relaxed);
        }
        // (A), as for a fault.
        self.producer
            .head
            .store(head.wrapping_add(bytes), Ordering::Release);
        head
    }

    /// Fills so many bytes from `head` to the end of the data, if any.
    fn pad(&self, head: u64, bytes: u64) {
        if bytes != 0 {
            let pad = (bytes / SLOT_BYTES) << uapi::HEADER_SLOTS_SHIFT
                | uapi::record_type::PAD << uapi::HEADER_TYPE_SHIFT;
            self.word(head).store(pad, Ordering::Relaxed);
        }
    }

    /// Bytes between a position and the end of the data, if `bytes` do not fit there.
    fn gap(&self, position: u64, bytes: u64) -> u64 {
        let offset = position & self.capacity().wrapping_sub(1);
        let left = self.capacity().wrapping_sub(offset);
        if left < bytes {
            left
        } else {
            0
        }
    }

    /// Whether who reads what follows knows a record at this position: it has not been overwritten, and not been consumed
    /// where that matters.
    #[inline(always)]
    pub fn still_has(&self, position: u64) -> bool {
        (!self.shape.overwrite || self.producer.tail.load(Ordering::Relaxed) <= position)
            && (!self.shape.retell || self.position() <= position)
    }

    /// Whether `bytes` fit behind `head` without touching what is not consumed: then where to write them,
    /// which is `head` or, where losses have just been emitted, behind that. Whatever the consumer wrote
    /// to its page, the answer can at worst be wrong for its own records.
    #[inline(always)]
    fn room_for(&self, head: u64, bytes: u64) -> Option<u64> {
        let seen = self.producer.consumer_seen.load(Ordering::Relaxed);
        // Beyond the room for a fault. A record that is longer than all there is never fits.
        let more = bytes.wrapping_sub(SLOT_BYTES);
        if more <= self.fault_limit
            && head.wrapping_sub(seen) <= self.fault_limit.wrapping_sub(more)
        {
            return Some(head);
        }
        self.look_for_room(head, more)
    }

    /// As `room_for`, with a new look at the consumer's position. After a loss, this is where the first
    /// record comes by: the last look had shown a full ring.
    #[cold]
    #[inline(never)]
    fn look_for_room(&self, head: u64, more: u64) -> Option<u64> {
        let count = self.producer.lost.load(Ordering::Relaxed);
        let lost_bytes = if count != 0 { SLOT_BYTES } else { 0 };
        let limit = self
            .fault_limit
            .checked_sub(more.wrapping_add(lost_bytes))?;
        let position = self.look(head, limit)?;
        self.producer
            .consumer_seen
            .store(position, Ordering::Relaxed);
        if count == 0 {
            return Some(head);
        }
        Some(self.write_lost(head, count))
    }

    /// The consumer's position, if no more than `limit` bytes are in use behind it.
    fn look(&self, head: u64, limit: u64) -> Option<u64> {
        // (B): the consumer has read its records before we write over them.
        let position = self.consumer.position.load(Ordering::Acquire);
        // A position ahead of `head` (nonsense) wraps to a huge distance: the ring counts as full.
        (head.wrapping_sub(position) <= limit).then_some(position)
    }

    /// Whether no more than `limit` bytes are in use. Leaves `consumer_seen` as it is: a fault that comes
    /// after losses must find the ring full, so that it tells of them.
    fn fits(&self, head: u64, limit: u64) -> bool {
        let seen = self.producer.consumer_seen.load(Ordering::Relaxed);
        head.wrapping_sub(seen) <= limit || self.look(head, limit).is_some()
    }

    /// Tells of losses at `head`, where there is room. Returns the position behind.
    fn write_lost(&self, head: u64, count: u64) -> u64 {
        let producer = self.producer;
        let record = [
            1 << uapi::HEADER_SLOTS_SHIFT | uapi::record_type::LOST << uapi::HEADER_TYPE_SHIFT,
            producer.lost_first_ns.load(Ordering::Relaxed),
            producer.lost_last_ns.load(Ordering::Relaxed),
            count,
        ];
        for (to, word) in self.slot(head).iter().zip(record) {
            to.store(word, Ordering::Relaxed);
        }
        producer.lost.store(0, Ordering::Relaxed);
        let head = head.wrapping_add(SLOT_BYTES);
        // (A), as for a fault.
        producer.head.store(head, Ordering::Release);
        head
    }

    /// Counts a fault that found the ring full, `head` being its end.
    #[cold]
    #[inline(never)]
    fn drop_fault(&self, head: u64, time_ns: u64) -> Pushed {
        let producer = self.producer;
        Self::count(&producer.dropped);
        if self.shape.sideband {
            if producer.lost.load(Ordering::Relaxed) == 0 {
                producer.lost_first_ns.store(time_ns, Ordering::Relaxed);
            }
            producer.lost_last_ns.store(time_ns, Ordering::Relaxed);
            Self::count(&producer.lost);
        }
        // A reader out of step with the watermark might otherwise sleep on: `head` does not move.
        if producer.woken.load(Ordering::Relaxed) == head {
            return Pushed::Dropped;
        }
        producer.woken.store(head, Ordering::Relaxed);
        Pushed::Full
    }

    /// Gives up the oldest records until `bytes` fit, if they do not.
    #[inline(always)]
    fn evict_for(&self, head: u64, bytes: u64) {
        let tail = self.producer.tail.load(Ordering::Relaxed);
        let limit = self.capacity().wrapping_sub(bytes);
        if head.wrapping_sub(tail) > limit {
            self.evict(head, tail, limit);
        }
    }

    /// Gives up the oldest records until at most `limit` bytes are in use. At most as many turns as
    /// slots are needed, for no record is shorter than one. Apart, so that it does not take the registers of
    /// those who drop.
    #[inline(never)]
    fn evict(&self, head: u64, mut tail: u64, limit: u64) {
        while head.wrapping_sub(tail) > limit {
            let slots = uapi::header_slots(self.word(tail).load(Ordering::Relaxed));
            tail = tail.wrapping_add(slots.max(1).wrapping_mul(SLOT_BYTES));
        }
        self.producer.tail.store(tail, Ordering::Relaxed);
        // (C): the records are given up before they are written over.
        fence(Ordering::Release);
    }

    /// Copies whole records from `position` on into `out`: the consumer's side.
    ///
    /// Copies as many as `out` holds and the ring has; none if there is no record or `out` is shorter
    /// than the next one. In mode *overwrite* the batch may begin later than asked, where the records
    /// between have been overwritten. The producer goes on meanwhile.
    pub fn copy_out(&self, position: u64, out: &mut [u64]) -> Batch {
        let mut position = position;
        // Each further turn means that the producer overtook us by a whole buffer, or is about to; do
        // not chase it for ever.
        for _ in 0..8 {
            // (A): what lies below `head` is written.
            let head = self.producer.head.load(Ordering::Acquire);
            position = self.first_valid(position, head);
            let available = head.wrapping_sub(position);
            if available > self.capacity() {
                // `position` lies ahead of `head`: it is a tail newer than the head seen, for nothing
                // orders these two loads, or comes from a damaged consumer page. Look again.
                continue;
            }
            let words = ((available / 8) as usize).min(out.len());
            for (i, word) in out.iter_mut().take(words).enumerate() {
                *word = self
                    .word(position.wrapping_add(i as u64 * 8))
                    .load(Ordering::Relaxed);
            }
            if !self.shape.overwrite {
                return Self::whole_records(position, &out[..words]);
            }
            // (C): what was not given up before we read it was not written over when we read it.
            fence(Ordering::Acquire);
            let tail = self.producer.tail.load(Ordering::Relaxed);
            let torn = tail.wrapping_sub(position);
            // CAST: a distance either way of less than 2^63 bytes.
            if torn as i64 <= 0 {
                // The tail has not passed `position`.
                return Self::whole_records(position, &out[..words]);
            }
            let torn_words = (torn / 8) as usize;
            position = tail;
            if torn_words < words {
                out.copy_within(torn_words..words, 0);
                return Self::whole_records(position, &out[..words.wrapping_sub(torn_words)]);
            }
        }
        Batch {
            start: position,
            words: 0,
            faults: 0,
        }
    }

    /// Where to read on: `position`, unless it is overwritten or (a damaged consumer page) outside of
    /// the ring; then the oldest record.
    fn first_valid(&self, position: u64, head: u64) -> u64 {
        let oldest = if self.shape.overwrite {
            self.producer.tail.load(Ordering::Relaxed)
        } else {
            head.saturating_sub(self.capacity())
        };
        if head.wrapping_sub(position) > head.wrapping_sub(oldest) {
            oldest
        } else {
            position
        }
    }

    /// Trims a copy to the whole records in it and counts the faults.
    fn whole_records(start: u64, copy: &[u64]) -> Batch {
        let mut words = 0;
        let mut faults = 0;
        while let Some(&header) = copy.get(words) {
            let slots = uapi::header_slots(header) as usize;
            let end = words.wrapping_add(slots.wrapping_mul(SLOT_WORDS));
            if slots == 0 || end > copy.len() {
                break;
            }
            if uapi::header_type(header) == uapi::record_type::FAULT {
                faults = u64::wrapping_add(faults, 1);
            }
            words = end;
        }
        Batch {
            start,
            words,
            faults,
        }
    }

    /// Tells the producer that a batch is consumed.
    pub fn consume(&self, batch: &Batch) {
        let consumer = self.consumer;
        let delivered = consumer.delivered.load(Ordering::Relaxed);
        consumer
            .delivered
            .store(delivered.wrapping_add(batch.faults), Ordering::Relaxed);
        // (B): the records are read before the producer may write over them.
        consumer.position.store(batch.end(), Ordering::Release);
    }

    /// Whether as many bytes as the watermark wait to be consumed.
    pub fn is_worth_reading(&self) -> bool {
        let head = self.producer.head.load(Ordering::Acquire);
        head.wrapping_sub(self.first_valid(self.position(), head)) >= self.shape.watermark_bytes
    }

    /// The consumer's position.
    pub fn position(&self) -> u64 {
        self.consumer.position.load(Ordering::Relaxed)
    }

    /// Faults written and not yet consumed. Exact while the producer is quiet. A big ring has tens of millions: `go_on`
    /// is asked now and then, and ends the count early by false.
    pub fn pending_faults(&self, go_on: impl Fn() -> bool) -> u64 {
        let head = self.producer.head.load(Ordering::Acquire);
        let mut position = self.first_valid(self.position(), head);
        let mut faults = 0u64;
        let mut walked = 0u64;
        while head.wrapping_sub(position) != 0 && head.wrapping_sub(position) <= self.capacity() {
            walked = walked.wrapping_add(1);
            if walked % RECORDS_BETWEEN == 0 && !go_on() {
                break;
            }
            let header = self.word(position).load(Ordering::Relaxed);
            if uapi::header_type(header) == uapi::record_type::FAULT {
                faults = faults.wrapping_add(1);
            }
            let slots = uapi::header_slots(header).max(1);
            position = position.wrapping_add(slots.wrapping_mul(SLOT_BYTES));
        }
        faults
    }

    /// Faults delivered to the consumer, by its own count.
    pub fn delivered(&self) -> u64 {
        self.consumer.delivered.load(Ordering::Relaxed)
    }

    /// Faults of targets that reached the ring.
    pub fn hits(&self) -> u64 {
        self.producer.hits.load(Ordering::Relaxed)
    }

    /// Faults written to the ring, whatever became of them.
    pub fn written(&self) -> u64 {
        self.producer.written.load(Ordering::Relaxed)
    }

    /// Faults that found the ring full.
    pub fn dropped(&self) -> u64 {
        self.producer.dropped.load(Ordering::Relaxed)
    }

    /// Records of tasks that found even their reserve full.
    pub fn sideband_dropped(&self) -> u64 {
        self.producer.sideband_dropped.load(Ordering::Relaxed)
    }

    /// Faults written whose return could not be.
    pub fn missed_returns(&self) -> u64 {
        self.producer.missed_returns.load(Ordering::Relaxed)
    }
}
