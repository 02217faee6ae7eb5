// SPDX-License-Identifier: GPL-2.0-only

//! The rings of one session: their memory, one for each CPU, and their account.

use core::{
    cell::UnsafeCell,
    ptr::NonNull,
    sync::atomic::{AtomicU64, Ordering},
};
use kernel::{
    alloc::{
        allocator::Vmalloc,
        flags::{__GFP_NOWARN, __GFP_ZERO},
    },
    bindings,
    page::{BorrowedPage, PAGE_SIZE},
    prelude::*,
};

use super::{
    ring::{self, ConsumerPage, ProducerPage, Ring},
    sideband::Side,
    sync::AtomicU64 as Word,
    uapi,
};

/// Where the parts of a ring lie in its memory. The consumer page comes first, so that one read-only
/// mapping can hold all the rest.
pub(crate) const CONSUMER_OFFSET: usize = 0;
/// See [`CONSUMER_OFFSET`].
pub(crate) const PRODUCER_OFFSET: usize = PAGE_SIZE;
/// See [`CONSUMER_OFFSET`].
pub(crate) const DATA_OFFSET: usize = 2 * PAGE_SIZE;

/// What the rings of a session are like.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    /// Bytes of data of each ring: a power of two.
    pub(crate) ring_bytes: usize,
    /// How each of them behaves.
    pub(crate) ring: ring::Shape,
    /// See [`uapi::clock`].
    pub(crate) clock: u32,
    /// Whether faults are also printed to the kernel log.
    pub(crate) log: bool,
}

impl Shape {
    /// Bytes from one CPU's ring to the next in a file's mapping.
    pub(crate) fn stride(&self) -> usize {
        DATA_OFFSET + self.ring_bytes
    }
}

/// The rings of a session and what the fault path needs to know of it.
pub(crate) struct Rings {
    /// By CPU id; `None` for ids that no CPU can have.
    cpus: KVec<Option<CpuRing>>,
    shape: Shape,
    printed: AtomicU64,
}

/// One CPU's ring and the memory in which it lies: consumer page, producer page, data.
///
/// Fields are dropped in this order: the ring refers into the memory.
#[repr(C, align(64))]
pub(crate) struct CpuRing {
    /// See [`CpuRing::make_plain`]. First, so that a pointer to it is one to the whole.
    plain: UnsafeCell<u16>,
    ring: Ring<'static>,
    side: Option<Side>,
    memory: VVec<u64>,
}

// SAFETY: All but `plain` is, and that is not changed while others look at it.
unsafe impl Sync for CpuRing {}

impl CpuRing {
    fn new(shape: &Shape) -> Result<Self> {
        let words = shape.stride() / 8;
        let mut memory = VVec::<u64>::with_capacity(words, GFP_KERNEL | __GFP_NOWARN | __GFP_ZERO)?;
        let start = memory.as_mut_ptr();
        // SAFETY: The allocation holds `words` words, is zeroed and page-aligned, does not move, and
        // lives as long as this `CpuRing`. From here on it is accessed through these references alone,
        // whose types are made of atomic words, valid when zero. The `'static` does not leave this
        // type: `ring` shortens it.
        let (producer, consumer, data) = unsafe {
            (
                &*start.byte_add(PRODUCER_OFFSET).cast::<ProducerPage>(),
                &*start.byte_add(CONSUMER_OFFSET).cast::<ConsumerPage>(),
                core::slice::from_raw_parts(
                    start.byte_add(DATA_OFFSET).cast::<Word>(),
                    shape.ring_bytes / 8,
                ),
            )
        };
        Ok(Self {
            plain: UnsafeCell::new(0),
            ring: Ring::new(producer, consumer, data, shape.ring).ok_or(EINVAL)?,
            side: if shape.ring.sideband {
                Some(Side::new()?)
            } else {
                None
            },
            memory,
        })
    }

    /// The ring.
    #[inline(always)]
    pub(crate) fn ring(&self) -> &Ring<'_> {
        &self.ring
    }

    /// What the records beside the faults need, if there are any.
    #[inline(always)]
    pub(crate) fn side(&self) -> Option<&Side> {
        self.side.as_ref()
    }

    /// Says that its session, the only one in `mask`, is one for which `plain.rs` can record.
    ///
    /// # Safety
    ///
    /// To be called before the fault path sees what it returns.
    pub(crate) unsafe fn make_plain(&self, mask: u16) -> *const u16 {
        // SAFETY: Nobody looks at it yet.
        unsafe { *self.plain.get() = mask };
        self.plain.get()
    }

    /// As [`CpuRing::side`], of a session that is plain.
    ///
    /// # Safety
    ///
    /// The session has side-band records.
    #[inline(always)]
    pub(crate) unsafe fn plain_side(&self) -> &Side {
        // SAFETY: By the contract, `new` has made one.
        unsafe { self.side.as_ref().unwrap_unchecked() }
    }

    /// The page of its memory at an offset that is a multiple of the page size.
    pub(crate) fn page(&self, offset: usize) -> Option<BorrowedPage<'_>> {
        let word = self.memory.as_ptr().wrapping_byte_add(offset).cast_mut();
        if offset >= self.memory.capacity() * 8 {
            return None;
        }
        // SAFETY: The address lies within the allocation, which lives as long as `self`.
        Some(unsafe { Vmalloc::to_page(NonNull::new(word)?.cast()) })
    }

    /// The account, see [`uapi::CpuCounters`].
    fn account(&self) -> uapi::CpuCounters {
        // First: what is written later and counted as pending must not make it less.
        let written = self.ring.written();
        let pending = self.ring.pending_faults();
        let recorded = self.ring.delivered().wrapping_add(pending);
        uapi::CpuCounters {
            hits: self.ring.hits(),
            recorded,
            dropped: self.ring.dropped(),
            // While recording goes on, more may be recorded than was written then: never less than none.
            overwritten: written.saturating_sub(recorded),
            pending,
            untold: self.ring.untold(),
            ..Default::default()
        }
    }
}

impl Rings {
    /// Allocates a ring for each possible CPU.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if there is no memory for them, or if they would take more than half of the machine's.
    pub(crate) fn new(shape: Shape) -> Result<Self> {
        let ids = cpu_ids();
        let possible = (0..ids).filter(|&cpu| is_possible(cpu)).count();
        if shape.ring_bytes.saturating_mul(possible) > total_memory() / 2 {
            return Err(ENOMEM);
        }
        let mut cpus = KVec::with_capacity(ids, GFP_KERNEL)?;
        for cpu in 0..ids {
            let ring = if is_possible(cpu) {
                Some(CpuRing::new(&shape)?)
            } else {
                None
            };
            cpus.push(ring, GFP_KERNEL)?;
        }
        Ok(Self {
            cpus,
            shape,
            printed: AtomicU64::new(0),
        })
    }

    /// What they are like.
    #[inline(always)]
    pub(crate) fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Tells of losses that nothing followed.
    ///
    /// To be called when nothing is recorded any more.
    pub(crate) fn tell_losses(&self) {
        for cpu_ring in (0..self.cpus.len()).filter_map(|cpu| self.cpu(cpu)) {
            cpu_ring.ring.tell_losses();
        }
    }

    /// Whether a reader has enough to read.
    pub(crate) fn are_worth_reading(&self) -> bool {
        (0..self.cpus.len())
            .filter_map(|cpu| self.cpu(cpu))
            .any(|cpu_ring| cpu_ring.ring.is_worth_reading())
    }

    /// The ring of a CPU; `None` for an id that no CPU can have.
    #[inline(always)]
    pub(crate) fn cpu(&self, cpu: usize) -> Option<&CpuRing> {
        match self.cpus.get(cpu) {
            Some(Some(ring)) => Some(ring),
            _ => None,
        }
    }

    /// The ring of a CPU that there can be.
    ///
    /// # Safety
    ///
    /// `cpu` is the id of a possible CPU.
    #[inline(always)]
    pub(crate) unsafe fn possible_cpu(&self, cpu: usize) -> &CpuRing {
        // SAFETY: `Rings::new` has made an entry for each id, and a ring for each that is possible.
        unsafe { self.cpus.get_unchecked(cpu).as_ref().unwrap_unchecked() }
    }

    /// Whether faults are also printed to the kernel log.
    #[inline(always)]
    pub(crate) fn log(&self) -> bool {
        self.shape.log
    }

    /// Counts a fault that is printed.
    pub(crate) fn count_printed(&self) {
        self.printed.fetch_add(1, Ordering::Relaxed);
    }

    /// Faults printed to the kernel log.
    pub(crate) fn printed(&self) -> u64 {
        self.printed.load(Ordering::Relaxed)
    }

    /// Faults recorded whose return could not be, on all CPUs.
    pub(crate) fn missed_returns(&self) -> u64 {
        (0..self.cpus.len())
            .filter_map(|cpu| self.cpu(cpu))
            .map(|cpu_ring| cpu_ring.ring.missed_returns())
            .fold(0, u64::wrapping_add)
    }

    /// The account of a CPU; `None` for an id that no CPU can have.
    pub(crate) fn account(&self, cpu: usize) -> Option<uapi::CpuCounters> {
        let mut account = self.cpu(cpu)?.account();
        account.cpu = cpu as u32;
        Some(account)
    }

    /// The account of all CPUs together.
    pub(crate) fn total(&self) -> uapi::CpuCounters {
        let mut total = uapi::CpuCounters::default();
        for account in (0..self.cpus.len()).filter_map(|cpu| self.account(cpu)) {
            // What is recorded is in part the consumer's own count, and so may be anything.
            total.hits = total.hits.wrapping_add(account.hits);
            total.recorded = total.recorded.wrapping_add(account.recorded);
            total.dropped = total.dropped.wrapping_add(account.dropped);
            total.overwritten = total.overwritten.wrapping_add(account.overwritten);
            total.pending = total.pending.wrapping_add(account.pending);
        }
        total
    }
}

/// Number of CPU ids: all are below it.
pub(crate) fn cpu_ids() -> usize {
    kernel::cpu::nr_cpu_ids() as usize
}

/// Whether there can be a CPU of this id.
pub(crate) fn is_possible(cpu: usize) -> bool {
    // SAFETY: `__cpu_possible_mask` is constant after boot and has a bit for each id below `nr_cpu_ids`.
    unsafe {
        let bits = (&raw const bindings::__cpu_possible_mask).cast::<u64>();
        *bits.add(cpu / 64) >> (cpu % 64) & 1 != 0
    }
}

/// The machine's memory in bytes.
fn total_memory() -> usize {
    let mut info = bindings::sysinfo::default();
    // SAFETY: The function fills in the structure it is given.
    unsafe { bindings::si_meminfo(&raw mut info) };
    info.totalram.saturating_mul(info.mem_unit as usize)
}
