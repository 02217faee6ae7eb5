// SPDX-License-Identifier: GPL-2.0-only

//! The data path: what happens on a fault.
//!
//! Runs at the entry of `handle_mm_fault`, in the faulting thread, preemption disabled. It does not
//! sleep, allocate or lock, cannot panic (no indexing, no overflow), loops over at most the sessions
//! that trace the process, and writes no memory that another CPU writes. Faults are never taken in
//! interrupts, so each CPU's ring has this one producer.

use core::{
    ffi::{c_int, c_ulong},
    ptr::null_mut,
    sync::atomic::{AtomicPtr, Ordering},
};
use kernel::{bindings, prelude::*, str::CStrExt};

use super::{
    arch, clock,
    ftrace::RawOps,
    latency::{self, Entry, OnWritten},
    plain,
    probe::{Handler, Kprobe, RawInstance, RawKprobe},
    ring::{Pushed, Ring, SLOT_WORDS},
    rings::{CpuRing, Rings},
    sideband::{self, Side},
    stack, targets, translation,
    uapi::{self, fault_flag, record_type},
    wake,
};

/// Flags of `enum fault_flag` (`include/linux/mm_types.h`) that a record carries as they are.
pub(crate) const PASSED_ON: u64 = fault_flag::WRITE
    | fault_flag::TRIED
    | fault_flag::USER
    | fault_flag::REMOTE
    | fault_flag::INSTRUCTION
    | fault_flag::UNSHARE
    | fault_flag::VMA_LOCK;

/// `VM_MAYSHARE`, the `s` of `/proc/PID/maps` (`VM_SHARED` goes where the descriptor was opened for reading
/// alone), and `VM_HUGETLB` of `include/linux/mm.h`.
const VM_MAYSHARE: u64 = 1 << bindings::VMA_MAYSHARE_BIT;
const VM_HUGETLB: u64 = 1 << bindings::VMA_HUGETLB_BIT;
const SHARED_SHIFT: u32 = 4;
const HUGETLB_SHIFT: u32 = 11;
const FILE_SHIFT: u32 = 2;
const GUP_SHIFT: u32 = 9;

// The ABI's flags have the kernel's own bits, so that they need no translation.
const _: () = {
    assert!(bindings::fault_flag_FAULT_FLAG_WRITE as u64 == fault_flag::WRITE);
    assert!(bindings::fault_flag_FAULT_FLAG_TRIED as u64 == fault_flag::TRIED);
    assert!(bindings::fault_flag_FAULT_FLAG_USER as u64 == fault_flag::USER);
    assert!(bindings::fault_flag_FAULT_FLAG_REMOTE as u64 == fault_flag::REMOTE);
    assert!(bindings::fault_flag_FAULT_FLAG_INSTRUCTION as u64 == fault_flag::INSTRUCTION);
    assert!(bindings::fault_flag_FAULT_FLAG_UNSHARE as u64 == fault_flag::UNSHARE);
    assert!(bindings::fault_flag_FAULT_FLAG_VMA_LOCK as u64 == fault_flag::VMA_LOCK);
    assert!(VM_MAYSHARE >> SHARED_SHIFT == fault_flag::SHARED);
    assert!(VM_HUGETLB >> HUGETLB_SHIFT == fault_flag::HUGETLB);
    assert!(1 << FILE_SHIFT == fault_flag::FILE);
    assert!(1 << GUP_SHIFT == fault_flag::GUP);
};

// As are those of what the function returns.
const _: () = {
    use uapi::fault_result as result;
    assert!(bindings::vm_fault_reason_VM_FAULT_OOM == result::OOM);
    assert!(bindings::vm_fault_reason_VM_FAULT_SIGBUS == result::SIGBUS);
    assert!(bindings::vm_fault_reason_VM_FAULT_MAJOR == result::MAJOR);
    assert!(bindings::vm_fault_reason_VM_FAULT_HWPOISON == result::HWPOISON);
    assert!(bindings::vm_fault_reason_VM_FAULT_HWPOISON_LARGE == result::HWPOISON_LARGE);
    assert!(bindings::vm_fault_reason_VM_FAULT_SIGSEGV == result::SIGSEGV);
    assert!(bindings::vm_fault_reason_VM_FAULT_RETRY == result::RETRY);
    assert!(bindings::vm_fault_reason_VM_FAULT_COMPLETED == result::COMPLETED);
};

/// The rings of the running sessions.
static RUNNING: [AtomicPtr<Rings>; uapi::MAX_SESSIONS] =
    [const { AtomicPtr::new(null_mut()) }; uapi::MAX_SESSIONS];

/// Shows the fault path the rings of a session.
///
/// # Safety
///
/// `rings` were not published before, and must stay alive until [`withdraw`] was called and an RCU grace period has passed.
pub(crate) unsafe fn publish(session: usize, rings: *const Rings) {
    // SAFETY: By this function's contract.
    unsafe { plain::publish(session, &*rings) };
    RUNNING[session].store(rings.cast_mut(), Ordering::Release);
}

/// Hides the rings of a session from the fault path. It may use them until an RCU grace period has
/// passed.
pub(crate) fn withdraw(session: usize) {
    plain::withdraw(session);
    RUNNING[session].store(null_mut(), Ordering::Relaxed);
}

/// Kprobe on `handle_mm_fault(struct vm_area_struct *vma, unsigned long address, unsigned int flags,
/// struct pt_regs *regs)`.
///
/// # Safety
///
/// Called by that kprobe alone.
pub(crate) unsafe extern "C" fn on_fault(
    _probe: *mut RawKprobe,
    registers: *mut bindings::pt_regs,
) -> c_int {
    let task = arch::current_task();
    // SAFETY: The running thread's task is alive, and its ids are constant while it runs in user space
    // or takes a fault. The kprobe is detached before the targets' table goes.
    let sessions = unsafe { targets::sessions_of_a_fault((*task).tgid) } & targets::by_kprobe();
    if sessions == 0 {
        return 0;
    }
    // SAFETY: This is the kprobe's handler.
    unsafe {
        if plain::record(task, registers, sessions, ()) {
            return 0;
        }
        record(task, registers)
    }
}

/// Ftrace hook at the entry of `handle_mm_fault`: as [`on_fault`], for the sessions that ask for this hook.
///
/// # Safety
///
/// Called by that hook alone.
pub(crate) unsafe extern "C" fn on_entry(
    _function: c_ulong,
    _caller: c_ulong,
    _ops: *mut RawOps,
    registers: *mut bindings::pt_regs,
) {
    // A ring has one producer, the thread that its CPU runs; and what the masks say of a session holds until then.
    arch::preempt_disable();
    let task = arch::current_task();
    // SAFETY: As in `on_fault`. The hook has saved the function's arguments in their registers' places, and no
    // others are looked at.
    unsafe {
        let sessions = targets::sessions_of_a_fault((*task).tgid) & targets::by_ftrace();
        if sessions != 0 && !plain::record(task, registers, sessions, ()) {
            record_from_ftrace(task, registers);
        }
        arch::preempt_enable();
    }
}

/// Takes the place of [`on_fault`] while a session asks for the faults' returns.
///
/// # Safety
///
/// As [`on_fault`].
pub(crate) unsafe extern "C" fn on_timed_fault(
    _probe: *mut RawKprobe,
    registers: *mut bindings::pt_regs,
) -> c_int {
    let task = arch::current_task();
    // SAFETY: As in `on_fault`.
    unsafe {
        let sessions = targets::sessions_of_a_fault((*task).tgid) & targets::by_kprobe();
        if sessions != 0 {
            record_and_hook_return(task, registers, sessions);
        }
    }
    0
}

/// As [`on_entry`], for the sessions that ask for the faults' returns, too.
///
/// # Safety
///
/// As [`on_entry`].
pub(crate) unsafe extern "C" fn on_timed_entry(
    _function: c_ulong,
    _caller: c_ulong,
    _ops: *mut RawOps,
    registers: *mut bindings::pt_regs,
) {
    arch::preempt_disable();
    let task = arch::current_task();
    // SAFETY: As in `on_entry`.
    unsafe {
        let sessions = targets::sessions_of_a_fault((*task).tgid) & targets::by_timed_ftrace();
        if sessions != 0 {
            record_and_hook_return(task, registers, sessions);
        }
        arch::preempt_enable();
    }
}

/// Records a fault of a target for these sessions, and hooks its return for those that ask for that.
///
/// # Safety
///
/// As [`record`].
#[inline(always)]
unsafe fn record_and_hook_return(
    task: *mut bindings::task_struct,
    registers: *mut bindings::pt_regs,
    sessions: targets::Mask,
) {
    // SAFETY: As in `record_for`.
    let entry = unsafe {
        let vma = &*(arch::argument::<0>(registers) as *const bindings::vm_area_struct);
        let address = arch::argument::<1>(registers) as u64;
        let flags = arch::argument::<2>(registers) as u64;
        Entry::new(vma, address, flags, sessions)
    };
    // SAFETY: By this function's contract.
    unsafe {
        if !plain::record(task, registers, sessions, &entry) {
            record_timed(task, registers, sessions, &entry);
        }
        if !entry.is_awaited() || latency::hook_return(task, registers, &entry) {
            return;
        }
    }
    for (session, _) in entry.awaited_by() {
        // SAFETY: By this function's contract preemption is disabled.
        if let Some((_, cpu_ring)) = unsafe { ring_here(session) } {
            cpu_ring.ring().miss_return();
        }
    }
}

/// The thread whose next fault is to prove that the probe hears, or null when it has.
static PROVING: AtomicPtr<bindings::task_struct> = AtomicPtr::new(null_mut());

/// Takes the place of [`on_fault`] while a thread proves that the probe hears.
///
/// # Safety
///
/// As [`on_fault`].
unsafe extern "C" fn on_proving_fault(
    probe: *mut RawKprobe,
    registers: *mut bindings::pt_regs,
) -> c_int {
    note_proof();
    // SAFETY: By this function's contract.
    unsafe { on_fault(probe, registers) }
}

/// As [`on_proving_fault`], in the place of [`on_timed_fault`].
///
/// # Safety
///
/// As [`on_fault`].
unsafe extern "C" fn on_proving_timed_fault(
    probe: *mut RawKprobe,
    registers: *mut bindings::pt_regs,
) -> c_int {
    note_proof();
    // SAFETY: By this function's contract.
    unsafe { on_timed_fault(probe, registers) }
}

fn note_proof() {
    let task = arch::current_task();
    if PROVING.load(Ordering::Relaxed) == task {
        PROVING.store(null_mut(), Ordering::Relaxed);
    }
}

/// Whether the probe hears a fault that the running thread takes by calling `fault`; `timed` if faults'
/// returns are hooked. One call at a time.
///
/// Where kprobes or ftrace are switched off, or where the kernel failed to arm the probe and did not say so,
/// nothing fires and nothing counts that. So this looks at the very thing.
///
/// # Errors
///
/// Those of `fault`.
pub(crate) fn hears(probe: &Kprobe, timed: bool, fault: impl FnOnce() -> Result) -> Result<bool> {
    let (proving, usual): (Handler, Handler) = if timed {
        (on_proving_timed_fault, on_timed_fault)
    } else {
        (on_proving_fault, on_fault)
    };
    PROVING.store(arch::current_task(), Ordering::Relaxed);
    probe.set_handler(proving);
    let result = fault();
    probe.set_handler(usual);
    let heard = PROVING.swap(null_mut(), Ordering::Relaxed).is_null();
    result.map(|()| heard)
}

/// Records the return of a fault that [`on_timed_fault`] or [`on_timed_entry`] has recorded.
///
/// # Safety
///
/// Called by the hook that it has placed, alone.
pub(crate) unsafe extern "C" fn on_return(
    instance: *mut RawInstance,
    registers: *mut bindings::pt_regs,
) -> c_int {
    // SAFETY: This is the hook's handler. The ids of a thread do not
    // change while it takes a fault.
    let (entry, result, task) = unsafe {
        let entry = RawInstance::data::<Entry>(instance);
        (entry, arch::result(registers) as u32, arch::current_task())
    };
    // SAFETY: The running thread's task. CAST: process and thread ids are positive.
    let header = unsafe {
        (*task).pid as u64
            | ((*task).tgid as u64) << uapi::HEADER_TGID_SHIFT
            | 1 << uapi::HEADER_SLOTS_SHIFT
            | record_type::RETURN << uapi::HEADER_TYPE_SHIFT
    };
    let mut found = None;
    for (session, entry_ns) in entry.awaited_by() {
        // SAFETY: In a return hook's handler preemption is disabled.
        let Some((rings, cpu_ring)) = (unsafe { ring_here(session) }) else {
            continue;
        };
        let time_ns = clock::now(rings.shape().clock);
        // Behind the time, of which the look at the page tables is no part.
        let result_and_page = match found {
            Some(found) => found,
            // SAFETY: In a return hook's handler preemption is disabled.
            None => unsafe { entry.result_and_page(result) },
        };
        found = Some(result_and_page);
        let words = [header, time_ns, entry_ns, result_and_page];
        let pushed = cpu_ring.ring().push_return(words);
        if pushed == Pushed::Crossed {
            wake::raise(session);
        }
    }
    0
}

/// Records a fault of a target, whatever there is to do for it. Apart from the plain ones, so that they do
/// not pay for the registers that it needs.
///
/// # Safety
///
/// As [`on_fault`]; `task` is the running thread.
#[inline(never)]
unsafe extern "C" fn record(
    task: *mut bindings::task_struct,
    registers: *mut bindings::pt_regs,
) -> c_int {
    // SAFETY: As in `on_fault`. Asked again, so that plain faults need not keep the answer.
    let sessions = unsafe { targets::sessions_of_a_fault((*task).tgid) } & targets::by_kprobe();
    // SAFETY: By this function's contract.
    unsafe { record_for(task, registers, sessions, ()) };
    // Not a constant for the compiler, which would not end `on_fault` by a jump to here.
    core::hint::black_box(0)
}

/// As [`record`], for [`on_entry`].
///
/// # Safety
///
/// As [`record`].
#[inline(never)]
unsafe extern "C" fn record_from_ftrace(
    task: *mut bindings::task_struct,
    registers: *mut bindings::pt_regs,
) {
    // SAFETY: As in `record`.
    unsafe {
        let sessions = targets::sessions_of_a_fault((*task).tgid) & targets::by_ftrace();
        record_for(task, registers, sessions, ());
    }
}

/// As [`record`], for [`record_and_hook_return`].
///
/// # Safety
///
/// As [`record`].
#[inline(never)]
unsafe fn record_timed(
    task: *mut bindings::task_struct,
    registers: *mut bindings::pt_regs,
    sessions: targets::Mask,
    entry: &Entry,
) {
    // SAFETY: By this function's contract.
    unsafe { record_for(task, registers, sessions, entry) };
}

/// Records a fault of a target for these sessions.
///
/// # Safety
///
/// As [`record`].
#[inline(always)]
unsafe fn record_for<T: OnWritten>(
    task: *mut bindings::task_struct,
    registers: *mut bindings::pt_regs,
    sessions: targets::Mask,
    on_written: T,
) {
    // First, so that nothing need be kept across the call.
    let monotonic_ns = clock::monotonic();
    // SAFETY: At the entry of `handle_mm_fault`: the first argument is a mapping that is locked for the
    // duration of the fault, then the address, the flags, the trapped registers or null. `vm_mm`,
    // `vm_flags` and `vm_file` do not change under that lock. Preemption is disabled, as `translation`
    // asks. `task` is running, so nobody else writes its fault counters.
    let fault = unsafe {
        let vma = &*(arch::argument::<0>(registers) as *const bindings::vm_area_struct);
        let address = arch::argument::<1>(registers) as u64;
        let vm_flags = vma.__bindgen_anon_2.vm_flags as u64;
        let mut flags = arch::argument::<2>(registers) as u64 & PASSED_ON
            | (vm_flags & VM_MAYSHARE) >> SHARED_SHIFT
            | (vm_flags & VM_HUGETLB) >> HUGETLB_SHIFT
            | u64::from(sideband::has_pages_of_a_file(vma)) << FILE_SHIFT
            | u64::from(arch::argument::<3>(registers) == 0) << GUP_SHIFT;
        if vm_flags & VM_HUGETLB == 0 {
            flags |= translation::of(vma.vm_mm, address, vm_flags);
        }
        // CAST: process and thread ids are positive.
        let header = (*task).pid as u64
            | ((*task).tgid as u64) << uapi::HEADER_TGID_SHIFT
            | uapi::header_flags(flags)
            | record_type::FAULT << uapi::HEADER_TYPE_SHIFT;
        Fault {
            header,
            monotonic_ns,
            address: address & uapi::ADDRESS_MASK
                | ((*task).min_flt as u64 & uapi::COUNTER_MASK) << uapi::MIN_FLT_SHIFT
                | ((*task).maj_flt as u64) << uapi::MAJ_FLT_SHIFT,
            ip: arch::user_ip(task) & uapi::ADDRESS_MASK,
            vma,
            task,
        }
    };
    // Nearly always one session traces a process; then the record never leaves the registers.
    let first = sessions.trailing_zeros() as usize;
    let others = sessions & sessions.wrapping_sub(1);
    if others != 0 {
        deliver_to_others(fault, others, on_written);
    }
    deliver(fault, first, others == 0, on_written);
}

/// A fault as all sessions get it: all but the number of its mapping, and the time by another clock.
#[derive(Clone, Copy)]
struct Fault {
    header: u64,
    monotonic_ns: u64,
    address: u64,
    ip: u64,
    vma: *const bindings::vm_area_struct,
    task: *const bindings::task_struct,
}

/// Writes a record to the rings of all sessions of a mask.
#[cold]
#[inline(never)]
fn deliver_to_others<T: OnWritten>(fault: Fault, sessions: targets::Mask, on_written: T) {
    let mut rest = sessions;
    while rest != 0 {
        deliver(fault, rest.trailing_zeros() as usize, false, on_written);
        rest &= rest.wrapping_sub(1);
    }
}

/// Writes a record to the ring of one session, which may be the only one.
#[inline(always)]
fn deliver<T: OnWritten>(fault: Fault, session: usize, is_only: bool, on_written: T) {
    // SAFETY: In a kprobe's handler preemption is disabled.
    let Some((rings, cpu_ring)) = (unsafe { ring_here(session) }) else {
        return;
    };
    let filter = rings.filter();
    let address = fault.address & uapi::ADDRESS_MASK;
    if filter.is_some_and(|filter| !filter.admits(fault.header, address)) {
        return cpu_ring.pass_over();
    }
    let time_ns = match rings.shape().clock {
        uapi::clock::MONOTONIC => fault.monotonic_ns,
        other => clock::other_clock(other),
    };
    let number = match cpu_ring.side() {
        // SAFETY: At the entry of `handle_mm_fault` for this mapping, by this task, on this CPU.
        Some(side) => unsafe {
            side.mapping(
                cpu_ring.ring(),
                fault.vma,
                fault.task,
                time_ns,
                is_only,
                filter,
            )
        },
        None => Some(uapi::MAPPING_UNKNOWN),
    };
    let Some(number) = number else {
        return cpu_ring.pass_over();
    };
    if filter.is_some_and(|filter| !cpu_ring.is_due(filter.every())) {
        return cpu_ring.pass_over();
    }
    if let Some(wanted) = &rings.shape().stack {
        // SAFETY: In the handler of a fault of the running thread, on the CPU that the ring belongs to.
        unsafe { stack::emit(cpu_ring.ring(), wanted, fault.task, fault.header, time_ns) };
    }
    let number = u64::from(number);
    let words = [
        fault.header | number >> 8 << uapi::HEADER_MAPPING_SHIFT,
        time_ns,
        fault.address,
        fault.ip | number << uapi::ADDRESS_BITS,
    ];
    let pushed = cpu_ring.ring().push_fault(words);
    if matches!(pushed, Pushed::Crossed | Pushed::Full) {
        wake::raise(session);
    }
    if matches!(pushed, Pushed::Crossed | Pushed::Written) {
        on_written.written(session, time_ns);
    }
    if rings.log() {
        rings.count_printed();
        print(&words);
    }
}

/// The rings of a running session and, among them, that of this CPU.
///
/// # Safety
///
/// To be called with preemption disabled, and the result used no longer than that.
#[inline(always)]
unsafe fn ring_here<'a>(session: usize) -> Option<(&'a Rings, &'a CpuRing)> {
    // SAFETY: Whoever published the rings waits for an RCU grace period before freeing them, and with
    // preemption disabled we are in a read-side section.
    let rings = unsafe { RUNNING.get(session)?.load(Ordering::Acquire).as_ref() }?;
    // SAFETY: The running CPU is a possible one.
    Some((rings, unsafe { rings.possible_cpu(arch::cpu_id()) }))
}

/// Calls a function with what each session of a mask has on this CPU for records beside the faults, and
/// with the time by its clock.
///
/// # Safety
///
/// To be called with preemption disabled.
pub(crate) unsafe fn tell(sessions: targets::Mask, tell: impl Fn(&Ring<'_>, &Side, u64)) {
    for session in targets::each(sessions) {
        // SAFETY: By this function's contract.
        if let Some((rings, cpu_ring)) = unsafe { ring_here(session) } {
            if let Some(side) = cpu_ring.side() {
                tell(cpu_ring.ring(), side, clock::now(rings.shape().clock));
            }
        }
    }
}

/// Prints a fault to the kernel log (`log=1`).
#[cold]
#[inline(never)]
fn print(words: &[u64; SLOT_WORDS]) {
    let fault = uapi::FaultRecord::from_words(*words);
    let flags = fault.flags();
    let access = if flags & fault_flag::INSTRUCTION != 0 {
        "execute"
    } else if flags & fault_flag::WRITE != 0 {
        "write"
    } else {
        "read"
    };
    let by = if flags & fault_flag::GUP != 0 {
        "get_user_pages"
    } else if flags & fault_flag::USER != 0 {
        "user"
    } else {
        "kernel"
    };
    // SAFETY: The running thread; its name is a C string within its 16 bytes at any time.
    let name = unsafe { CStr::from_char_ptr((&raw const (*arch::current_task()).comm).cast()) };
    pr_info!(
        "fault: process {} thread {} ({}) address {:#x} {} by {} ip {:#x}\n",
        fault.pid(),
        fault.tid(),
        name,
        fault.address(),
        access,
        by,
        fault.ip(),
    );
}
