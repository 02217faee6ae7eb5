// SPDX-License-Identifier: GPL-2.0-only

//! What the fault path asks of the CPU and the page tables, in a few instructions each.
//!
//! The `kernel` crate answers the same questions through calls of helper functions; here they are the
//! loads that C would compile to. x86-64 only.

use core::{arch::asm, cell::UnsafeCell, mem::size_of};
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
/// The bits of an entry that are the physical address of the next table. Constant after [`init`].
static FRAME_MASK: Constant = Constant(UnsafeCell::new(0));

/// A word that does not change once it is used.
struct Constant(UnsafeCell<u64>);

// SAFETY: See its description.
unsafe impl Sync for Constant {}

/// Prepares [`translation`].
///
/// # Safety
///
/// To be called once, before anything else of this file.
pub(crate) unsafe fn init() {
    // SAFETY: `physical_mask` is constant after boot; nobody reads `FRAME_MASK` yet.
    unsafe { *FRAME_MASK.0.get() = bindings::physical_mask & PAGE_MASK };
}

/// What the entry at which a walk ends says of the address: [`fault_flag::PRESENT`],
/// [`fault_flag::SWAP_ENTRY`] or 0.
#[inline(always)]
fn meaning(entry: u64) -> u64 {
    if entry == 0 {
        0
    } else if entry & PRESENT != 0 {
        fault_flag::PRESENT
    } else if entry & PROTNONE == 0 && entry & !ERRATUM != 0 {
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
    // SAFETY: By the contract.
    meaning(unsafe { last_entry(mm, address) })
}

/// In `last_entry`: replaces the table in `{entry}` by its entry for `{address}`, at the level whose index
/// begins at that bit plus 3: the offset of an entry is eight times its index.
macro_rules! look_up {
    ($shift:literal) => {
        concat!(
            "mov {offset}, {address}\n",
            "shr {offset}, ",
            $shift,
            "\nand {offset:e}, 511 * 8\n",
            "mov {entry}, [{entry} + {offset}]",
        )
    };
}

/// In `last_entry`: replaces the entry by the table that it refers to.
macro_rules! follow {
    () => {
        "and {entry}, [rip + {frame_mask}]\nadd {entry}, [rip + {direct_map}]"
    };
}

/// The entry at which the walk ends: of the last level, of a huge page, or one that is not present; 0
/// instead of one that is not present above the level of huge pages of 2 MiB, where it says nothing.
///
/// # Safety
///
/// As [`translation`].
#[inline(always)]
unsafe fn last_entry(mm: *const bindings::mm_struct, address: u64) -> u64 {
    // SAFETY: `mm` is alive.
    let mut entry = unsafe { (*mm).__bindgen_anon_1.pgd as u64 };
    // SAFETY: The tables above the last level cannot be freed while the mapping is locked; the kernel's
    // own walk right after this (`__handle_mm_fault`) relies on the same. A last-level table can be
    // taken out at any time, but is freed after an RCU grace period, which preemption being disabled
    // holds off. All of them lie in the direct map at `page_offset_base`. The variables read are
    // constant after boot. The entries may be changed by the MMU and by other CPUs: each is read once.
    //
    // By hand, with the variables as operands in memory, it takes two registers, and a plain fault none
    // that must be saved; the compiler takes five, and 12 instructions more.
    unsafe {
        asm!(
            "cmp dword ptr [rip + {pgdir_shift}], 48",
            "jne 2f",
            look_up!("45"),
            "test {entry:e}, {present}",
            "jz 6f",
            follow!(),
            "2:",
            look_up!("36"),
            "test {entry:e}, {present}",
            "jz 6f",
            follow!(),
            look_up!("27"),
            // Now present and not huge is both bits clear.
            "xor {entry}, {present}",
            "test {entry:e}, {present} + {huge}",
            "jnz 5f",
            follow!(),
            look_up!("18"),
            "xor {entry}, {present}",
            "test {entry:e}, {present} + {huge}",
            "jnz 4f",
            follow!(),
            look_up!("9"),
            "jmp 7f",
            "4:",
            "xor {entry}, {present}",
            "jmp 7f",
            "5:",
            "xor {entry}, {present}",
            "test {entry:e}, {present}",
            "jnz 7f",
            "6:",
            "xor {entry:e}, {entry:e}",
            "7:",
            entry = inout(reg) entry,
            offset = out(reg) _,
            address = in(reg) address,
            pgdir_shift = sym bindings::pgdir_shift,
            frame_mask = sym FRAME_MASK,
            direct_map = sym bindings::page_offset_base,
            present = const PRESENT,
            huge = const HUGE,
            options(nostack, readonly),
        )
    };
    entry
}
