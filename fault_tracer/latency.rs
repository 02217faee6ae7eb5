// SPDX-License-Identifier: GPL-2.0-only

//! How long faults take: which sessions want to know, and what is kept from a fault's entry to its return.
//!
//! While a session asks for it, the kprobe at the entry of `handle_mm_fault` has another handler, or ftrace a hook
//! more, which hooks the return of those faults that such a session has recorded. Otherwise there is no hook, and the
//! fault path does not know of any of this.

use core::{
    cell::Cell,
    ffi::c_int,
    mem::MaybeUninit,
    ptr::null_mut,
    sync::atomic::{AtomicPtr, AtomicU16, AtomicU64, Ordering},
};
use kernel::{bindings, prelude::*};

use super::{
    arch::page_table,
    around::{folio_of, Before},
    probe::ReturnHook,
    recorder,
    targets::Mask,
    uapi,
};

/// Faults that can be under way at the same time and have their return seen: a fault keeps its instance for
/// as long as it sleeps. The returns of those beyond are missed.
const INSTANCES: c_int = 4096;

/// Sessions that want to know.
static SESSIONS: AtomicU16 = AtomicU16::new(0);

/// Number of the session start that was the last.
static STARTS: AtomicU64 = AtomicU64::new(0);

/// For each session, the number of its start.
static STARTED: [AtomicU64; uapi::MAX_SESSIONS] = [const { AtomicU64::new(0) }; uapi::MAX_SESSIONS];

/// The hook of [`Latency`], while there is one.
static HOOK: AtomicPtr<ReturnHook<Entry>> = AtomicPtr::new(null_mut());

/// What is kept of a fault until it returns.
pub(crate) struct Entry {
    /// [`STARTS`] when it was recorded: a session that has started since is not concerned.
    starts: Cell<u64>,
    /// Sessions that have recorded it and want to know.
    sessions: Cell<Mask>,
    /// Where it was; no memory where the page cannot be looked up at the return.
    memory: *const bindings::mm_struct,
    address: u64,
    /// Of hugetlbfs, the power of two that is the size of its pages; else 0.
    huge_shift: u32,
    /// Whether it is known what the page table had around that place: this.
    has_before: bool,
    before: MaybeUninit<Before>,
    /// For those, the time that they have recorded; nothing for others.
    times: [Cell<MaybeUninit<u64>>; uapi::MAX_SESSIONS],
}

impl Entry {
    /// Nobody has recorded it. What is around its place is looked at if one of these sessions may want to know of its return:
    /// before the time of the fault is taken, so that its duration has no part of that.
    ///
    /// # Safety
    ///
    /// At the entry of `handle_mm_fault` for this mapping, with its address and flags, and preemption disabled.
    #[inline(always)]
    pub(crate) unsafe fn new(
        vma: &bindings::vm_area_struct,
        address: u64,
        flags: u64,
        sessions: Mask,
    ) -> Self {
        let huge_shift = huge_shift(vma);
        let mut before = MaybeUninit::uninit();
        let is_timed = sessions & SESSIONS.load(Ordering::Relaxed) != 0;
        // SAFETY: By the contract. A mapping of hugetlbfs maps no pages around.
        let has_before = is_timed && unsafe { Before::look(&mut before, vma, address, flags) };
        Self {
            starts: Cell::new(0),
            sessions: Cell::new(0),
            memory: vma.vm_mm,
            address,
            huge_shift,
            has_before,
            before,
            times: [const { Cell::new(MaybeUninit::uninit()) }; uapi::MAX_SESSIONS],
        }
    }

    /// The last word of a [`uapi::ReturnRecord`], at the return with this result.
    ///
    /// # Safety
    ///
    /// At the return of `handle_mm_fault`, with preemption disabled.
    #[inline(always)]
    pub(crate) unsafe fn result_and_page(&self, result: u32) -> u64 {
        use uapi::fault_result as failed;
        const NOT_MAPPED: u32 = failed::OOM
            | failed::SIGBUS
            | failed::HWPOISON
            | failed::HWPOISON_LARGE
            | failed::SIGSEGV
            // The lock was given back: the mapping may be gone, and its memory with it.
            | failed::RETRY
            | failed::COMPLETED;
        let (page, around) = if result & NOT_MAPPED != 0 {
            (0, 0)
        } else if self.huge_shift != 0 {
            (self.huge_shift, 0)
        } else {
            // SAFETY: The caller of `handle_mm_fault` holds the lock of the mapping until it sees the result, and by it the
            // memory and its tables.
            unsafe {
                // And where it is known what was there before, it was written.
                let before = self.has_before.then(|| self.before.assume_init_ref());
                page_and_folio(self.memory, self.address, before)
            }
        };
        let result = result & uapi::RESULT_MASK | around << uapi::AROUND_SHIFT;
        u64::from(result) | u64::from(page) << 32
    }

    /// A session has recorded it, with this time.
    #[inline(always)]
    pub(crate) fn set(&self, session: usize, time_ns: u64) {
        let bit = 1 << session & SESSIONS.load(Ordering::Relaxed);
        if let Some(time) = self.times.get(session) {
            time.set(MaybeUninit::new(time_ns));
            self.sessions.set(self.sessions.get() | bit);
        }
    }

    /// Whether a session wants to know of its return.
    #[inline(always)]
    pub(crate) fn is_awaited(&self) -> bool {
        self.sessions.get() != 0
    }

    /// The sessions that want to know of its return, and the time that they have recorded.
    #[inline(always)]
    pub(crate) fn awaited_by(&self) -> impl Iterator<Item = (usize, u64)> + '_ {
        let mut rest = self.sessions.get();
        core::iter::from_fn(move || {
            while rest != 0 {
                let session = rest.trailing_zeros() as usize;
                rest &= rest.wrapping_sub(1);
                let (Some(time), Some(started)) = (self.times.get(session), STARTED.get(session))
                else {
                    continue;
                };
                // Another session may have the slot by now.
                if started.load(Ordering::Relaxed) <= self.starts.get() {
                    // SAFETY: `set` has written it before it put the session's bit there.
                    return Some((session, unsafe { time.get().assume_init() }));
                }
            }
            None
        })
    }

    /// Writes what it holds to `to`.
    #[inline(always)]
    fn copy_to(&self, to: &mut MaybeUninit<Self>) {
        // Any bytes are a value of its parts but for the times, of which none is needed.
        let to = to.as_mut_ptr();
        let mut rest = self.sessions.get();
        // SAFETY: The fields of what `to` points to are written through it alone. A copy of a time that was not
        // written is one that was not, either.
        unsafe {
            (&raw mut (*to).starts).write(Cell::new(self.starts.get()));
            (&raw mut (*to).sessions).write(Cell::new(rest));
            (&raw mut (*to).memory).write(self.memory);
            (&raw mut (*to).address).write(self.address);
            (&raw mut (*to).huge_shift).write(self.huge_shift);
            (&raw mut (*to).has_before).write(self.has_before);
            if self.has_before {
                (&raw mut (*to).before).write(self.before);
            }
            while rest != 0 {
                let session = rest.trailing_zeros() as usize;
                rest &= rest.wrapping_sub(1);
                if let Some(time) = self.times.get(session) {
                    (&raw mut (*to).times)
                        .cast::<Cell<MaybeUninit<u64>>>()
                        .add(session)
                        .write(Cell::new(time.get()));
                }
            }
        }
    }
}

/// The power of two that is the size of the pages of a mapping of hugetlbfs; 0 for all others.
#[inline(always)]
fn huge_shift(vma: &bindings::vm_area_struct) -> u32 {
    const VM_HUGETLB: u64 = 1 << bindings::VMA_HUGETLB_BIT;
    // SAFETY: The flags do not change while the mapping is locked.
    let flags = unsafe { vma.__bindgen_anon_2.vm_flags } as u64;
    if flags & VM_HUGETLB == 0 {
        return 0;
    }
    // SAFETY: A mapping's operations stay, and this one only looks at the mapping.
    let bytes = unsafe {
        let page_size = vma.vm_ops.as_ref().and_then(|ops| ops.pagesize);
        page_size.map_or(0, |page_size| page_size((&raw const *vma).cast_mut()))
    };
    if bytes == 0 {
        0
    } else {
        bytes.trailing_zeros()
    }
}

/// Likewise for the page by which an address is translated; in the next byte for the folio of anonymous memory that
/// it is one of several pages of; and above that its node: what `ReturnRecord::page` tells. And [`Before::filled`].
///
/// # Safety
///
/// As [`page_table::page_of`], for a mapping that has been locked since `before` was looked at.
#[inline(never)]
unsafe fn page_and_folio(
    memory: *const bindings::mm_struct,
    address: u64,
    before: Option<&Before>,
) -> (u32, u32) {
    // SAFETY: By the contract.
    let found = unsafe { page_table::page_of(memory, address) };
    let around = match before {
        // SAFETY: The table was found just now.
        Some(before) if !found.table.is_null() => unsafe { before.filled(found.table) },
        _ => 0,
    };
    let shift = found.shift;
    let Some(page) = found.page else {
        return (shift, around);
    };
    // SAFETY: A page of memory that is mapped, while the mapping is locked: it may be unmapped and freed meanwhile by
    // reclaim alone. Its `struct page` stays in any case; what is read of it is a number of few bits.
    let (order, node) = unsafe { (folio_order(page), node_of(page)) };
    let told = shift | node << 16;
    // A huge page is all of its folio.
    if order == 0 || shift != bindings::PAGE_SHIFT {
        (told, around)
    } else {
        (told | shift.wrapping_add(order) << 8, around)
    }
}

/// The NUMA node of a page, plus 1; 0 where it is not known. `page_to_nid` of `include/linux/mm.h`.
///
/// # Safety
///
/// As [`folio_order`].
unsafe fn node_of(page: *const bindings::page) -> u32 {
    // SAFETY: By the contract; other bits of the word may change at any time, those of the node never.
    let flags = unsafe { (&raw const (*page).flags.f).read_volatile() };
    match NODES_SHIFT {
        Some(0) => 1,
        // With CONFIG_SPARSEMEM_VMEMMAP the highest bits are the node (`include/linux/page-flags-layout.h`).
        Some(bits) if cfg!(CONFIG_SPARSEMEM_VMEMMAP) => {
            (flags as u64 >> (64 - bits)).wrapping_add(1) as u32
        }
        _ => 0,
    }
}

/// `NODES_SHIFT` of `include/linux/nodemask_types.h`, of the kernels that there are.
const NODES_SHIFT: Option<u32> = if !cfg!(CONFIG_NUMA) {
    Some(0)
} else if cfg!(CONFIG_NODES_SHIFT = "10") {
    Some(10)
} else if cfg!(CONFIG_NODES_SHIFT = "6") {
    Some(6)
} else if cfg!(CONFIG_NODES_SHIFT = "4") {
    Some(4)
} else {
    None
};

/// The order of the folio of anonymous memory that a page is one of; 0 of others.
///
/// # Safety
///
/// As [`folio_of`].
unsafe fn folio_order(page: *const bindings::page) -> u32 {
    /// `FOLIO_MAPPING_ANON`.
    const ANONYMOUS: usize = 1;
    // SAFETY: By the contract; the word may change at any time.
    unsafe {
        let (head, order) = folio_of(page);
        let mapping =
            (&raw const (*head).__bindgen_anon_1.__bindgen_anon_1.mapping).read_volatile();
        if mapping as usize & ANONYMOUS == 0 {
            0
        } else {
            order
        }
    }
}

/// Takes notice of each record of a fault that is written.
pub(crate) trait OnWritten: Copy {
    /// The time in the record, by the session's clock.
    fn written(self, session: usize, time_ns: u64);
}

impl OnWritten for () {
    #[inline(always)]
    fn written(self, _session: usize, _time_ns: u64) {}
}

impl OnWritten for &Entry {
    #[inline(always)]
    fn written(self, session: usize, time_ns: u64) {
        self.set(session, time_ns);
    }
}

/// Begins to keep times for a session that starts, if it wants them. To be called before the fault path
/// knows of it.
pub(crate) fn begin(session: usize, wanted: bool) {
    STARTED[session].store(
        STARTS.fetch_add(1, Ordering::Relaxed).wrapping_add(1),
        Ordering::Relaxed,
    );
    if wanted {
        SESSIONS.fetch_or(1 << session, Ordering::Relaxed);
    }
}

/// A session has ended.
pub(crate) fn end(session: usize) {
    SESSIONS.fetch_and(!(1 << session), Ordering::Relaxed);
}

/// Hooks the return of a fault that is recorded. False if all instances are in use.
///
/// # Safety
///
/// To be called by the handler of a hook at the entry of `handle_mm_fault`, with its registers and the running
/// thread's task, preemption disabled.
#[inline(always)]
pub(crate) unsafe fn hook_return(
    task: *mut bindings::task_struct,
    registers: *mut bindings::pt_regs,
    entry: &Entry,
) -> bool {
    // A session that has recorded it was published behind this number's last step but for those that do not
    // concern it; and none can end and another start in its place while preemption is disabled.
    entry.starts.set(STARTS.load(Ordering::Relaxed));
    // SAFETY: `Latency::drop` withdraws the pointer and waits for an RCU grace period before the hook
    // goes; with preemption disabled we are in a read-side section.
    let Some(hook) = (unsafe { HOOK.load(Ordering::Acquire).as_ref() }) else {
        return false;
    };
    // SAFETY: By this function's contract.
    match unsafe { hook.place(task, registers) } {
        Some(room) => {
            entry.copy_to(room);
            true
        }
        None => false,
    }
}

/// The return hook that handlers at the entry place: alive while a session wants it. Faults that are under way when it
/// goes may return at any later time, unseen.
pub(crate) struct Latency {
    _hook: KBox<ReturnHook<Entry>>,
}

impl Latency {
    /// Lets handlers hook returns.
    ///
    /// # Errors
    ///
    /// Those of [`ReturnHook::new`].
    pub(crate) fn new() -> Result<Self> {
        let hook = KBox::new(ReturnHook::new(recorder::on_return, INSTANCES)?, GFP_KERNEL)?;
        HOOK.store((&raw const *hook).cast_mut(), Ordering::Release);
        Ok(Self { _hook: hook })
    }
}

impl Drop for Latency {
    fn drop(&mut self) {
        HOOK.store(null_mut(), Ordering::Relaxed);
        // SAFETY: The call may sleep, which the callers of a drop in this module allow.
        unsafe { bindings::synchronize_rcu_expedited() };
    }
}
