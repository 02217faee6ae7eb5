// SPDX-License-Identifier: GPL-2.0-only

//! Who may trace what: as perf has it.
//!
//! Whoever has `CAP_PERFMON` or `CAP_SYS_ADMIN` may trace all. Others may trace processes of their own that ptrace would let them
//! look at, where `kernel.perf_event_paranoid` is 1 or less: perf then lets them see what the kernel does for their programs, as a
//! record does. A session that such a user has started holds no process of others: one that executes a program with rights of its
//! own (set-uid) or one that may not be read leaves it.

use core::{
    ffi::c_int,
    mem::offset_of,
    sync::atomic::{AtomicU16, AtomicU64, Ordering},
};
use kernel::{bindings, error::from_err_ptr, prelude::*, str::CString};

use super::{
    layout::{structure, Structure},
    process::{self, Process},
    targets::Mask,
    uapi,
};

extern "C" {
    fn perf_allow_kernel() -> c_int;
}

/// Whether the running thread may trace processes of others.
pub(crate) fn may_trace_all() -> bool {
    process::has_capability(bindings::CAP_PERFMON) || process::administers_the_machine()
}

/// Whether it may trace processes of its own, or all.
pub(crate) fn may_trace_own() -> bool {
    // SAFETY: The call looks at a sysctl and at the running thread's capabilities, and asks the security modules.
    may_trace_all() || unsafe { perf_allow_kernel() } == 0
}

/// Whether the kernel keeps from everybody, root included, what perf could tell (kernel_lockdown(7), confidentiality).
pub(crate) fn is_locked_down() -> bool {
    // SAFETY: The call asks the security modules.
    unsafe { bindings::security_locked_down(bindings::lockdown_reason_LOCKDOWN_PERF) != 0 }
}

/// `PROC_SUPER_MAGIC` of `include/uapi/linux/magic.h`.
const PROC_SUPER_MAGIC: usize = 0x9fa0;

/// The beginning of `struct proc_fs_info` (`include/linux/proc_fs.h`).
#[repr(C)]
struct RawProcInfo {
    pid_ns: *const bindings::pid_namespace,
}

/// The beginning of `struct task_exec_state` (`include/linux/sched/exec_state.h`).
#[repr(C)]
struct RawExecState {
    count: c_int,
    dumpable: c_int,
}

const _: () = {
    assert!(offset_of!(RawProcInfo, pid_ns) == 0);
    assert!(offset_of!(RawExecState, dumpable) == 4);
};

/// What is to be compared with the kernel that loads the module.
pub(crate) const LAYOUT: &[Structure] = &[
    structure!(c"proc_fs_info", RawProcInfo: pid_ns),
    structure!(c"task_exec_state", RawExecState: dumpable),
];

/// `TASK_DUMPABLE_OWNER`: who has the same ids may look at it.
const DUMPABLE_OWNER: c_int = 1;

/// Whether ptrace's rules, those of security modules among them, let the running thread look at a process. May sleep.
///
/// The kernel exports no function that says so. But it asks exactly this (`ptrace_may_access`, for reading) when
/// `/proc/PID/maps` is opened: so that is done here, on the caller's behalf.
///
/// # Errors
///
/// `ESRCH` if it has ended, `ENOMEM`.
pub(crate) fn may_look_at(process: &Process) -> Result<bool> {
    // Where the caller can mount what it likes, the file may be another's.
    // SAFETY: The running thread's own credentials stay; addresses are compared alone.
    let at_home = unsafe {
        let own = (*super::arch::current_task()).cred;
        core::ptr::eq((*own).user_ns, &raw const bindings::init_user_ns)
    };
    let id = process::id_seen_here(process.live_id().ok_or(ESRCH)?);
    if !at_home || id == 0 {
        return Ok(false);
    }
    let path = CString::try_from_fmt(fmt!("/proc/{id}/maps"))?;
    // SAFETY: The path is a C string. Gives a reference to an open file, or an error.
    let file = from_err_ptr(unsafe {
        bindings::filp_open(path.as_ptr().cast(), bindings::O_RDONLY as c_int, 0)
    });
    let file = match file {
        Ok(file) => file,
        Err(error) if error == ENOMEM => return Err(error),
        Err(_) => return Ok(false),
    };
    // SAFETY: The file is open until `fput`; a superblock's type and, of procfs, what it refers to stay.
    let is_of_proc = unsafe {
        let superblock = (*(*file).f_inode).i_sb;
        let is_proc = (*superblock).s_magic as usize == PROC_SUPER_MAGIC && {
            let info = (*superblock).s_fs_info.cast::<RawProcInfo>();
            let own = bindings::task_active_pid_ns(super::arch::current_task());
            core::ptr::eq((*info).pid_ns, own)
        };
        bindings::fput(file);
        is_proc
    };
    // Its id was not another's meanwhile.
    process.live_id().ok_or(ESRCH)?;
    Ok(is_of_proc)
}

/// A user who may trace processes of his own alone: his ids, in the initial user namespace.
#[derive(Clone, Copy)]
pub(crate) struct User {
    uid: u32,
    gid: u32,
}

impl User {
    /// The running thread's, if it is such a one.
    pub(crate) fn current() -> Option<Self> {
        if may_trace_all() {
            return None;
        }
        // SAFETY: Nobody else changes the running thread's credentials.
        unsafe {
            let own = (*super::arch::current_task()).cred;
            Some(Self {
                uid: (*own).uid.val,
                gid: (*own).gid.val,
            })
        }
    }
}

/// Sessions of such users, and whose.
static OWN: AtomicU16 = AtomicU16::new(0);
static USERS: [AtomicU64; uapi::MAX_SESSIONS] = [const { AtomicU64::new(0) }; uapi::MAX_SESSIONS];

/// A session begins, of a user who may trace his own processes alone, if one is given.
pub(crate) fn begin(session: usize, user: Option<User>) {
    if let Some(User { uid, gid }) = user {
        USERS[session].store(u64::from(uid) << 32 | u64::from(gid), Ordering::Relaxed);
        OWN.fetch_or(1 << session, Ordering::Release);
    }
}

/// Whether a running session is one of such a user.
pub(crate) fn is_own(session: usize) -> bool {
    OWN.load(Ordering::Relaxed) & 1 << session != 0
}

/// It has ended.
pub(crate) fn end(session: usize) {
    OWN.fetch_and(!(1 << session), Ordering::Relaxed);
}

/// Of these sessions, those that may not trace a task as it is now: it has other ids than their user, or nobody but root may look
/// at it, as after executing a program that is set-uid or may not be read.
///
/// # Safety
///
/// In an RCU read-side section, in which `task` was found, or which it outlives.
pub(crate) unsafe fn foreign_to(sessions: Mask, task: *const bindings::task_struct) -> Mask {
    let own = OWN.load(Ordering::Acquire) & sessions;
    if own == 0 {
        return 0;
    }
    // SAFETY: By the contract; credentials and what was executed are replaced as a whole, and freed behind a grace period.
    let (uids, gids, dumpable) = unsafe {
        let cred = (&raw const (*task).real_cred).read_volatile();
        let state = (&raw const (*task).exec_state).read_volatile();
        let state = state.cast::<RawExecState>();
        (
            [(*cred).uid.val, (*cred).euid.val, (*cred).suid.val],
            [(*cred).gid.val, (*cred).egid.val, (*cred).sgid.val],
            !state.is_null() && (&raw const (*state).dumpable).read_volatile() == DUMPABLE_OWNER,
        )
    };
    let mut foreign = 0;
    for session in super::targets::each(own) {
        let ids = USERS[session].load(Ordering::Relaxed);
        let (uid, gid) = ((ids >> 32) as u32, ids as u32);
        if !dumpable || uids != [uid; 3] || gids != [gid; 3] {
            foreign |= 1 << session;
        }
    }
    foreign
}
