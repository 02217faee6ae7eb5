// SPDX-License-Identifier: GPL-2.0-only

//! The life of tasks: children inherit their parent's sessions, and sessions with a side-band get records
//! of beginnings, executed programs, new names and ends.

use core::{
    cell::Cell,
    ffi::{c_char, c_int, c_void, CStr},
};
use kernel::{bindings, prelude::*, str::CStrExt};

use super::{
    arch,
    probe::{Kprobe, RawKprobe, Tracepoint},
    process, recorder, rights,
    rules::{self, Facts},
    sideband::{self, TaskRecord},
    targets,
    uapi::task_event,
    wake,
};

/// Keeps this thread on its CPU and others off it: a ring has one producer. No lock, since hooks may run where an
/// interrupt handler's are held.
struct OnThisCpu(());

impl OnThisCpu {
    fn stay() -> Self {
        arch::preempt_disable();
        Self(())
    }
}

impl Drop for OnThisCpu {
    fn drop(&mut self) {
        // SAFETY: `stay` has disabled it, and each value is dropped once.
        unsafe { arch::preempt_enable() };
    }
}

/// The hooks: attached while any session runs.
pub(crate) struct Hooks {
    _fork: Tracepoint,
    _exec: Tracepoint,
    _rename: Tracepoint,
    _begin_of_exit: Tracepoint,
    _exit: Kprobe,
}

impl Hooks {
    /// Attaches them.
    ///
    /// # Errors
    ///
    /// `ENOENT` where this kernel lacks what a hook attaches to.
    pub(crate) fn new() -> Result<Self> {
        // SAFETY: The functions have the arguments of these tracepoints (`include/trace/events/sched.h`
        // and `task.h`).
        let (fork, exec, rename, begin_of_exit) = unsafe {
            (
                Tracepoint::attach(c"sched_process_fork", on_fork as *mut c_void)?,
                Tracepoint::attach(c"sched_process_exec", on_exec as *mut c_void)?,
                Tracepoint::attach(c"task_rename", on_rename as *mut c_void)?,
                Tracepoint::attach(c"sched_process_exit", on_begin_of_exit as *mut c_void)?,
            )
        };
        Ok(Self {
            _fork: fork,
            _exec: exec,
            _rename: rename,
            _begin_of_exit: begin_of_exit,
            // Of what `do_exit` calls, the last for every thread before it may be reaped: all memory is
            // given up (`exit_mm`), so no fault can follow.
            _exit: Kprobe::at_entry(c"cgroup_task_exit", on_exit)?,
        })
    }
}

/// Tells sessions of a task, if they want to know.
///
/// # Safety
///
/// `task` is a live task; `executable` is null, or a file that stays open during the call.
unsafe fn tell(
    sessions: impl Fn() -> targets::Mask,
    task: *const bindings::task_struct,
    event: u32,
    comm: [u8; 16],
    from_id: u32,
    executable: *const bindings::file,
) {
    if sessions() == 0 {
        return;
    }
    // Asked again, for whom it is: until the end of this no other session takes the number of one that ends, which waits
    // for an RCU grace period.
    let _here = OnThisCpu::stay();
    let sessions = sessions();
    // Before the time is taken: whatever these do not count of another thread's faults comes behind this
    // record, or was under way.
    // SAFETY: By the contract. Another thread's counters may be changing, and are read as they stand.
    let counters = unsafe {
        (
            (&raw const (*task).min_flt).read_volatile() as u64,
            (&raw const (*task).maj_flt).read_volatile() as u64,
        )
    };
    // SAFETY: Preemption is disabled; the task and the file are as this function's contract says.
    unsafe {
        recorder::tell(sessions, |ring, side, time_ns| {
            side.emit_task(
                ring,
                &TaskRecord {
                    task,
                    event,
                    time_ns,
                    counters,
                    comm,
                    from_id,
                    executable,
                },
            );
        })
    };
}

/// The name of a task.
///
/// # Safety
///
/// `task` is a live task.
unsafe fn comm_of(task: *const bindings::task_struct) -> [u8; 16] {
    // SAFETY: By the contract. The name may change meanwhile; any bytes are bytes.
    unsafe { (&raw const (*task).comm).cast::<[u8; 16]>().read_volatile() }
}

/// Whether a thread has given up its memory, and so has taken its last fault.
///
/// # Safety
///
/// `task` is a live task.
unsafe fn has_ended(task: *const bindings::task_struct) -> bool {
    // SAFETY: By the contract.
    unsafe { (&raw const (*task).mm).read_volatile().is_null() }
}

/// Tells a session of a thread that was there when its process became a target, unless it has ended: false
/// then. One that has given up its memory, but whose end was perhaps not emitted yet, is emitted.
///
/// # Safety
///
/// `task` is a live task; `executable` is null, or a file that stays open during the call.
pub(crate) unsafe fn emit_present(
    session: usize,
    task: *const bindings::task_struct,
    executable: *const bindings::file,
) -> bool {
    // SAFETY: By this function's contract.
    unsafe {
        if (&raw const (*task).exit_state).read_volatile() != 0 {
            return false;
        }
        tell(
            || 1 << session,
            task,
            task_event::PRESENT,
            comm_of(task),
            (*task).pid as u32,
            executable,
        )
    };
    true
}

/// Tells a session of the first thread of a process, which had ended before the process, whose other threads go
/// on, became a target: what it is called, and that it takes no more faults.
///
/// # Safety
///
/// As [`emit_present`]; the thread has an `exit_state`.
pub(crate) unsafe fn emit_ended_leader(
    session: usize,
    task: *const bindings::task_struct,
    executable: *const bindings::file,
) {
    // SAFETY: By this function's contract. Nobody writes the counters of a thread that has ended.
    unsafe {
        tell(
            || 1 << session,
            task,
            task_event::PRESENT,
            comm_of(task),
            (*task).pid as u32,
            executable,
        );
        let _here = OnThisCpu::stay();
        recorder::tell(1 << session, |ring, _side, time_ns| {
            sideband::emit_exit(ring, task, time_ns)
        });
    }
}

/// Tells a session that a thread is there still, if it is one of a target and has not ended.
///
/// # Safety
///
/// `task` is a live task.
pub(crate) unsafe fn emit_alive(session: usize, task: *const bindings::task_struct) {
    // SAFETY: By this function's contract.
    unsafe { emit_going_on(session, task, task_event::ALIVE) };
}

/// Tells a session that a thread of one of its targets goes on without being one.
///
/// # Safety
///
/// `task` is a live task.
unsafe fn emit_left(session: usize, task: *const bindings::task_struct) {
    // SAFETY: By this function's contract.
    unsafe { emit_going_on(session, task, task_event::LEFT) };
}

/// Tells a session of an event of a thread, if it is one of a target and has not ended.
///
/// # Safety
///
/// `task` is a live task.
unsafe fn emit_going_on(session: usize, task: *const bindings::task_struct, event: u32) {
    // SAFETY: By this function's contract.
    unsafe {
        if has_ended(task) {
            return;
        }
        tell(
            || sessions_of((*task).tgid) & 1 << session,
            task,
            event,
            comm_of(task),
            (*task).pid as u32,
            core::ptr::null(),
        )
    };
}

/// Tracepoint `sched_process_fork`: `parent`, which is running and which the kernel calls so even where
/// `CLONE_PARENT` makes it a sibling, has made `child`, a process or a thread, which does not run yet.
///
/// # Safety
///
/// Called by the tracepoint alone, with two live tasks.
unsafe extern "C" fn on_fork(
    _data: *mut c_void,
    parent: *mut bindings::task_struct,
    child: *mut bindings::task_struct,
) {
    // SAFETY: Both tasks are alive during the call, and their ids constant.
    unsafe {
        if (*parent).tgid != (*child).tgid && (*child).flags & bindings::PF_KTHREAD == 0 {
            let facts = Facts::of(child, executable_of(child));
            targets::inherit((*parent).tgid, (*child).tgid, &facts);
        }
        tell(
            || sessions_of((*child).tgid),
            child,
            task_event::FORK,
            comm_of(child),
            (*parent).tgid as u32,
            core::ptr::null(),
        );
    }
}

/// Tracepoint `sched_process_exec`: `task`, which is running and had the thread id `old_tid`, has executed
/// a program.
///
/// # Safety
///
/// Called by the tracepoint alone.
unsafe extern "C" fn on_exec(
    _data: *mut c_void,
    task: *mut bindings::task_struct,
    old_tid: bindings::pid_t,
    _program: *mut c_void,
) {
    // SAFETY: The task is running, and its new memory is its own: nobody else changes its executable.
    unsafe {
        let executable = executable_of(task);
        reconsider(&Facts::of((*task).group_leader, executable));
        // Who has waited for this was there when the session began.
        let executed = targets::executed((*task).tgid);
        leave_foreign(task);
        tell(
            || executed & sessions_of((*task).tgid),
            task,
            task_event::PRESENT,
            comm_of(task),
            (*task).pid as u32,
            executable,
        );
        tell(
            || sessions_of((*task).tgid),
            task,
            task_event::EXEC,
            comm_of(task),
            old_tid as u32,
            executable,
        );
    }
}

/// Tracepoint `sched_process_exit`: `task`, which is running, has begun to end; it may take some more faults.
///
/// # Safety
///
/// Called by the tracepoint alone.
unsafe extern "C" fn on_begin_of_exit(
    _data: *mut c_void,
    task: *mut bindings::task_struct,
    is_last: bool,
) {
    if is_last {
        // SAFETY: The task is running, and its ids constant.
        targets::begins_to_end(unsafe { (*task).tgid });
    }
}

/// Tracepoint `task_rename`: `task` will be called `comm`.
///
/// # Safety
///
/// Called by the tracepoint alone, with a live task and a C string.
unsafe extern "C" fn on_rename(
    _data: *mut c_void,
    task: *mut bindings::task_struct,
    comm: *const c_char,
) {
    let mut name = [0; 16];
    // SAFETY: By the contract.
    let new = unsafe { CStr::from_char_ptr(comm.cast()) }.to_bytes();
    // The last byte stays zero, as the kernel cuts it too.
    for (to, from) in name.iter_mut().take(15).zip(new) {
        *to = *from;
    }
    // SAFETY: By the contract. Whoever changes the name of a process that has a user mode is one of its own threads.
    unsafe {
        let own = arch::current_task();
        if (*task).group_leader == task && (*own).tgid == (*task).tgid {
            reconsider(&Facts {
                name: Some(name),
                ..Facts::of(task, executable_of(own))
            });
        }
        tell(
            || sessions_of((*task).tgid),
            task,
            task_event::RENAME,
            name,
            (*task).pid as u32,
            core::ptr::null(),
        )
    };
}

/// The file that a task executes, or null.
///
/// # Safety
///
/// `task` is running, or does not run yet.
unsafe fn executable_of(task: *const bindings::task_struct) -> *const bindings::file {
    // SAFETY: By the contract its memory stays. Other threads may have it execute another file (`PR_SET_MM_EXE_FILE`): the
    // pointer is read once, and files stay files, see `rules.rs`.
    unsafe {
        let memory = (*task).mm;
        if memory.is_null() {
            return core::ptr::null();
        }
        (&raw const (*memory).__bindgen_anon_1.exe_file)
            .read_volatile()
            .cast_const()
    }
}

/// The hooks by which processes become targets, or are no more, as rules say; beside those of [`Hooks`].
pub(crate) struct RuleHooks {
    _credentials: Kprobe,
    cgroup: Option<Tracepoint>,
}

impl RuleHooks {
    /// Attaches them.
    ///
    /// # Errors
    ///
    /// `ENOENT` where this kernel lacks what a hook attaches to.
    pub(crate) fn new() -> Result<Self> {
        Ok(Self {
            _credentials: Kprobe::at_entry(c"commit_creds", on_credentials)?,
            // SAFETY: The function has the arguments of this tracepoint (`include/trace/events/cgroup.h`).
            cgroup: unsafe {
                Tracepoint::attach(c"cgroup_attach_task", on_attach as *mut c_void).ok()
            },
        })
    }

    /// Whether they hear that a process is moved to another control group.
    pub(crate) fn hear_of_cgroups(&self) -> bool {
        self.cgroup.is_some()
    }
}

/// Ends the tracing of a process by those sessions whose user may not trace it any more.
///
/// # Safety
///
/// `task` is running, and executes a program.
unsafe fn leave_foreign(task: *const bindings::task_struct) {
    // A session that ends waits for this before it forgets its targets.
    let _guard = kernel::sync::rcu::read_lock();
    // SAFETY: By the contract; by its exec it is the only thread of its process.
    unsafe {
        let pid = (*task).tgid;
        for session in targets::each(rights::foreign_to(targets::sessions_of(pid), task)) {
            emit_left(session, task);
            targets::remove(session, pid);
            // It may have been the last.
            wake::raise(session);
        }
    }
}

/// The hook by which processes leave sessions whose user may not trace them any more, before their new memory is touched.
pub(crate) struct RightsHook {
    _committed: Kprobe,
}

impl RightsHook {
    /// Attaches it.
    ///
    /// # Errors
    ///
    /// `ENOENT` where this kernel lacks what it attaches to.
    pub(crate) fn new() -> Result<Self> {
        // The kernel takes perf's events away just before (`begin_new_exec` of `fs/exec.c`).
        Ok(Self {
            _committed: Kprobe::at_entry(c"security_bprm_committed_creds", on_committed)?,
        })
    }
}

/// Kprobe on `security_bprm_committed_creds`: the running thread executes a program, and has its credentials.
///
/// # Safety
///
/// Called by that kprobe alone.
unsafe extern "C" fn on_committed(
    _probe: *mut RawKprobe,
    _registers: *mut bindings::pt_regs,
) -> c_int {
    // SAFETY: By this function's contract.
    unsafe { leave_foreign(arch::current_task()) };
    0
}

/// Looks at the rules again, until nothing changes or this often: whoever changes a process at the same moment looks, too.
const TRIES: u32 = 8;

/// Makes a process a target of those sessions whose rules hold for it now, and no more of those whose do not.
///
/// # Safety
///
/// `of.leader` is the first thread of a process, and alive during the call; as [`Facts`] says.
unsafe fn reconsider(of: &Facts) {
    if rules::sessions() == 0 {
        return;
    }
    // A session that ends waits for this before it forgets its targets.
    let _guard = kernel::sync::rcu::read_lock();
    for session in targets::each(rules::sessions()) {
        for _ in 0..TRIES {
            // SAFETY: By this function's contract.
            unsafe {
                let Some(wanted) = rules::want(session, of) else {
                    break;
                };
                let pid = (*of.leader).tgid;
                let is = targets::sessions_of(pid) & (1 << session) != 0;
                if wanted == is {
                    break;
                }
                if wanted {
                    enter(session, of);
                } else {
                    process::each_thread_of(of.leader, &|thread| emit_left(session, thread));
                    targets::remove(session, pid);
                }
            }
        }
    }
}

/// Makes a process a target of a session.
///
/// # Safety
///
/// As [`reconsider`], in an RCU read-side section.
unsafe fn enter(session: usize, of: &Facts) {
    // SAFETY: By the contract.
    unsafe {
        let leader = of.leader;
        let pid = (*leader).tgid;
        let leader_has_ended = (&raw const (*leader).exit_state).read_volatile() != 0;
        if !targets::add(session, pid) {
            return;
        }
        // It may have ended before it was in the table, so that the hook did not find it there.
        if !process::goes_on(leader) {
            targets::remove(session, pid);
            return;
        }
        if leader_has_ended {
            emit_ended_leader(session, leader, of.executable);
        }
        emit_threads(session, leader, of.executable);
    }
}

/// Tells a session of all threads of a process that has become a target.
///
/// # Safety
///
/// In an RCU read-side section, in which `leader` was found, or which it outlives; `executable` is null, or a file that
/// stays open during the call.
pub(crate) unsafe fn emit_threads(
    session: usize,
    leader: *const bindings::task_struct,
    executable: *const bindings::file,
) {
    let count = Cell::new(0u32);
    // SAFETY: By the contract; `each_thread_of` gives live tasks.
    unsafe {
        process::each_thread_of(leader, &|thread| {
            emit_present(session, thread, executable);
            count.set(count.get().saturating_add(1));
        });
        if count.get() > 1 {
            // Some may have ended before they were emitted. Of one that is there still is emitted again: who has no
            // `PRESENT` has ended before that.
            let emitted = Cell::new(false);
            process::each_thread_of(leader, &|thread| {
                if !emitted.get() {
                    emitted.set(emit_present(session, thread, executable));
                }
            });
        }
    }
}

/// Kprobe on `commit_creds(struct cred *new)`: the running thread gets other credentials.
///
/// # Safety
///
/// Called by that kprobe alone.
unsafe extern "C" fn on_credentials(
    _probe: *mut RawKprobe,
    registers: *mut bindings::pt_regs,
) -> c_int {
    // SAFETY: At the function's entry the first argument is `new`. The running thread's own credentials stay until then.
    unsafe {
        let task = arch::current_task();
        let new = arch::argument::<0>(registers) as *const bindings::cred;
        let old = (*task).real_cred;
        if (*task).group_leader == task && (*new).euid.val != (*old).euid.val {
            reconsider(&Facts {
                credentials: Some(new),
                ..Facts::of(task, executable_of(task))
            });
        }
    }
    0
}

/// Tracepoint `cgroup_attach_task`: `task`, or all threads of its process, are in another control group now.
///
/// # Safety
///
/// Called by the tracepoint alone, with a live task.
unsafe extern "C" fn on_attach(
    _data: *mut c_void,
    _group: *mut c_void,
    _path: *const c_char,
    task: *mut bindings::task_struct,
    _all_threads: bool,
) {
    // SAFETY: By the contract.
    unsafe {
        if (*task).group_leader == task {
            // Its memory may be going, so that its program cannot be asked for; and the caller holds a lock within which no
            // other may be taken, as a path would need.
            reconsider(&Facts::of(task, core::ptr::null()));
        }
    }
}

/// The sessions that trace a process, when asked from a tracepoint.
fn sessions_of(pid: bindings::pid_t) -> targets::Mask {
    let _guard = kernel::sync::rcu::read_lock();
    targets::sessions_of(pid)
}

/// Kprobe on `cgroup_task_exit(struct task_struct *tsk)`, where `tsk` is the running thread.
///
/// # Safety
///
/// Called by that kprobe alone.
unsafe extern "C" fn on_exit(_probe: *mut RawKprobe, registers: *mut bindings::pt_regs) -> c_int {
    // SAFETY: At the function's entry the first argument is `tsk`. In a kprobe's handler preemption is disabled.
    unsafe {
        let task = arch::argument::<0>(registers) as *const bindings::task_struct;
        let sessions = targets::sessions_of((*task).tgid);
        if sessions != 0 {
            recorder::tell(sessions, |ring, _side, time_ns| {
                sideband::emit_exit(ring, task, time_ns)
            });
        }
    }
    0
}
