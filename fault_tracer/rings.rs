// SPDX-License-Identifier: GPL-2.0-only

//! The rings of one session: their memory, one for each CPU, and their account.

use core::sync::atomic::{AtomicU64, Ordering};
use kernel::{
    alloc::flags::{__GFP_NOWARN, __GFP_ZERO},
    bindings,
    prelude::*,
};

use super::{
    ring::{ConsumerPage, ProducerPage, Ring},
    sync::AtomicU64 as Word,
    uapi,
};

/// Bytes of the page that holds a side's positions.
pub(crate) const POSITIONS_BYTES: usize = 4096;

/// The rings of a session and what the fault path needs to know of it.
pub(crate) struct Rings {
    /// By CPU id; `None` for ids that no CPU can have.
    cpus: KVec<Option<CpuRing>>,
    log: bool,
    printed: AtomicU64,
}

/// One CPU's ring, the memory in which it lies, and what was taken out of it.
///
/// Fields are dropped in this order: the ring refers into the memory. Aligned, like the count that the
/// consumer writes, so that the fault path reads no cache line that anybody writes.
#[repr(align(64))]
pub(crate) struct CpuRing {
    ring: Ring<'static>,
    _memory: VVec<u64>,
    delivered: Delivered,
}

/// Faults that the consumer has got, on a cache line of its own.
#[repr(align(64))]
struct Delivered(AtomicU64);

impl CpuRing {
    fn new(ring_bytes: usize, overwrite: bool) -> Result<Self> {
        let words = (2 * POSITIONS_BYTES + ring_bytes) / 8;
        let mut memory = VVec::<u64>::with_capacity(words, GFP_KERNEL | __GFP_NOWARN | __GFP_ZERO)?;
        let start = memory.as_mut_ptr();
        // SAFETY: The allocation holds `words` words, is zeroed and page-aligned, does not move, and
        // lives as long as this `CpuRing`. From here on it is accessed through these references alone,
        // whose types are made of atomic words, valid when zero. The `'static` does not leave this
        // type: `ring` shortens it.
        let (producer, consumer, data) = unsafe {
            (
                &*start.cast::<ProducerPage>(),
                &*start.byte_add(POSITIONS_BYTES).cast::<ConsumerPage>(),
                core::slice::from_raw_parts(
                    start.byte_add(2 * POSITIONS_BYTES).cast::<Word>(),
                    ring_bytes / 8,
                ),
            )
        };
        Ok(Self {
            ring: Ring::new(producer, consumer, data, overwrite).ok_or(EINVAL)?,
            _memory: memory,
            delivered: Delivered(AtomicU64::new(0)),
        })
    }

    /// The ring.
    #[inline(always)]
    pub(crate) fn ring(&self) -> &Ring<'_> {
        &self.ring
    }

    /// Takes a batch out of the ring that the consumer has got. One consumer at a time.
    pub(crate) fn deliver(&self, end: u64, faults: u64) {
        self.delivered.0.fetch_add(faults, Ordering::Relaxed);
        self.ring.consume_to(end);
    }

    /// The account, see [`uapi::CpuCounters`].
    fn account(&self) -> uapi::CpuCounters {
        // First: what is written later and counted as pending must not make it less.
        let written = self.ring.written();
        let pending = self.ring.pending_faults();
        let recorded = self
            .delivered
            .0
            .load(Ordering::Relaxed)
            .wrapping_add(pending);
        uapi::CpuCounters {
            hits: self.ring.hits(),
            recorded,
            dropped: self.ring.dropped(),
            // While recording goes on, more may be recorded than was written then: never less than none.
            overwritten: written.saturating_sub(recorded),
            pending,
            ..Default::default()
        }
    }
}

impl Rings {
    /// Allocates a ring of `ring_bytes` (a power of two) for each possible CPU.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if there is no memory for them, or if they would take more than half of the machine's.
    pub(crate) fn new(ring_bytes: usize, overwrite: bool, log: bool) -> Result<Self> {
        let ids = cpu_ids();
        let possible = (0..ids).filter(|&cpu| is_possible(cpu)).count();
        if ring_bytes.saturating_mul(possible) > total_memory() / 2 {
            return Err(ENOMEM);
        }
        let mut cpus = KVec::with_capacity(ids, GFP_KERNEL)?;
        for cpu in 0..ids {
            let ring = if is_possible(cpu) {
                Some(CpuRing::new(ring_bytes, overwrite)?)
            } else {
                None
            };
            cpus.push(ring, GFP_KERNEL)?;
        }
        Ok(Self {
            cpus,
            log,
            printed: AtomicU64::new(0),
        })
    }

    /// The ring of a CPU; `None` for an id that no CPU can have.
    #[inline(always)]
    pub(crate) fn cpu(&self, cpu: usize) -> Option<&CpuRing> {
        match self.cpus.get(cpu) {
            Some(Some(ring)) => Some(ring),
            _ => None,
        }
    }

    /// Whether faults are also printed to the kernel log.
    #[inline(always)]
    pub(crate) fn log(&self) -> bool {
        self.log
    }

    /// Counts a fault that is printed.
    pub(crate) fn count_printed(&self) {
        self.printed.fetch_add(1, Ordering::Relaxed);
    }

    /// Faults printed to the kernel log.
    pub(crate) fn printed(&self) -> u64 {
        self.printed.load(Ordering::Relaxed)
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
            total.hits += account.hits;
            total.recorded += account.recorded;
            total.dropped += account.dropped;
            total.overwritten += account.overwritten;
            total.pending += account.pending;
        }
        total
    }
}

/// Number of CPU ids: all are below it.
pub(crate) fn cpu_ids() -> usize {
    kernel::cpu::nr_cpu_ids() as usize
}

/// Whether there can be a CPU of this id.
fn is_possible(cpu: usize) -> bool {
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
