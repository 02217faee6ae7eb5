// SPDX-License-Identifier: GPL-2.0-only

//! What the fault path asks of the CPU and the page tables, in a few instructions each.
//!
//! The `kernel` crate answers the same questions through calls of helper functions; here they are the
//! loads that C would compile to. x86-64 only.

use core::{arch::asm, mem::size_of};
use kernel::bindings;

use super::uapi::fault_flag;

#[cfg(not(target_arch = "x86_64"))]
compile_error!("fault_tracer reads the registers and page tables of x86-64");

/// The running thread: `current`.
#[inline(always)]
pub(crate) fn current_task() -> *mut bindings::task_struct {
    let task: *mut bindings::task_struct;
    // SAFETY: A load of the per-CPU variable `current_task`; for the running thread its value never
    // changes, so it does not matter on which CPU the load is executed.
    unsafe {
        asm!(
            "mov {task}, qword ptr gs:[rip + {variable}]",
            task = out(reg) task,
            variable = sym bindings::current_task,
            options(nostack, preserves_flags, pure, readonly),
        )
    };
    task
}

/// The running CPU's id. It stays so as long as preemption is disabled.
#[inline(always)]
pub(crate) fn cpu_id() -> usize {
    let id: u32;
    // SAFETY: A load of the per-CPU variable `cpu_number`, an `int` that is never negative.
    unsafe {
        asm!(
            "mov {id:e}, dword ptr gs:[rip + {variable}]",
            id = out(reg) id,
            variable = sym bindings::cpu_number,
            options(nostack, preserves_flags, readonly),
        )
    };
    id as usize
}

/// `THREAD_SIZE` of `arch/x86/include/asm/page_64_types.h`.
const THREAD_SIZE: usize = 4096 << bindings::THREAD_SIZE_ORDER;

/// The user-space registers of a thread: `task_pt_regs` of `arch/x86/include/asm/processor.h`.
///
/// # Safety
///
/// `task` must be the running thread. For a kernel thread the result points to unused stack.
#[inline(always)]
pub(crate) unsafe fn user_registers(task: *mut bindings::task_struct) -> *const bindings::pt_regs {
    // SAFETY: `task` is running, so it has a stack; the registers lie at its top, inside of it.
    unsafe {
        (*task)
            .stack
            .cast::<u8>()
            .wrapping_add(
                THREAD_SIZE
                    - bindings::TOP_OF_KERNEL_STACK_PADDING as usize
                    - size_of::<bindings::pt_regs>(),
            )
            .cast()
    }
}

/// Whether [`user_registers`] finds what a system call saved: the code segment of user mode. Holds for a
/// thread that called the kernel by a system call.
pub(crate) fn user_registers_are_found() -> bool {
    // SAFETY: The running thread's registers, inside of its stack. The first two bits of the saved code
    // segment are the privilege level; `__bindgen_anon_1` is the union of its views.
    let code_segment = unsafe {
        let registers = user_registers(current_task());
        (&raw const (*registers).__bindgen_anon_1.cs).read()
    };
    code_segment & 3 == 3
}

const PRESENT: u64 = 1 << bindings::_PAGE_BIT_PRESENT;
const HUGE: u64 = 1 << bindings::_PAGE_BIT_PSE;
const PROTNONE: u64 = 1 << bindings::_PAGE_BIT_PROTNONE;
/// Bits that some CPUs set in entries that are empty (`_PAGE_KNL_ERRATUM_MASK`).
const ERRATUM: u64 = 1 << bindings::_PAGE_BIT_ACCESSED | 1 << bindings::_PAGE_BIT_DIRTY;
const PAGE_MASK: u64 = !0xfff;
const INDEX_MASK: u64 = 511;
const PAGE_SHIFT: u32 = 12;
const PMD_SHIFT: u32 = 21;
const PUD_SHIFT: u32 = 30;
const LEVEL_BITS: u32 = 9;

/// What the page tables say of an address: [`fault_flag::PRESENT`], [`fault_flag::SWAP_ENTRY`] or 0.
///
/// The error code of the hardware is gone when `handle_mm_fault` is entered (`idtentry_body` in
/// `arch/x86/entry/entry_64.S` takes it off the stack), so this walks the tables as the MMU did. It is
/// a snapshot: another thread may have mapped the page since the access.
///
/// # Safety
///
/// To be called with preemption disabled, for an address inside a mapping of `mm` that is locked
/// against unmapping (as it is at the entry of `handle_mm_fault`) and not of hugetlbfs, whose tables may
/// be shared and unshared under other locks.
#[inline(always)]
pub(crate) unsafe fn translation(mm: *const bindings::mm_struct, address: u64) -> u64 {
    // SAFETY: The tables above the last level cannot be freed while the mapping is locked; the kernel's
    // own walk right after this (`__handle_mm_fault`) relies on the same. A last-level table can be
    // taken out at any time, but is freed after an RCU grace period, which preemption being disabled
    // holds off. All of them lie in the direct map at `page_offset_base`; each read is of an aligned
    // word within a page. The variables read are constant after boot.
    unsafe {
        let direct_map = bindings::page_offset_base as u64;
        let frame_mask = bindings::physical_mask & PAGE_MASK;
        let mut shift = bindings::pgdir_shift;
        let mut table = (*mm).__bindgen_anon_1.pgd as u64;
        loop {
            let index = address.wrapping_shr(shift) & INDEX_MASK;
            let entry = (table.wrapping_add(index.wrapping_mul(8)) as *const u64).read_volatile();
            if entry & PRESENT == 0 {
                let swap = shift <= PMD_SHIFT && entry & PROTNONE == 0 && entry & !ERRATUM != 0;
                return if swap { fault_flag::SWAP_ENTRY } else { 0 };
            }
            if shift == PAGE_SHIFT || (shift <= PUD_SHIFT && entry & HUGE != 0) {
                return fault_flag::PRESENT;
            }
            table = direct_map.wrapping_add(entry & frame_mask);
            shift = shift.wrapping_sub(LEVEL_BITS);
        }
    }
}
