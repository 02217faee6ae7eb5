// SPDX-License-Identifier: GPL-2.0-only

//! The rings of one session: their memory, one for each CPU, and their account.

use core::{
    cell::UnsafeCell,
    ptr::null,
    ptr::NonNull,
    sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering},
};
use kernel::{
    alloc::allocator::Vmalloc,
    bindings,
    ffi::{c_int, c_void},
    page::{BorrowedPage, PAGE_SIZE},
    prelude::*,
};

use super::{
    arch,
    filter::Filter,
    process,
    ring::{self, ConsumerPage, ProducerPage, Ring},
    sideband::Side,
    stack::Wanted,
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
    /// Which of the faults' stacks are recorded, if they are.
    pub(crate) stack: Option<Wanted>,
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
    _share: Share,
    _pinned: Option<Pinned>,
    shape: Shape,
    /// Which faults are recorded, if not all.
    filter: Option<KBox<Filter>>,
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
    /// Faults that the filter passed over, and those of which each so manyth is recorded. The ring's producer alone writes
    /// them.
    passed_over: AtomicU64,
    admitted: AtomicU64,
    memory: Memory,
}

// SAFETY: All but `plain` is, and that is not changed while others look at it.
unsafe impl Sync for CpuRing {}

impl CpuRing {
    fn new(shape: &Shape, cpu: usize) -> Result<Self> {
        let memory = Memory::new(shape.stride(), cpu)?;
        let start = memory.start.as_ptr();
        // SAFETY: The allocation holds a whole stride, is zeroed and page-aligned, does not move, and
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
            passed_over: AtomicU64::new(0),
            admitted: AtomicU64::new(0),
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

    /// Counts a fault that the filter passes over. On the fault path, by the ring's producer.
    pub(crate) fn pass_over(&self) {
        let count = self.passed_over.load(Ordering::Relaxed);
        self.passed_over
            .store(count.wrapping_add(1), Ordering::Relaxed);
    }

    /// Whether it is the turn of a fault, where each so manyth is recorded; 0 and 1 for all. As [`CpuRing::pass_over`].
    pub(crate) fn is_due(&self, every: u32) -> bool {
        if every <= 1 {
            return true;
        }
        let count = self.admitted.load(Ordering::Relaxed).wrapping_add(1);
        let due = count >= u64::from(every);
        self.admitted
            .store(if due { 0 } else { count }, Ordering::Relaxed);
        due
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
        if offset >= self.memory.bytes {
            return None;
        }
        let word = self.memory.start.as_ptr().wrapping_byte_add(offset);
        // SAFETY: The address lies within the allocation, which lives as long as `self`.
        Some(unsafe { Vmalloc::to_page(NonNull::new(word)?.cast()) })
    }

    /// The account, see [`uapi::CpuCounters`]. Without use where `go_on` has become false.
    fn account(&self, go_on: impl Fn() -> bool) -> uapi::CpuCounters {
        // First: what is written later and counted as pending must not make it less.
        let written = self.ring.written();
        let pending = self.ring.pending_faults(go_on);
        let recorded = self.ring.delivered().wrapping_add(pending);
        uapi::CpuCounters {
            hits: self.ring.hits(),
            recorded,
            dropped: self.ring.dropped(),
            // While recording goes on, more may be recorded than was written then: never less than none.
            overwritten: written.saturating_sub(recorded),
            pending,
            sideband_dropped: self.ring.sideband_dropped(),
            passed_over: self.passed_over.load(Ordering::Relaxed),
            ..Default::default()
        }
    }
}

impl Rings {
    /// Allocates a ring for each possible CPU.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if there is no memory for them, or if those of all sessions would take more than half of the machine's; `EPERM` if
    /// the caller may not pin so much.
    pub(crate) fn new(shape: Shape, filter: Option<KBox<Filter>>) -> Result<Self> {
        let ids = cpu_ids();
        let possible = (0..ids).filter(|&cpu| is_possible(cpu)).count();
        let bytes = shape.stride().saturating_mul(possible);
        let share = Share::take(bytes)?;
        let pinned = Pinned::take(bytes)?;
        let mut cpus = KVec::with_capacity(ids, GFP_KERNEL)?;
        for cpu in 0..ids {
            let ring = if is_possible(cpu) {
                Some(CpuRing::new(&shape, cpu)?)
            } else {
                None
            };
            cpus.push(ring, GFP_KERNEL)?;
        }
        Ok(Self {
            cpus,
            _share: share,
            _pinned: pinned,
            shape,
            filter,
            printed: AtomicU64::new(0),
        })
    }

    /// What they are like.
    #[inline(always)]
    pub(crate) fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Which faults are recorded, if not all.
    #[inline(always)]
    pub(crate) fn filter(&self) -> Option<&Filter> {
        self.filter.as_deref()
    }

    /// Tells of losses that nothing followed.
    ///
    /// To be called when nothing is recorded any more.
    pub(crate) fn emit_losses(&self) {
        for cpu_ring in (0..self.cpus.len()).filter_map(|cpu| self.cpu(cpu)) {
            cpu_ring.ring.emit_losses();
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

    /// The account of a CPU; `None` for an id that no CPU can have. Without use where `go_on` has become false.
    pub(crate) fn account(
        &self,
        cpu: usize,
        go_on: impl Fn() -> bool,
    ) -> Option<uapi::CpuCounters> {
        let mut account = self.cpu(cpu)?.account(go_on);
        account.cpu = cpu as u32;
        Some(account)
    }

    /// The account of all CPUs together. Without use where `go_on` has become false.
    pub(crate) fn total(&self, go_on: impl Fn() -> bool + Copy) -> uapi::CpuCounters {
        let mut total = uapi::CpuCounters::default();
        for account in (0..self.cpus.len()).filter_map(|cpu| self.account(cpu, go_on)) {
            // What is recorded is in part the consumer's own count, and so may be anything.
            total.hits = total.hits.wrapping_add(account.hits);
            total.recorded = total.recorded.wrapping_add(account.recorded);
            total.dropped = total.dropped.wrapping_add(account.dropped);
            total.overwritten = total.overwritten.wrapping_add(account.overwritten);
            total.pending = total.pending.wrapping_add(account.pending);
            total.passed_over = total.passed_over.wrapping_add(account.passed_over);
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

/// The memory of one ring: whole pages, zeroed.
///
/// # Invariants
///
/// `start` is an allocation of `vmalloc` of that many bytes, which nobody else frees.
struct Memory {
    start: NonNull<u64>,
    bytes: usize,
}

// SAFETY: Memory has no thread.
unsafe impl Send for Memory {}
// SAFETY: There is nothing to be done by a shared reference but to look at the fields.
unsafe impl Sync for Memory {}

impl Memory {
    /// Memory near a CPU, charged to the control group of the caller. Where it is short, this fails rather than have
    /// somebody killed.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    fn new(bytes: usize, cpu: usize) -> Result<Self> {
        let flags = bindings::GFP_KERNEL
            | bindings::__GFP_ZERO
            | bindings::__GFP_NOWARN
            | 1 << bindings::___GFP_ACCOUNT_BIT
            | 1 << bindings::___GFP_RETRY_MAYFAIL_BIT;
        // SAFETY: May sleep, as may all who make rings. Without memory of before it allocates.
        let start =
            unsafe { bindings::vrealloc_node_align(null(), bytes, PAGE_SIZE, flags, node_of(cpu)) };
        // INVARIANT: By the call.
        Ok(Self {
            start: NonNull::new(start.cast()).ok_or(ENOMEM)?,
            bytes,
        })
    }
}

extern "C" {
    fn vfree(address: *const c_void);
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: By the type invariant.
        unsafe { vfree(self.start.as_ptr().cast()) };
    }
}

/// The NUMA node of a possible CPU.
#[cfg(CONFIG_USE_PERCPU_NUMA_NODE_ID)]
fn node_of(cpu: usize) -> c_int {
    // SAFETY: The CPU's copy of the per-CPU variable lies that far from its address.
    unsafe {
        let offset = bindings::__per_cpu_offset[cpu];
        (&raw const bindings::numa_node)
            .wrapping_byte_add(offset)
            .read_volatile()
    }
}
#[cfg(not(CONFIG_USE_PERCPU_NUMA_NODE_ID))]
fn node_of(_cpu: usize) -> c_int {
    bindings::NUMA_NO_NODE
}

/// Bytes that the rings of all sessions have, from their start to the close of their files.
static TAKEN: AtomicUsize = AtomicUsize::new(0);

/// Part of [`TAKEN`], given back when it goes.
struct Share(usize);

impl Share {
    /// Takes memory for rings.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if all rings would have more than half of the machine's, or as much is not available: then others would
    /// have to give up theirs.
    fn take(bytes: usize) -> Result<Self> {
        let half = total_memory() / 2;
        TAKEN
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |taken| {
                taken.checked_add(bytes).filter(|&all| all <= half)
            })
            .map_err(|_| ENOMEM)?;
        let share = Self(bytes);
        if bytes > available_memory() {
            return Err(ENOMEM);
        }
        Ok(share)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        TAKEN.fetch_sub(self.0, Ordering::Relaxed);
    }
}

/// Memory that a process pins: `VmPin` of `/proc/PID/status`. perf counts its buffers so, too (`kernel/events/core.c`).
///
/// # Invariants
///
/// Owns a reference to the structure of `mm`, and `pages` of what it has pinned.
struct Pinned {
    mm: NonNull<bindings::mm_struct>,
    pages: i64,
}

// SAFETY: A `struct mm_struct` belongs to no thread.
unsafe impl Send for Pinned {}
// SAFETY: There is nothing to be done by a shared reference.
unsafe impl Sync for Pinned {}

impl Pinned {
    /// Counts the memory of rings to the running process; `None` for a kernel thread.
    ///
    /// # Errors
    ///
    /// `EPERM` if it pins more than its `RLIMIT_MEMLOCK` then, unless it has `CAP_IPC_LOCK`.
    fn take(bytes: usize) -> Result<Option<Self>> {
        let task = arch::current_task();
        // SAFETY: The running thread's own memory and signal structure stay while it runs; its limits may be changed at any time.
        let (mm, limit) = unsafe {
            let limits = &raw const (*(*task).signal).rlim;
            let limit = &raw const (*limits)[bindings::RLIMIT_MEMLOCK as usize].rlim_cur;
            ((*task).mm, limit.read_volatile())
        };
        let Some(mm) = NonNull::new(mm) else {
            return Ok(None);
        };
        // CAST: a machine has fewer than 2^63 pages.
        let pages = bytes.div_ceil(PAGE_SIZE) as i64;
        // SAFETY: As above; the reference keeps the structure.
        unsafe { bindings::mmgrab(mm.as_ptr()) };
        // INVARIANT: Both are ours from here on.
        let pinned = Self { mm, pages };
        let before = pinned.counter().fetch_add(pages, Ordering::Relaxed);
        let all = before.saturating_add(pages).unsigned_abs();
        if all > (limit / PAGE_SIZE) as u64 && !process::has_capability(bindings::CAP_IPC_LOCK) {
            return Err(EPERM);
        }
        Ok(Some(pinned))
    }

    fn counter(&self) -> &AtomicI64 {
        // SAFETY: By the type invariant; the kernel's `atomic64_t` is changed by atomic accesses alone.
        unsafe {
            AtomicI64::from_ptr(&raw mut (*self.mm.as_ptr()).__bindgen_anon_1.pinned_vm.counter)
        }
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        self.counter().fetch_sub(self.pages, Ordering::Relaxed);
        // SAFETY: By the type invariant, and not used after this.
        unsafe { bindings::mmdrop(self.mm.as_ptr()) };
    }
}

/// The machine's memory in bytes.
fn total_memory() -> usize {
    let mut info = bindings::sysinfo::default();
    // SAFETY: The function fills in the structure it is given.
    unsafe { bindings::si_meminfo(&raw mut info) };
    info.totalram.saturating_mul(info.mem_unit as usize)
}

/// What of it can be had without swapping, but for a sixteenth that others may want meanwhile: `MemAvailable` of
/// `/proc/meminfo`.
fn available_memory() -> usize {
    // SAFETY: The function reads counters.
    let pages = unsafe { bindings::si_mem_available() };
    let bytes = usize::try_from(pages)
        .unwrap_or(0)
        .saturating_mul(PAGE_SIZE);
    bytes - bytes / 16
}
