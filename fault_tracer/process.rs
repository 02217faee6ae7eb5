// SPDX-License-Identifier: GPL-2.0-only

//! Processes, named by their id and held by reference.

use core::{cell::Cell, ffi::c_int, mem::offset_of, ptr::null_mut};
use kernel::{bindings, prelude::*, sync::rcu};

use super::arch;

/// A reference to a process that stays meaningful when the process has ended and its id is reused.
///
/// # Invariants
///
/// Owns a reference to a `struct pid`.
pub(crate) struct Process(*mut bindings::pid);

// SAFETY: `struct pid` is reference-counted and shared by all threads.
unsafe impl Send for Process {}

impl Process {
    /// Finds the process of a process or thread id in the caller's pid namespace.
    pub(crate) fn find(id: i32) -> Result<Self> {
        let _guard = rcu::read_lock();
        // SAFETY: Under RCU the pid and the task found stay valid; `get_task_pid` takes a reference of
        // the pid.
        let pid = unsafe {
            let pid = bindings::find_vpid(id);
            let task = bindings::pid_task(pid, bindings::pid_type_PIDTYPE_PID);
            if task.is_null() {
                return Err(ESRCH);
            }
            bindings::get_task_pid(task, bindings::pid_type_PIDTYPE_TGID)
        };
        if pid.is_null() {
            return Err(ESRCH);
        }
        // INVARIANT: `get_task_pid` gave us a reference.
        Ok(Self(pid))
    }

    /// All processes but kernel threads, in the order of their beginnings. Those made meanwhile may be
    /// missing.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn all() -> Result<KVVec<Self>> {
        let mut processes = KVVec::new();
        loop {
            let mut count = 0usize;
            let mut fit = true;
            each_leader(|leader| {
                count = count.wrapping_add(1);
                // SAFETY: A live task. Gives a reference, or null where it is being removed.
                let pid =
                    unsafe { bindings::get_task_pid(leader, bindings::pid_type_PIDTYPE_TGID) };
                // INVARIANT: The reference is ours.
                if !pid.is_null() && processes.push_within_capacity(Self(pid)).is_err() {
                    fit = false;
                }
            });
            if fit {
                return Ok(processes);
            }
            // Memory cannot be had under RCU. As much again, for those that are made until then.
            processes.clear();
            processes.reserve(count.saturating_mul(2), GFP_KERNEL)?;
        }
    }

    /// Its process id in the initial namespace; `None` when it has ended.
    pub(crate) fn live_id(&self) -> Option<i32> {
        let _guard = rcu::read_lock();
        // SAFETY: The pid is ours, and under RCU the task stays valid.
        unsafe { live_id_of(self.0) }
    }

    /// The file of the program that it executes; `None` when it has ended. May sleep.
    pub(crate) fn executable(&self) -> Option<Executable> {
        let memory = Cell::new(null_mut::<bindings::mm_struct>());
        // Its first thread may have ended, and the others go on.
        self.each_thread(|thread| {
            if memory.get().is_null() {
                // SAFETY: `each_thread` gives live tasks; the call takes a reference of its memory, if any.
                memory.set(unsafe { bindings::get_task_mm(thread.cast_mut()) });
            }
        });
        let memory = memory.get();
        if memory.is_null() {
            return None;
        }
        // SAFETY: The memory is ours until `mmput_async`, which leaves the work of the last to others; `get_file_active` copes with a file that is being
        // replaced, and takes a reference.
        let file = unsafe {
            let file = bindings::get_file_active(&raw mut (*memory).__bindgen_anon_1.exe_file);
            bindings::mmput_async(memory);
            file
        };
        // INVARIANT: The reference is ours.
        (!file.is_null()).then_some(Executable(file))
    }

    /// Calls a function with its first thread, which may have ended; `None` if the process has. The function must not sleep.
    pub(crate) fn with_leader<T>(
        &self,
        call: impl FnOnce(*const bindings::task_struct) -> T,
    ) -> Option<T> {
        let _guard = rcu::read_lock();
        // SAFETY: The pid is ours, and under RCU the task stays valid.
        unsafe {
            live_id_of(self.0)?;
            Some(call(bindings::pid_task(
                self.0,
                bindings::pid_type_PIDTYPE_TGID,
            )))
        }
    }

    /// Calls a function with its first thread if that has ended, and the process has not.
    pub(crate) fn ended_leader(&self, call: impl FnOnce(*const bindings::task_struct)) {
        let _guard = rcu::read_lock();
        // SAFETY: The pid is ours, and under RCU the task stays valid.
        unsafe {
            let leader = bindings::pid_task(self.0, bindings::pid_type_PIDTYPE_TGID);
            if !leader.is_null() && (&raw const (*leader).exit_state).read_volatile() != 0 {
                call(leader);
            }
        }
    }

    /// Calls a function with each of its threads.
    fn each_thread(&self, call: impl Fn(*const bindings::task_struct)) {
        let _guard = rcu::read_lock();
        // SAFETY: Under RCU the leader, its signal structure and the list of threads stay valid. A thread
        // that ends meanwhile stays in memory, and its link leads on.
        unsafe {
            let leader = bindings::pid_task(self.0, bindings::pid_type_PIDTYPE_TGID);
            if !leader.is_null() {
                each_thread_of(leader, &call);
            }
        }
    }

    /// Whether both are the same process.
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

/// The id of a process in the initial namespace; `None` when it has ended.
///
/// # Safety
///
/// In an RCU read-side section; `pid` is valid.
unsafe fn live_id_of(pid: *mut bindings::pid) -> Option<i32> {
    // SAFETY: Under RCU the task stays valid. `exit_state` and `nr_threads` may change at any time; see
    // `targets.rs` on the order in which they do.
    unsafe {
        let task = bindings::pid_task(pid, bindings::pid_type_PIDTYPE_TGID);
        (!task.is_null() && goes_on(task)).then(|| (*task).tgid)
    }
}

/// Whether a process has not ended. Its first thread may have, before the others.
///
/// # Safety
///
/// In an RCU read-side section; `leader` was found in it, or outlives it.
pub(crate) unsafe fn goes_on(leader: *const bindings::task_struct) -> bool {
    // SAFETY: As in `live_id_of`.
    unsafe {
        let ended = (&raw const (*leader).exit_state).read_volatile() != 0;
        let signal = (&raw const (*leader).signal).read_volatile();
        !ended || (!signal.is_null() && (&raw const (*signal).nr_threads).read_volatile() > 1)
    }
}

/// Calls a function with each thread of the process of a leader.
///
/// # Safety
///
/// In an RCU read-side section, in which `leader` was found, or which it outlives.
pub(crate) unsafe fn each_thread_of(
    leader: *const bindings::task_struct,
    call: &impl Fn(*const bindings::task_struct),
) {
    // SAFETY: Under RCU the leader, its signal structure and the list of threads stay valid. A thread that
    // ends meanwhile stays in memory, and its link leads on.
    unsafe {
        let signal = (&raw const (*leader).signal).read_volatile();
        if signal.is_null() {
            return;
        }
        let head = &raw const (*signal).thread_head;
        let mut link = (&raw const (*head).next).read_volatile().cast_const();
        while link != head && !link.is_null() {
            let offset = offset_of!(bindings::task_struct, thread_node);
            call(link.byte_sub(offset).cast());
            link = (&raw const (*link).next).read_volatile().cast_const();
        }
    }
}

/// Calls a function with the leader of each process but kernel threads: `for_each_process` of
/// `include/linux/sched/signal.h`. In an RCU read-side section; must not sleep.
fn each_leader(mut call: impl FnMut(*mut bindings::task_struct)) {
    let _guard = rcu::read_lock();
    // SAFETY: Under RCU the processes on the list stay valid. One that ends meanwhile stays in memory, and
    // its link leads on. The list begins and ends at the first task of all, which stays for ever.
    unsafe {
        let head = &raw const bindings::init_task.tasks;
        let mut link = (&raw const (*head).next).read_volatile().cast_const();
        while link != head {
            let leader = link
                .byte_sub(offset_of!(bindings::task_struct, tasks))
                .cast::<bindings::task_struct>();
            if (&raw const (*leader).flags).read_volatile() & bindings::PF_KTHREAD == 0 {
                call(leader.cast_mut());
            }
            link = (&raw const (*link).next).read_volatile().cast_const();
        }
    }
}

/// Calls a function with each thread of all processes. It must not sleep.
pub(crate) fn each_thread_of_all(call: impl Fn(*const bindings::task_struct)) {
    // SAFETY: `each_leader` gives tasks that it has found under RCU, and calls under it.
    each_leader(|leader| unsafe { each_thread_of(leader, &call) });
}

/// Whether the running thread has been sent `SIGKILL`: `fatal_signal_pending`.
pub(crate) fn is_being_killed() -> bool {
    // SAFETY: The running thread's own set of signals; others may add to it at any time.
    let pending = unsafe {
        let task = arch::current_task();
        (&raw const (*task).pending.signal.sig[0]).read_volatile()
    };
    pending >> (bindings::SIGKILL - 1) & 1 != 0
}

/// Whether the running thread sees all processes by the ids that the records have.
pub(crate) fn in_initial_namespace() -> bool {
    // SAFETY: The running thread's own namespace stays while it runs; addresses are compared alone.
    unsafe {
        core::ptr::eq(
            bindings::task_active_pid_ns(arch::current_task()),
            &raw const bindings::init_pid_ns,
        )
    }
}

/// By which id the running thread's pid namespace knows a process of this id in the initial one; 0 if it does not, or no longer.
pub(crate) fn id_seen_here(id: bindings::pid_t) -> bindings::pid_t {
    if in_initial_namespace() {
        return id;
    }
    let _guard = rcu::read_lock();
    // SAFETY: Under RCU the pid found stays valid; the running thread's own namespace stays while it runs. A pid that is
    // null has no id.
    unsafe {
        let pid = bindings::find_pid_ns(id, &raw mut bindings::init_pid_ns);
        bindings::pid_nr_ns(pid, bindings::task_active_pid_ns(arch::current_task()))
    }
}

/// Whether the running thread has a capability (`CAP_*` of capabilities(7)), in the initial user namespace.
pub(crate) fn has_capability(capability: u32) -> bool {
    // SAFETY: The call looks at the running thread's credentials alone.
    unsafe { bindings::capable(capability as c_int) }
}

/// Whether the running thread may see and end what others have begun: `CAP_SYS_ADMIN`.
pub(crate) fn administers_the_machine() -> bool {
    has_capability(bindings::CAP_SYS_ADMIN)
}

/// The running thread's real user, by its id in the initial user namespace.
pub(crate) fn own_user() -> u32 {
    // SAFETY: Nobody else changes the running thread's credentials.
    unsafe { (*(*arch::current_task()).cred).uid.val }
}

/// Whether there is no process of this id, in the initial namespace, that has not ended.
pub(crate) fn has_ended(id: bindings::pid_t) -> bool {
    let _guard = rcu::read_lock();
    // SAFETY: Under RCU the pid and the task found stay valid; see `Process::live_id`.
    unsafe {
        let pid = bindings::find_pid_ns(id, &raw mut bindings::init_pid_ns);
        pid.is_null() || live_id_of(pid).is_none()
    }
}

/// Has the kernel handle a fault of the caller's own memory, as if it had accessed it: the page of its stack,
/// or else of its code. Sleeps for so many ticks at most, while others (`khugepaged`, threads of the caller) hold
/// the lock of its mappings.
///
/// # Errors
///
/// `EFAULT` where neither can be read, as for a kernel thread and for one that has given up its memory; `EAGAIN`
/// where that lock was not to be had.
pub(crate) fn fault_once(patience: u32) -> Result {
    let task = arch::current_task();
    // SAFETY: The running thread's memory stays while it runs, and its registers lie on its stack. The lock is
    // what `fixup_user_fault` asks for; without a place for `unlocked` it holds it all the time. It is not
    // waited for without end, since others may wait for the caller.
    unsafe {
        let memory = (*task).mm;
        if memory.is_null() {
            return Err(EFAULT);
        }
        for tick in 0..=patience {
            if bindings::mmap_read_trylock(memory) {
                let faulted = [arch::user_sp(task), arch::user_ip(task)]
                    .iter()
                    .any(|&address| {
                        bindings::fixup_user_fault(memory, address as usize, 0, null_mut()) == 0
                    });
                bindings::mmap_read_unlock(memory);
                return if faulted { Ok(()) } else { Err(EFAULT) };
            }
            if tick < patience {
                bindings::schedule_timeout_uninterruptible(1);
            }
        }
    }
    Err(EAGAIN)
}

impl Drop for Process {
    fn drop(&mut self) {
        // SAFETY: By the type invariant the reference is ours.
        unsafe { bindings::put_pid(self.0) };
    }
}

/// An open file that a process executes.
///
/// # Invariants
///
/// Owns a reference to a `struct file`.
pub(crate) struct Executable(*mut bindings::file);

impl Executable {
    /// It, open as long as `self` lives.
    pub(crate) fn as_ptr(&self) -> *const bindings::file {
        self.0
    }
}

impl Drop for Executable {
    fn drop(&mut self) {
        // SAFETY: By the type invariant the reference is ours.
        unsafe { bindings::fput(self.0) };
    }
}
