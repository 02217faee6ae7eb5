// SPDX-License-Identifier: GPL-2.0-only

//! Rules: which processes a session traces by what they are, instead of by their ids.
//!
//! A session's rules do not change while it runs. Whether they hold for a process is asked when the session starts, and
//! whenever one of the things that they compare may have changed (`tasks.rs`); what comes of it is a bit in the table of
//! `targets.rs`, so that a fault costs what it costs without rules.

use core::{
    ptr::null_mut,
    sync::atomic::{AtomicPtr, AtomicU16, Ordering},
};
use kernel::{bindings, prelude::*, sync::rcu};

use super::{
    arch,
    process::Process,
    targets::Mask,
    uapi::{self, rule_flag, rule_kind},
};

/// One rule.
#[derive(Clone, Copy)]
pub(crate) struct Rule {
    what: What,
    except: bool,
}

/// What a rule compares.
#[derive(Clone, Copy)]
enum What {
    /// The process id in the initial namespace.
    Process(bindings::pid_t),
    /// The effective user id in the initial namespace.
    User(u32),
    /// The number of a control group of the unified hierarchy, which may be above that of the process.
    Cgroup(u64),
    /// The file that is executed.
    Executable(FileId),
    /// The name.
    Name([u8; 16]),
}

/// Which file it is: a number of its file system, and in there.
#[derive(Clone, Copy, PartialEq, Eq)]
struct FileId {
    device: bindings::dev_t,
    inode: u64,
    generation: u32,
}

impl FileId {
    /// That of an open file.
    ///
    /// # Safety
    ///
    /// `file` is an open file; or was one when the RCU read-side section began that the caller is in.
    unsafe fn of(file: *const bindings::file) -> Option<Self> {
        // SAFETY: The memory of files is used for files again and for nothing else, and inodes and file systems are freed
        // after an RCU grace period. Each link is read once.
        unsafe {
            let inode = (&raw const (*file).f_inode).read_volatile();
            if inode.is_null() {
                return None;
            }
            let device = (*(&raw const (*inode).i_sb).read_volatile()).s_dev;
            Some(Self {
                device,
                inode: (*inode).i_ino,
                generation: (*inode).i_generation,
            })
        }
    }
}

impl Rule {
    /// The rule that a caller asks for.
    ///
    /// # Errors
    ///
    /// `EINVAL` if it makes no sense, `ESRCH` if there is no such process, `EBADF` if there is no such file.
    pub(crate) fn new(rule: &uapi::Rule) -> Result<Self> {
        let named = rule.kind == rule_kind::NAME;
        let last = rule.name.last().copied();
        if rule.flags & !rule_flag::EXCEPT != 0
            || (named && (rule.value != 0 || rule.name.first() == Some(&0) || last != Some(0)))
            || (!named && rule.name != [0; 16])
        {
            return Err(EINVAL);
        }
        let what = match rule.kind {
            rule_kind::PROCESS => {
                let id = i32::try_from(rule.value).map_err(|_| EINVAL)?;
                What::Process(Process::find(id)?.live_id().ok_or(ESRCH)?)
            }
            rule_kind::USER => {
                let id = u32::try_from(rule.value).map_err(|_| EINVAL)?;
                // SAFETY: The running thread's own credentials stay while it runs.
                let user = unsafe {
                    let own = (*arch::current_task()).cred;
                    bindings::make_kuid((*own).user_ns, id)
                };
                // `INVALID_UID`: the namespace has no such user.
                if user.val == u32::MAX {
                    return Err(EINVAL);
                }
                What::User(user.val)
            }
            rule_kind::CGROUP if rule.value != 0 => What::Cgroup(rule.value),
            rule_kind::EXECUTABLE => {
                let descriptor = u32::try_from(rule.value).map_err(|_| EBADF)?;
                // SAFETY: The call looks the descriptor up, and gives a reference or null.
                let file = unsafe { bindings::fget(descriptor) };
                if file.is_null() {
                    return Err(EBADF);
                }
                // SAFETY: The reference is ours until `fput`.
                let id = unsafe {
                    let id = FileId::of(file);
                    bindings::fput(file);
                    id
                };
                What::Executable(id.ok_or(EINVAL)?)
            }
            rule_kind::NAME => What::Name(up_to_its_end(rule.name)),
            _ => return Err(EINVAL),
        };
        Ok(Self {
            what,
            except: rule.flags & rule_flag::EXCEPT != 0,
        })
    }
}

/// A name with zeros behind its end, where anything may stand.
fn up_to_its_end(mut name: [u8; 16]) -> [u8; 16] {
    let end = name.iter().position(|&byte| byte == 0).unwrap_or(15);
    name.iter_mut().skip(end).for_each(|byte| *byte = 0);
    name
}

/// The rules of a session.
pub(crate) struct Rules {
    list: KVVec<Rule>,
    all: bool,
    /// The process that starts the session is no target.
    owner: bindings::pid_t,
}

impl Rules {
    /// Those that were added to a session, which traces `all` processes but for exceptions, or those that they name.
    /// The caller is no target.
    pub(crate) fn new(list: KVVec<Rule>, all: bool) -> Self {
        // SAFETY: The running thread's ids are constant.
        let owner = unsafe { (*arch::current_task()).tgid };
        Self { list, all, owner }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.list.len()
    }

    /// Whether any of them is about control groups.
    pub(crate) fn ask_for_cgroups(&self) -> bool {
        let is = |rule: &Rule| matches!(rule.what, What::Cgroup(_));
        self.list.iter().any(is)
    }

    /// What is wrong with them, if anything.
    pub(crate) fn check(&self) -> Result<(), &'static str> {
        let executables = |rule: &Rule| matches!(rule.what, What::Executable(_));
        if self.ask_for_cgroups() && self.list.iter().any(executables) {
            // When a process is moved, what it executes cannot be asked for: its memory may be going.
            return Err("rules are about control groups or about programs, not both");
        }
        if !self.all && self.list.iter().all(|rule| rule.except) {
            return Err("nothing is to be traced: there are exceptions alone");
        }
        Ok(())
    }

    /// Whether a process is a target.
    ///
    /// # Safety
    ///
    /// In an RCU read-side section, in which `of.leader` was found or which it outlives; the rest as its fields say.
    unsafe fn want(&self, of: &Facts) -> bool {
        // SAFETY: By the contract.
        let (pid, flags) = unsafe { ((*of.leader).tgid, (*of.leader).flags) };
        if pid == self.owner || flags & bindings::PF_KTHREAD != 0 {
            return false;
        }
        // SAFETY: By the contract.
        let holds = |rule: &Rule| unsafe { of.has(&rule.what) };
        let (excepted, named) = (
            |rule: &Rule| rule.except && holds(rule),
            |rule: &Rule| !rule.except && holds(rule),
        );
        !self.list.iter().any(excepted) && (self.all || self.list.iter().any(named))
    }
}

/// What a process is, or is about to be.
pub(crate) struct Facts {
    /// Its first thread.
    pub(crate) leader: *const bindings::task_struct,
    /// The name that it will have in a moment.
    pub(crate) name: Option<[u8; 16]>,
    /// The credentials that it will have in a moment.
    pub(crate) credentials: Option<*const bindings::cred>,
    /// The file that it executes, or null where that is not known: an open file, or one that was open when the RCU
    /// read-side section began.
    pub(crate) executable: *const bindings::file,
}

/// Control groups above one that are looked at. `cgroup.max.depth` is seldom above 10.
const DEPTH: usize = 64;

impl Facts {
    /// What a process is now.
    pub(crate) fn of(
        leader: *const bindings::task_struct,
        executable: *const bindings::file,
    ) -> Self {
        Self {
            leader,
            name: None,
            credentials: None,
            executable,
        }
    }

    /// # Safety
    ///
    /// As [`Rules::want`].
    unsafe fn has(&self, what: &What) -> bool {
        let leader = self.leader;
        // SAFETY: The task is alive by the contract; its credentials, its set of control groups and those above are freed
        // after an RCU grace period. What may change is read once. A torn name is followed by another look, since whoever
        // changes it has this asked again.
        unsafe {
            match *what {
                What::Process(pid) => (*leader).tgid == pid,
                What::User(user) => {
                    let current = || (&raw const (*leader).real_cred).read_volatile();
                    let credentials = self.credentials.unwrap_or_else(current);
                    !credentials.is_null() && (*credentials).euid.val == user
                }
                What::Cgroup(number) => is_below(leader, number),
                What::Executable(id) => {
                    !self.executable.is_null() && FileId::of(self.executable) == Some(id)
                }
                What::Name(name) => {
                    let now = || {
                        (&raw const (*leader).comm)
                            .cast::<[u8; 16]>()
                            .read_volatile()
                    };
                    up_to_its_end(self.name.unwrap_or_else(now)) == name
                }
            }
        }
    }
}

/// Whether a task is in a control group of the unified hierarchy, or in one below it.
///
/// # Safety
///
/// In an RCU read-side section; the task is alive.
unsafe fn is_below(task: *const bindings::task_struct, number: u64) -> bool {
    // SAFETY: By the contract, as in `Facts::has`. `ancestors` has `level + 1` entries, the group itself the last.
    unsafe {
        let set = (&raw const (*task).cgroups).read_volatile();
        if set.is_null() {
            return false;
        }
        let group = (&raw const (*set).dfl_cgrp).read_volatile();
        if group.is_null() {
            return false;
        }
        // CAST: not negative.
        let last = (*group).level as usize;
        let ancestors = (&raw const (*group).__bindgen_anon_1).cast::<*const bindings::cgroup>();
        (0..=last.min(DEPTH)).any(|level| {
            let above = ancestors.add(level).read_volatile();
            !above.is_null() && (*(*above).kn).id == number
        })
    }
}

/// The rules of the running sessions.
static RUNNING: [AtomicPtr<Rules>; uapi::MAX_SESSIONS] =
    [const { AtomicPtr::new(null_mut()) }; uapi::MAX_SESSIONS];

/// Which sessions have rules.
static WITH_RULES: AtomicU16 = AtomicU16::new(0);

/// Sessions that choose their targets by rules.
pub(crate) fn sessions() -> Mask {
    WITH_RULES.load(Ordering::SeqCst)
}

/// Lets the hooks ask for the rules of a session.
///
/// # Safety
///
/// `rules` must stay alive until [`withdraw`] was called and an RCU grace period has passed.
pub(crate) unsafe fn publish(session: usize, rules: *const Rules) {
    RUNNING[session].store(rules.cast_mut(), Ordering::Release);
    WITH_RULES.fetch_or(1 << session, Ordering::SeqCst);
}

/// Undoes [`publish`], for good after an RCU grace period.
pub(crate) fn withdraw(session: usize) {
    WITH_RULES.fetch_and(!(1 << session), Ordering::SeqCst);
    RUNNING[session].store(null_mut(), Ordering::Relaxed);
}

/// Whether a process is a target by the rules of a session; `None` if it has none.
///
/// # Safety
///
/// `of.leader` is a live task, or was found in the RCU read-side section that the caller is in.
pub(crate) unsafe fn want(session: usize, of: &Facts) -> Option<bool> {
    let _guard = rcu::read_lock();
    // SAFETY: What is published stays alive in an RCU read-side section; the rest is this function's contract.
    unsafe {
        let rules = RUNNING.get(session)?.load(Ordering::Acquire).as_ref()?;
        Some(rules.want(of))
    }
}
