// SPDX-License-Identifier: GPL-2.0-only

//! x86-64: all that the module knows of this processor and of how the kernel uses it.
//!
//! The `kernel` crate answers the same questions through calls of helper functions; here they are the
//! loads that C would compile to. Another architecture has a file with the same public items.

use core::{arch::asm, mem::size_of};
use kernel::bindings;

#[path = "x86_64/clock.rs"]
pub(crate) mod clock;
#[path = "x86_64/page_table.rs"]
pub(crate) mod page_table;

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

/// A word of the running CPU's copy of a per-CPU variable, an array of words.
///
/// # Safety
///
/// `$index` is within the array `$variable`, a static of the section of per-CPU variables.
macro_rules! this_cpus_word {
    ($variable:path, $index:expr) => {{
        let word: usize;
        core::arch::asm!(
            "mov {word}, qword ptr gs:[{index:r} * 8 + {variable}]",
            word = out(reg) word,
            index = in(reg) u64::from($index),
            variable = sym $variable,
            options(nostack, preserves_flags, readonly),
        );
        word
    }};
}
pub(crate) use this_cpus_word;

extern "C" {
    /// The per-CPU count of reasons not to be preempted, with an inverted top bit for "somebody else should run"
    /// (`arch/x86/include/asm/preempt.h`): at 0 preemption is allowed and wanted.
    static __preempt_count: core::ffi::c_ulong;
    fn preempt_schedule_notrace();
}

/// How long that count is: 64 bits from 7.3 on, before that 32.
#[cfg(CONFIG_HAS_SEPARATE_PREEMPT_RESCHED_BITS)]
macro_rules! preempt_count {
    ($operation:literal) => {
        concat!($operation, " qword ptr gs:[rip + {count}]")
    };
}
#[cfg(not(CONFIG_HAS_SEPARATE_PREEMPT_RESCHED_BITS))]
macro_rules! preempt_count {
    ($operation:literal) => {
        concat!($operation, " dword ptr gs:[rip + {count}]")
    };
}

/// Keeps the thread on this CPU, and others off it, until [`preempt_enable`]: `preempt_disable_notrace`. It is an RCU
/// read-side section, too.
#[inline(always)]
pub(crate) fn preempt_disable() {
    // SAFETY: An increment of the running CPU's own counter, in one instruction.
    unsafe {
        asm!(
            preempt_count!("inc"),
            count = sym __preempt_count,
            options(nostack),
        )
    };
}

/// Ends what [`preempt_disable`] began, and lets others run if they should: `preempt_enable_notrace`.
///
/// # Safety
///
/// There was a [`preempt_disable`], which has not been ended.
#[inline(always)]
pub(crate) unsafe fn preempt_enable() {
    let wanted: u8;
    // SAFETY: A decrement of the running CPU's own counter, which this thread has incremented. At 0 the
    // kernel's own function is called in the context that it is made for: preemption allowed, interrupts on.
    unsafe {
        asm!(
            preempt_count!("dec"),
            "setz {wanted}",
            count = sym __preempt_count,
            wanted = out(reg_byte) wanted,
            options(nostack),
        );
        if wanted != 0 {
            preempt_schedule_notrace();
        }
    }
}

/// A number that no other memory of a process has, had or will have.
///
/// # Safety
///
/// `mm` is alive.
#[inline(always)]
pub(crate) unsafe fn memory_id(mm: *const bindings::mm_struct) -> Option<u64> {
    // SAFETY: By the contract; `init_new_context` of `arch/x86/include/asm/mmu_context.h` gives it, once.
    Some(unsafe { (*mm).__bindgen_anon_1.context.ctx_id })
}

/// Where a page lies in the kernel's own map of all memory: `page_to_virt`.
///
/// # Safety
///
/// `page` is the `struct page` of a page frame.
pub(crate) unsafe fn address_of(page: *const bindings::page) -> *const u8 {
    // SAFETY: Both variables are constant after boot.
    let (memory_map, direct_map) = unsafe { (bindings::vmemmap_base, bindings::page_offset_base) };
    let frame = (page as usize).wrapping_sub(memory_map) / size_of::<bindings::page>();
    direct_map.wrapping_add(frame << bindings::PAGE_SHIFT) as *const u8
}

/// `endbr64`, which functions begin with that may be called indirectly.
const ENDBR64: [u8; 4] = [0xf3, 0x0f, 0x1e, 0xfa];
/// The first bytes of a near call and of a near jump, either of which ftrace puts in the place of the nop.
const CALL: u8 = 0xe8;
const JUMP: u8 = 0xe9;

/// Whether a function calls somebody at its very entry, before it does anything of its own.
///
/// # Safety
///
/// `function` is the first byte of a kernel function that does not go away.
pub(crate) unsafe fn calls_at_entry(function: *const u8) -> bool {
    // SAFETY: A function of the kernel is longer than this. Its code may be changed meanwhile, byte by byte.
    let byte = |at| unsafe { function.add(at).read_volatile() };
    let at = if (0..4).all(|at| byte(at) == ENDBR64[at]) {
        4
    } else {
        0
    };
    matches!(byte(at), CALL | JUMP)
}

/// An argument of the function at whose entry a probe has saved these registers: the first is number 0, of four.
///
/// # Safety
///
/// `registers` are those of a probe at a function's entry, on its way to the probe's end.
#[inline(always)]
pub(crate) unsafe fn argument<const NUMBER: usize>(registers: *const bindings::pt_regs) -> usize {
    const { assert!(NUMBER < 4) };
    // SAFETY: By the contract the registers are there. Volatile: to be read again where it is needed again, rather
    // than kept in a register that would have to be saved.
    unsafe {
        match NUMBER {
            0 => (&raw const (*registers).di).read_volatile(),
            1 => (&raw const (*registers).si).read_volatile(),
            2 => (&raw const (*registers).dx).read_volatile(),
            _ => (&raw const (*registers).cx).read_volatile(),
        }
    }
}

/// What the function returns, as a return hook has saved the registers.
///
/// # Safety
///
/// `registers` are those of a probe at a function's return.
#[inline(always)]
pub(crate) unsafe fn result(registers: *const bindings::pt_regs) -> usize {
    // SAFETY: By the contract the registers are there.
    unsafe { (*registers).ax }
}

/// `THREAD_SIZE` of `arch/x86/include/asm/page_64_types.h`.
const THREAD_SIZE: usize = 1 << (bindings::PAGE_SHIFT + bindings::THREAD_SIZE_ORDER);

/// Whether the registers that an ftrace hook gets have what it takes to hook the function's return: the stack pointer, at which
/// the return address is (`ftrace_caller` of `arch/x86/kernel/ftrace_64.S`).
pub(crate) const RETURNS_AFTER_FTRACE: bool = true;

/// Whether a copy of a user stack and two registers are all that it takes to unwind it.
pub(crate) const STACKS_CAN_BE_COPIED: bool = true;

/// Words of the kernel's `struct arch_specific_insn`, and what it calls an instruction (`arch/x86/include/asm/kprobes.h`).
pub(crate) const PROBED_INSTRUCTION_WORDS: usize = 4;
pub(crate) type Opcode = u8;

/// The user-space registers of a thread: `task_pt_regs` of `arch/x86/include/asm/processor.h`.
///
/// # Safety
///
/// `task` must be the running thread. For a kernel thread the result points to unused stack.
#[inline(always)]
unsafe fn user_registers(task: *mut bindings::task_struct) -> *const bindings::pt_regs {
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

/// Where a thread is in user mode: its instruction pointer.
///
/// # Safety
///
/// `task` must be the running thread. For a kernel thread the result means nothing.
#[inline(always)]
pub(crate) unsafe fn user_ip(task: *mut bindings::task_struct) -> u64 {
    // SAFETY: By the contract.
    unsafe { (*user_registers(task)).ip as u64 }
}

/// The stack pointer of a thread in user mode.
///
/// # Safety
///
/// As [`user_ip`].
pub(crate) unsafe fn user_sp(task: *mut bindings::task_struct) -> u64 {
    // SAFETY: By the contract.
    unsafe { (*user_registers(task)).sp as u64 }
}

/// An address of code that stood on a user stack.
#[inline(always)]
pub(crate) fn code_address(word: u64) -> u64 {
    word
}

/// `__USER_CS` of `arch/x86/include/asm/segment.h`: the code segment of 64-bit user mode.
const USER_CODE_SEGMENT: u64 = 0x33;

/// The stack pointer and the frame pointer of a thread in user mode. At the frame pointer stand that of the caller, and
/// behind it the address to which the function returns. `None` of a thread that does not run 64-bit code, or has no
/// user mode.
///
/// # Safety
///
/// As [`user_ip`].
pub(crate) unsafe fn user_stack(task: *mut bindings::task_struct) -> Option<(u64, u64)> {
    // SAFETY: By the contract; as in `user_registers_are_found`.
    unsafe {
        let registers = user_registers(task);
        let code_segment = (&raw const (*registers).__bindgen_anon_1.cs).read();
        // CAST: the segment is the low 16 bits.
        (u64::from(code_segment as u16) == USER_CODE_SEGMENT)
            .then(|| ((*registers).sp as u64, (*registers).bp as u64))
    }
}

extern "C" {
    /// Reads 8 bytes of user memory (`arch/x86/lib/getuser.S`). Not called as C: the address is in `rax`, which is 0
    /// afterwards if `rdx` has what is there. Nothing else changes.
    fn __get_user_8();
}

/// A word of the running thread's user memory; `None` where it cannot be read. Where page faults are disabled, it does not
/// wait for what is not in memory.
#[inline(always)]
pub(crate) fn read_user(address: u64) -> Option<u64> {
    let (failed, word): (u64, u64);
    // SAFETY: The kernel's function checks the address, and takes an exception there for an answer.
    unsafe {
        asm!(
            "call {read}",
            read = sym __get_user_8,
            inout("rax") address => failed,
            out("rdx") word,
        )
    };
    (failed == 0).then_some(word)
}

/// `X86_CR4_SMAP` of `arch/x86/include/uapi/asm/processor-flags.h`: the kernel reads user memory only between `stac` and `clac`.
const CR4_SMAP: u64 = 1 << 21;

/// Copies words of user memory from one address to the other, until one cannot be read: how many are left then. One instruction
/// for each word on an emulated processor, and the processor's own fast way on others.
macro_rules! copy_words {
    ($to:expr, $from:expr, $words:expr, $before:literal, $after:literal) => {{
        let left: usize;
        asm!(
            $before,
            "2:",
            "rep movsq",
            "3:",
            $after,
            // An exception there goes on behind it: `struct exception_table_entry` of `arch/x86/include/asm/extable.h`.
            ".pushsection __ex_table, \"a\"",
            ".balign 4",
            ".long 2b - .",
            ".long 3b - .",
            ".long {user_access}",
            ".popsection",
            user_access = const bindings::EX_TYPE_UACCESS,
            inout("rcx") $words => left,
            inout("rsi") $from => _,
            inout("rdi") $to => _,
            options(nostack),
        );
        left
    }};
}

/// Copies words of the running thread's user memory; whether all could be read. Page faults being disabled, it does not wait for
/// what is not in memory.
///
/// # Safety
///
/// `to` is valid for so many words, page faults are disabled, and `from` to its end is below the end of user memory: the
/// processor knows no address in between that and the kernel's.
pub(crate) unsafe fn copy_user(to: *mut u64, from: u64, words: usize) -> bool {
    let cr4: u64;
    // SAFETY: Only reads what the kernel has set once for all processors.
    unsafe { asm!("mov {}, cr4", out(reg) cr4, options(nomem, nostack, preserves_flags)) };
    // SAFETY: By the contract. The direction flag is clear in the kernel. A processor without SMAP has no `stac`.
    let left = unsafe {
        if cr4 & CR4_SMAP != 0 {
            copy_words!(to, from, words, "stac", "clac")
        } else {
            copy_words!(to, from, words, "", "")
        }
    };
    left == 0
}

/// Whether the place of the user-space registers is that of what a system call saved: the code segment of user mode. Holds for a
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
