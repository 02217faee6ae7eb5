// SPDX-License-Identifier: GPL-2.0-only

//! The plain fault: at which there is nothing to do but to record it.
//!
//! Nearly all faults are trapped accesses (not `get_user_pages`) to mappings already emitted, where the page
//! table has nothing or a page, in processes that one session traces; that session keeps `CLOCK_MONOTONIC`, discards what does not fit and prints
//! nothing; and its ring has room. Whether a fault is such a one takes a few comparisons, and then the
//! record needs no call and no register saved. All other faults take the general way, `recorder.rs`, which
//! comes to the same record. Nothing is written before all is known. `docs/fault-path.md` goes through the
//! instructions one by one.

use core::{
    cell::UnsafeCell,
    num::NonZero,
    sync::atomic::{AtomicPtr, Ordering},
};
use kernel::bindings;

use super::{
    arch::{self, page_table},
    clock,
    latency::OnWritten,
    recorder::PASSED_ON,
    rings::{self, CpuRing, Rings},
    targets::Mask,
    uapi,
};

/// What stands for the ring of a session that is not plain: no mask is 0.
static NONE: Mask = 0;

type RingPointer = AtomicPtr<Mask>;

/// For each session the `plain` of this CPU's ring, or [`NONE`]: a per-CPU variable, of which the module
/// loader makes a copy for each CPU. Its address is no place in memory.
#[repr(transparent)]
struct PerCpu(UnsafeCell<[RingPointer; uapi::MAX_SESSIONS]>);

// SAFETY: Its content is atomic.
unsafe impl Sync for PerCpu {}

#[link_section = ".data..percpu"]
static PLAIN: PerCpu = PerCpu(UnsafeCell::new(
    [const { AtomicPtr::new((&raw const NONE).cast_mut()) }; uapi::MAX_SESSIONS],
));

/// The [`PLAIN`] of a session on this CPU.
///
/// # Safety
///
/// `session` is below `MAX_SESSIONS`.
#[inline(always)]
unsafe fn plain_here(session: u32) -> *const Mask {
    // SAFETY: Within the running CPU's copy by the contract.
    (unsafe { arch::this_cpus_word!(PLAIN, session) }) as *const Mask
}

/// The [`PLAIN`] of a session on some CPU.
fn plain_of(session: usize, cpu: usize) -> &'static RingPointer {
    // SAFETY: `cpu` is the id of a possible CPU, whose copy lies that far from the variable's address and
    // lives as long as the module.
    unsafe {
        let offset = bindings::__per_cpu_offset[cpu];
        let copy = (&raw const PLAIN).wrapping_byte_add(offset);
        &(&*(*copy).0.get())[session]
    }
}

fn possible_cpus() -> impl Iterator<Item = usize> {
    (0..rings::cpu_ids()).filter(|&cpu| rings::is_possible(cpu))
}

/// Lets the plain faults of a session be recorded here, if it is one that can have such.
///
/// # Safety
///
/// `rings` were not published before, and must stay alive until [`withdraw`] was called and an RCU grace period has passed.
pub(crate) unsafe fn publish(session: usize, rings: &Rings) {
    let shape = rings.shape();
    if shape.ring.overwrite
        || shape.ring.retell
        || !shape.ring.sideband
        || shape.clock != uapi::clock::MONOTONIC
        || shape.log
        || shape.stack.is_some()
        || rings.filter().is_some()
        || !clock::is_quick()
    {
        return;
    }
    for cpu in possible_cpus() {
        if let Some(cpu_ring) = rings.cpu(cpu) {
            // SAFETY: By the contract they are not published yet.
            let plain = unsafe { cpu_ring.make_plain(1 << session) };
            plain_of(session, cpu).store(plain.cast_mut(), Ordering::Release);
        }
    }
}

/// Undoes [`publish`], for good after an RCU grace period.
pub(crate) fn withdraw(session: usize) {
    for cpu in possible_cpus() {
        plain_of(session, cpu).store((&raw const NONE).cast_mut(), Ordering::Relaxed);
    }
}

/// Records a fault, or returns false and has done nothing: then it is not a plain one.
///
/// # Safety
///
/// In the kprobe's handler at the entry of `handle_mm_fault`: as `recorder::record`; `sessions` is not 0.
#[inline(always)]
pub(crate) unsafe fn record<T: OnWritten>(
    task: *mut bindings::task_struct,
    registers: *mut bindings::pt_regs,
    sessions: Mask,
    on_written: T,
) -> bool {
    // SAFETY: As for `recorder::record`. A pointer other than that to `NONE`, of which `plain` alone is
    // looked at, is one to the `CpuRing` of this CPU, by `publish`; it is alive within an RCU read-side
    // section, which preemption being disabled is.
    unsafe {
        let plain = plain_here(NonZero::new_unchecked(u32::from(sessions)).trailing_zeros());
        if *plain != sessions {
            // Not such a session, or several.
            return false;
        }
        let cpu_ring = &*plain.cast::<CpuRing>();
        if arch::argument::<3>(registers) == 0 {
            return false;
        }
        let vma = arch::argument::<0>(registers) as *const bindings::vm_area_struct;
        let mm = (*vma).vm_mm;
        let Some(mapping) = cpu_ring.plain_side().seen(vma, mm, (*task).tgid as u32) else {
            return false;
        };
        // Mappings of hugetlbfs, and those registered with userfaultfd, are not in the table.
        let address = arch::argument::<1>(registers) as u64;
        let Some(translation) = page_table::plain_entry(mm, address) else {
            return false;
        };
        let Some(time_ns) = clock::read_quickly() else {
            return false;
        };
        let Some(room) = cpu_ring.ring().room_for_plain() else {
            return false;
        };
        let flags = arch::argument::<2>(registers) as u64 & PASSED_ON | translation;
        let address = arch::argument::<1>(registers) as u64;
        // CAST: thread ids are positive.
        cpu_ring.ring().push_plain(
            room,
            [
                mapping.header | u64::from((*task).pid as u32) | flags << uapi::HEADER_FLAGS_SHIFT,
                time_ns,
                address & uapi::ADDRESS_MASK
                    | ((*task).min_flt as u64 & uapi::COUNTER_MASK) << uapi::MIN_FLT_SHIFT
                    | ((*task).maj_flt as u64) << uapi::MAJ_FLT_SHIFT,
                mapping.ip | arch::user_ip(task) & uapi::ADDRESS_MASK,
            ],
        );
        on_written.written(sessions.trailing_zeros() as usize, time_ns);
        true
    }
}
