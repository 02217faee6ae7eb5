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
/// Eight times the index within a table, which is the offset of the entry.
const OFFSET_MASK: u64 = 511 << 3;
/// Address bits that index the tables of each level, as the lowest of them.
const PGD_SHIFT_5_LEVELS: u32 = 48;
const P4D_SHIFT: u32 = 39;
const PUD_SHIFT: u32 = 30;
const PMD_SHIFT: u32 = 21;
const PTE_SHIFT: u32 = 12;

/// The entry for `address` in the table at `table`.
///
/// # Safety
///
/// `table` must be the virtual address of a page table of the level of `shift`.
#[inline(always)]
unsafe fn entry(table: u64, address: u64, shift: u32) -> u64 {
    let offset = address >> (shift - 3) & OFFSET_MASK;
    // SAFETY: By the contract; the offset is that of one of the table's 512 aligned words. Volatile, for
    // the MMU and other CPUs may change the entry.
    unsafe { (table.wrapping_add(offset) as *const u64).read_volatile() }
}

/// What an entry that is not present says.
#[inline(always)]
fn absent(entry: u64) -> u64 {
    if entry & PROTNONE == 0 && entry & !ERRATUM != 0 {
        fault_flag::SWAP_ENTRY
    } else {
        0
    }
}

/// What the page tables say of an address: [`fault_flag::PRESENT`], [`fault_flag::SWAP_ENTRY`] or 0.
///
/// The error code of the hardware is gone when `handle_mm_fault` is entered (`idtentry_body` in
/// `arch/x86/entry/entry_64.S` takes it off the stack), so this walks the tables as the MMU did. It is
/// a snapshot: another thread may have mapped the page since the access. Written out level by level,
/// which costs half as much as a loop.
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
    // holds off. All of them lie in the direct map at `page_offset_base`. The variables read are
    // constant after boot.
    unsafe {
        let direct_map = bindings::page_offset_base as u64;
        let frame_mask = bindings::physical_mask & PAGE_MASK;
        let below = |entry: u64| direct_map.wrapping_add(entry & frame_mask);

        let mut top = (*mm).__bindgen_anon_1.pgd as u64;
        if bindings::pgdir_shift == PGD_SHIFT_5_LEVELS {
            let pgd = entry(top, address, PGD_SHIFT_5_LEVELS);
            if pgd & PRESENT == 0 {
                return 0;
            }
            top = below(pgd);
        }
        let p4d = entry(top, address, P4D_SHIFT);
        if p4d & PRESENT == 0 {
            return 0;
        }
        let pud = entry(below(p4d), address, PUD_SHIFT);
        if pud & (PRESENT | HUGE) != PRESENT {
            return if pud & PRESENT == 0 {
                0
            } else {
                fault_flag::PRESENT
            };
        }
        let pmd = entry(below(pud), address, PMD_SHIFT);
        if pmd & (PRESENT | HUGE) != PRESENT {
            return if pmd & PRESENT == 0 {
                absent(pmd)
            } else {
                fault_flag::PRESENT
            };
        }
        let pte = entry(below(pmd), address, PTE_SHIFT);
        if pte & PRESENT == 0 {
            absent(pte)
        } else {
            fault_flag::PRESENT
        }
    }
}
