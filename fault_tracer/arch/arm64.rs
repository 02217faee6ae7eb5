// SPDX-License-Identifier: GPL-2.0-only

//! arm64: all that the module knows of this processor and of how the kernel uses it.

use core::{arch::asm, mem::size_of};
use kernel::bindings;

#[path = "arm64/page_table.rs"]
pub(crate) mod page_table;
#[path = "portable.rs"]
mod portable;

pub(crate) use portable::{clock, copy_user, read_user, this_cpus_word};

/// Whether the registers that an ftrace hook gets have what it takes to hook the function's return: the link register is
/// elsewhere in them than in `struct pt_regs`.
pub(crate) const RETURNS_AFTER_FTRACE: bool = false;

/// Whether a copy of a user stack and two registers are all that it takes to unwind it: a function that calls no other keeps
/// its return address in x30 alone.
pub(crate) const STACKS_CAN_BE_COPIED: bool = false;

/// Words of the kernel's `struct arch_specific_insn`, and what it calls an instruction (`arch/arm64/include/asm/probes.h`).
pub(crate) const PROBED_INSTRUCTION_WORDS: usize = 3;
pub(crate) type Opcode = u32;

/// The running thread: `current`.
#[inline(always)]
pub(crate) fn current_task() -> *mut bindings::task_struct {
    let task: *mut bindings::task_struct;
    // SAFETY: Reads a register that the kernel keeps the running thread in (`arch/arm64/include/asm/current.h`).
    unsafe {
        asm!("mrs {}, sp_el0", out(reg) task, options(nomem, nostack, preserves_flags, pure))
    };
    task
}

/// The running CPU's id. It stays so as long as preemption is disabled.
#[inline(always)]
pub(crate) fn cpu_id() -> usize {
    // SAFETY: The running thread's own; the scheduler writes it before the thread runs.
    unsafe { (&raw const (*current_task()).thread_info.cpu).read_volatile() as usize }
}

extern "C" {
    /// The kernel's function for a processor whose preemption is a static key, and that of the others
    /// (`arch/arm64/include/asm/preempt.h`).
    #[cfg_attr(CONFIG_PREEMPT_DYNAMIC, link_name = "dynamic_preempt_schedule_notrace")]
    #[cfg(CONFIG_PREEMPTION)]
    fn preempt_schedule_notrace();
}

/// Where the running thread counts the reasons not to be preempted: the low half of a word, whose high half is 0 if somebody
/// else should run.
#[inline(always)]
fn preempt_count() -> *mut u64 {
    // SAFETY: The running thread's own.
    unsafe { &raw mut (*current_task()).thread_info.__bindgen_anon_1.preempt_count }
}

/// Changes the low half of that word. An interrupt that changes it, too, has undone that when it returns.
#[inline(always)]
fn add_to_preempt_count(difference: u32) {
    // The low half, on a machine of which the first byte is the lowest.
    const { assert!(cfg!(target_endian = "little")) };
    let count = preempt_count().cast::<u32>();
    // SAFETY: The running thread's own, aligned. Volatile: it stays where it stands.
    unsafe { count.write_volatile(count.read_volatile().wrapping_add(difference)) };
}

/// Keeps the thread on this CPU, and others off it, until [`preempt_enable`]: `preempt_disable_notrace`. It is an RCU
/// read-side section, too.
#[inline(always)]
pub(crate) fn preempt_disable() {
    add_to_preempt_count(1);
    core::sync::atomic::compiler_fence(core::sync::atomic::Ordering::SeqCst);
}

/// Ends what [`preempt_disable`] began, and lets others run if they should: `preempt_enable_notrace`.
///
/// # Safety
///
/// There was a [`preempt_disable`], which has not been ended.
#[inline(always)]
pub(crate) unsafe fn preempt_enable() {
    core::sync::atomic::compiler_fence(core::sync::atomic::Ordering::SeqCst);
    add_to_preempt_count(u32::MAX);
    // SAFETY: The running thread's own; an interrupt may clear the high half.
    #[cfg(CONFIG_PREEMPTION)]
    if unsafe { preempt_count().read_volatile() } == 0 {
        // SAFETY: The kernel's own function in the context that it is made for: preemption allowed.
        unsafe { preempt_schedule_notrace() };
    }
}

/// A number that no other memory of a process has, had or will have: the kernel keeps none for this processor.
///
/// # Safety
///
/// `mm` is alive.
#[inline(always)]
pub(crate) unsafe fn memory_id(_mm: *const bindings::mm_struct) -> Option<u64> {
    None
}

/// Where a page lies in the kernel's own map of all memory: `page_to_virt` of `arch/arm64/include/asm/memory.h`.
///
/// # Safety
///
/// `page` is the `struct page` of a page frame.
pub(crate) unsafe fn address_of(page: *const bindings::page) -> *const u8 {
    let frame = (page as usize).wrapping_sub(page_table::MEMORY_MAP) / size_of::<bindings::page>();
    page_table::DIRECT_MAP.wrapping_add(frame << bindings::PAGE_SHIFT) as *const u8
}

/// `mov x9, x30`, which ftrace has put before the place where it calls (`arch/arm64/kernel/ftrace.c`).
const KEEP_LINK: u32 = 0xaa1e_03e9;
/// What a kprobe puts in the place of an instruction, as of that one: `BRK64_OPCODE_KPROBES` of
/// `arch/arm64/include/asm/debug-monitors.h`. A kprobe is not made of ftrace on this processor.
const PROBED: u32 = 0xd420_0080;
/// What a call by `bl` has in these bits.
const CALL: u32 = 0x9400_0000;
const CALL_MASK: u32 = 0xfc00_0000;

/// Whether a function calls somebody at its very entry, before it does anything of its own.
///
/// # Safety
///
/// `function` is the first byte of a kernel function that does not go away.
pub(crate) unsafe fn calls_at_entry(function: *const u8) -> bool {
    // SAFETY: A function of the kernel is longer than this. Its code may be changed meanwhile, word by word.
    let word = |at| unsafe { function.cast::<u32>().add(at).read_volatile() };
    // A landing pad (`bti c`) may stand before them.
    (0..2).any(|at| matches!(word(at), KEEP_LINK | PROBED) && word(at + 1) & CALL_MASK == CALL)
}

/// An argument of the function at whose entry a probe has saved these registers: the first is number 0, of four.
///
/// # Safety
///
/// `registers` are those of a probe at a function's entry, on its way to the probe's end.
#[inline(always)]
pub(crate) unsafe fn argument<const NUMBER: usize>(registers: *const bindings::pt_regs) -> usize {
    const { assert!(NUMBER < 4) };
    // SAFETY: By the contract the registers are there. `struct pt_regs` and what ftrace saves (`struct __arch_ftrace_regs` of
    // `arch/arm64/include/asm/ftrace.h`) both begin with x0 to x8. Volatile, as on x86-64.
    unsafe { registers.cast::<usize>().add(NUMBER).read_volatile() }
}

/// What the function returns, as a return hook has saved the registers.
///
/// # Safety
///
/// `registers` are those of a probe at a function's return.
#[inline(always)]
pub(crate) unsafe fn result(registers: *const bindings::pt_regs) -> usize {
    // SAFETY: By the contract the registers are there; they begin with x0.
    unsafe { registers.cast::<usize>().read() }
}

/// `THREAD_SIZE` of `arch/arm64/include/asm/memory.h`, without KASAN.
const THREAD_SIZE: usize = if bindings::PAGE_SHIFT > 14 {
    1 << bindings::PAGE_SHIFT
} else {
    1 << 14
};
const _: () = assert!(!cfg!(any(CONFIG_KASAN_GENERIC, CONFIG_KASAN_SW_TAGS)));

/// The user-space registers of a thread: `task_pt_regs` of `arch/arm64/include/asm/processor.h`.
///
/// # Safety
///
/// `task` must be the running thread. For a kernel thread the result points to unused stack.
#[inline(always)]
unsafe fn user_registers(task: *mut bindings::task_struct) -> *const bindings::user_pt_regs {
    // SAFETY: `task` is running, so it has a stack; the registers lie at its top, inside of it, and begin with those of user
    // mode.
    unsafe {
        (*task)
            .stack
            .cast::<u8>()
            .wrapping_add(THREAD_SIZE - size_of::<bindings::pt_regs>())
            .cast()
    }
}

/// Where a thread is in user mode: its instruction pointer.
///
/// # Safety
///
/// `task` must be the running thread. For a kernel thread the result means nothing.
#[inline(always)]
pub(crate) unsafe fn user_ip(task: *mut bindings::task_struct) -> u64 {
    // SAFETY: By the contract.
    unsafe { (*user_registers(task)).pc }
}

/// The stack pointer of a thread in user mode.
///
/// # Safety
///
/// As [`user_ip`].
pub(crate) unsafe fn user_sp(task: *mut bindings::task_struct) -> u64 {
    // SAFETY: By the contract.
    unsafe { (*user_registers(task)).sp }
}

/// The bits of `pstate` that are a processor's mode, 32-bit code among them, and 64-bit user mode
/// (`arch/arm64/include/uapi/asm/ptrace.h`).
const MODE_MASK: u64 = 0x1f;
const MODE_USER: u64 = 0;

/// The stack pointer and the frame pointer of a thread in user mode. At the frame pointer stand that of the caller, and
/// behind it the address to which the function returns. `None` of a thread that does not run 64-bit code, or has no
/// user mode.
///
/// # Safety
///
/// As [`user_ip`].
pub(crate) unsafe fn user_stack(task: *mut bindings::task_struct) -> Option<(u64, u64)> {
    // SAFETY: By the contract.
    unsafe {
        let registers = user_registers(task);
        let mode = (&raw const (*registers).pstate).read() & MODE_MASK;
        (mode == MODE_USER).then(|| ((*registers).sp, (*registers).regs[29]))
    }
}

/// An address of code that stood on a user stack, without the signature that pointer authentication has put into its high bits.
#[inline(always)]
pub(crate) fn code_address(word: u64) -> u64 {
    word & page_table::user_address_mask()
}

/// Whether the place of the user-space registers is that of what a system call saved: the mode of the processor. Holds for a
/// thread that called the kernel by a system call.
pub(crate) fn user_registers_are_found() -> bool {
    // SAFETY: The running thread's registers, inside of its stack.
    let state = unsafe { (&raw const (*user_registers(current_task())).pstate).read() };
    state & 0xf == MODE_USER
}
