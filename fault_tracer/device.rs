// SPDX-License-Identifier: GPL-2.0-only

//! `/dev/fault_tracer`: file operations, and one method for each ioctl.
//!
//! The file operations are our own rather than those of `kernel::miscdevice`, which sets no owner on
//! 7.2: without it the module could be unloaded under an open file.

use core::mem::size_of;
use kernel::{
    bindings,
    error::to_result,
    ffi::{c_int, c_long, c_uint, c_ulong},
    mm::virt::VmaNew,
    new_mutex,
    page::PAGE_SIZE,
    pr_warn_once,
    prelude::*,
    sync::{Arc, Mutex},
    transmute::{AsBytes, FromBytes},
    types::{ForeignOwnable, Opaque},
    uaccess::{UserPtr, UserSlice},
};

use super::{
    boot, clock, registry, rights,
    session::{refuse, Refusal, Session, DEFAULT},
    uapi::{self, target_flag},
};

/// Permissions of the device node: root's alone. Others who may trace get theirs by udev.
const NODE_MODE: bindings::umode_t = 0o600;

/// The registered device.
///
/// # Invariants
///
/// `misc` is registered and refers to `operations`; neither moves.
pub(crate) struct Device {
    registered: Pin<KBox<Registered>>,
}

struct Registered {
    misc: Opaque<bindings::miscdevice>,
    operations: bindings::file_operations,
}

// SAFETY: Any thread may deregister the device; nothing else is done with it.
unsafe impl Send for Device {}
// SAFETY: There is nothing to be done by a shared reference.
unsafe impl Sync for Device {}

impl Device {
    /// Makes the device appear.
    ///
    /// # Errors
    ///
    /// Those of `misc_register`, and `ENOMEM`.
    pub(crate) fn register(module: &'static ThisModule) -> Result<Self> {
        let operations = bindings::file_operations {
            owner: module.as_ptr(),
            open: Some(open),
            release: Some(release),
            unlocked_ioctl: Some(ioctl),
            compat_ioctl: bindings::compat_ptr_ioctl,
            mmap: Some(mmap),
            poll: Some(poll),
            llseek: Some(bindings::noop_llseek),
            ..pin_init::zeroed()
        };
        let registered = KBox::pin(
            Registered {
                misc: Opaque::zeroed(),
                operations,
            },
            GFP_KERNEL,
        )?;
        let misc = registered.misc.get();
        // SAFETY: The structure is ours alone, zeroed and pinned. `misc_register` gets it filled in as it
        // asks, and `drop` deregisters it before its memory goes.
        to_result(unsafe {
            (*misc).minor = bindings::MISC_DYNAMIC_MINOR as c_int;
            (*misc).name = c"fault_tracer".as_ptr().cast();
            (*misc).fops = &raw const registered.operations;
            (*misc).mode = NODE_MODE;
            bindings::misc_register(misc)
        })?;
        // INVARIANT: Just registered.
        Ok(Self { registered })
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        // SAFETY: By the type invariant it is registered.
        unsafe { bindings::misc_deregister(self.registered.misc.get()) };
    }
}

/// An open file: the session it stands for.
#[pin_data(PinnedDrop)]
struct OpenFile {
    #[pin]
    session: Mutex<Held>,
}

struct Held {
    session: Arc<Session>,
    /// The file's own session, when `session` is an adopted one. Kept, for a `poll` may wait on it.
    own: Option<Arc<Session>>,
}

type Private = Pin<KBox<OpenFile>>;

impl OpenFile {
    fn open() -> Result<Private> {
        if !rights::may_trace_own() {
            pr_warn_once!("open refused: tracing needs CAP_PERFMON or CAP_SYS_ADMIN, or, of one's own processes, kernel.perf_event_paranoid=1\n");
            return Err(EPERM);
        }
        if rights::is_locked_down() {
            pr_warn_once!("open refused: the kernel is locked down for confidentiality, and addresses are to stay unknown\n");
            return Err(EPERM);
        }
        let session = Session::new(DEFAULT)?;
        KBox::pin_init(
            pin_init!(Self {
                session <- new_mutex!(Held {
                    session,
                    own: None,
                }),
            }),
            GFP_KERNEL,
        )
    }

    fn session(&self) -> Arc<Session> {
        self.session.lock().session.clone()
    }

    /// Whether the running thread may do this by its own rights. An open file may have been handed to somebody who could
    /// not have opened it: that one reads what is recorded, and decides nothing. Which processes are somebody's own, the session
    /// asks.
    fn check_rights(&self, session: &Session, command: u32) -> Result {
        let decides = match command {
            uapi::FT_IOC_CONFIGURE
            | uapi::FT_IOC_TARGET_ADD
            | uapi::FT_IOC_RULE_ADD
            | uapi::FT_IOC_FILTER
            | uapi::FT_IOC_FILTER_MAPPING
            | uapi::FT_IOC_START
            | uapi::FT_IOC_ADOPT => true,
            // Of the session that was started when the module was loaded.
            uapi::FT_IOC_STOP | uapi::FT_IOC_TARGET_REMOVE => self.session.lock().own.is_some(),
            _ => false,
        };
        if decides && rights::is_locked_down() {
            return Err(refuse!(
                session,
                Refusal::Rights,
                EPERM,
                "call refused: the kernel is locked down for confidentiality meanwhile\n"
            ));
        }
        let is_of_others = match command {
            // Rules are about all processes.
            uapi::FT_IOC_RULE_ADD | uapi::FT_IOC_ADOPT => true,
            _ => self.session.lock().own.is_some(),
        };
        let may = if is_of_others {
            rights::may_trace_all()
        } else {
            rights::may_trace_own()
        };
        if decides && !may {
            // Of others, where the caller may trace his own.
            let error = if rights::may_trace_own() {
                EACCES
            } else {
                EPERM
            };
            return Err(refuse!(
                session,
                Refusal::Rights,
                error,
                "call refused: whoever has this file needs CAP_PERFMON or CAP_SYS_ADMIN to say what is traced\n"
            ));
        }
        Ok(())
    }

    fn ioctl(&self, command: u32, argument: usize) -> Result<isize> {
        let session = self.session();
        self.check_rights(&session, command)?;
        match command {
            uapi::FT_IOC_INFO => write(argument, &session.info())?,
            uapi::FT_IOC_CONFIGURE => session.configure(&read(argument)?)?,
            uapi::FT_IOC_TARGET_ADD => {
                let target = target(&session, argument, target_flag::ON_EXEC)?;
                session.add_target(target.pid, target.flags & target_flag::ON_EXEC != 0)?;
            }
            uapi::FT_IOC_TARGET_REMOVE => {
                session.remove_target(target(&session, argument, 0)?.pid)?;
            }
            uapi::FT_IOC_RULE_ADD => session.add_rule(&read(argument)?)?,
            uapi::FT_IOC_FILTER => session.set_filter(&read(argument)?)?,
            uapi::FT_IOC_FILTER_MAPPING => session.add_filter_mapping(&read(argument)?)?,
            uapi::FT_IOC_START => session.start()?,
            uapi::FT_IOC_TELL_ALIVE => session.tell_alive()?,
            uapi::FT_IOC_STOP => session.stop()?,
            uapi::FT_IOC_DRAIN => {
                let mut request: uapi::Drain = read(argument)?;
                session.drain(&mut request, |answer| write(argument, answer))?;
            }
            uapi::FT_IOC_CPU_COUNTERS => {
                let request: uapi::CpuCounters = read(argument)?;
                reserved_is_zero(&session, request.reserved0 == 0)?;
                write(argument, &session.counters(request.cpu)?)?;
            }
            uapi::FT_IOC_ADOPT => self.adopt()?,
            uapi::FT_IOC_SESSION => {
                let request: uapi::SessionInfo = read(argument)?;
                write(argument, &registry::overview(request.index as usize))?;
            }
            uapi::FT_IOC_CLOCK => {
                let request: uapi::Time = read(argument)?;
                reserved_is_zero(&session, request.reserved == 0)?;
                if request.clock > uapi::clock::RAW {
                    return Err(refuse!(
                        session,
                        Refusal::Config,
                        EINVAL,
                        "there is no clock {}\n",
                        request.clock
                    ));
                }
                write(argument, &clock::time(request.clock))?;
            }
            _ => {
                return Err(refuse!(
                    session,
                    Refusal::Ioctl,
                    ENOTTY,
                    "unknown ioctl {:#x}: is the tool newer than the module?\n",
                    command
                ))
            }
        }
        Ok(0)
    }

    fn adopt(&self) -> Result {
        let mut held = self.session.lock();
        if held.own.is_some() || held.session.rings().is_some() {
            return Err(refuse!(
                held.session,
                Refusal::State,
                EINVAL,
                "only a file whose own session was not started can adopt another\n"
            ));
        }
        let adopted = boot::adopt().map_err(|error| {
            refuse!(
                held.session,
                Refusal::State,
                error,
                "nothing to adopt: no process was named when the module was loaded, or it is being drained already\n"
            )
        })?;
        held.own = Some(core::mem::replace(&mut held.session, adopted));
        Ok(())
    }
}

#[pinned_drop]
impl PinnedDrop for OpenFile {
    fn drop(self: Pin<&mut Self>) {
        if self.session.lock().own.is_some() {
            boot::give_back();
        }
    }
}

/// Reads a request from user memory.
fn read<T: FromBytes>(argument: usize) -> Result<T> {
    UserSlice::new(UserPtr::from_addr(argument), size_of::<T>())
        .reader()
        .read()
}

/// Writes an answer to user memory.
fn write<T: AsBytes>(argument: usize, answer: &T) -> Result {
    UserSlice::new(UserPtr::from_addr(argument), size_of::<T>())
        .writer()
        .write(answer)
}

/// Refuses a request whose reserved fields are not zero: a later version may give them a meaning.
fn reserved_is_zero(session: &Session, zero: bool) -> Result {
    if zero {
        return Ok(());
    }
    Err(refuse!(
        session,
        Refusal::Config,
        EINVAL,
        "reserved fields of a request must be zero\n"
    ))
}

/// Reads a process that may have these flags.
fn target(session: &Session, argument: usize, flags: u32) -> Result<uapi::Target> {
    let target: uapi::Target = read(argument)?;
    if target.flags & !flags != 0 {
        return Err(refuse!(
            session,
            Refusal::Config,
            EINVAL,
            "unknown flags of a target ({:#x})\n",
            target.flags
        ));
    }
    Ok(target)
}

/// # Safety
///
/// Called by the kernel for a file that is being opened.
unsafe extern "C" fn open(_inode: *mut bindings::inode, file: *mut bindings::file) -> c_int {
    match OpenFile::open() {
        Ok(private) => {
            // SAFETY: The file is being opened: its private data is ours to set.
            unsafe { (*file).private_data = private.into_foreign() };
            0
        }
        Err(error) => error.to_errno(),
    }
}

/// # Safety
///
/// Called by the kernel once, for a file that [`open`] succeeded on, when nobody uses it any more.
unsafe extern "C" fn release(_inode: *mut bindings::inode, file: *mut bindings::file) -> c_int {
    // SAFETY: `open` put it there, and this is the last use.
    drop(unsafe { Private::from_foreign((*file).private_data) });
    0
}

/// # Safety
///
/// Called by the kernel for a file that [`open`] succeeded on and that stays open during the call.
unsafe extern "C" fn ioctl(
    file: *mut bindings::file,
    command: c_uint,
    argument: c_ulong,
) -> c_long {
    // SAFETY: `open` put it there, and `release` cannot come before the end of this call.
    let this = unsafe { Private::borrow((*file).private_data) };
    match this.ioctl(command, argument) {
        Ok(value) => value as c_long,
        Err(error) => error.to_errno() as c_long,
    }
}

/// # Safety
///
/// Called by the kernel for a file that [`open`] succeeded on and a mapping of it that is being made.
unsafe extern "C" fn mmap(file: *mut bindings::file, vma: *mut bindings::vm_area_struct) -> c_int {
    // SAFETY: `open` put it there, and `release` cannot come before the mapping's end.
    let this = unsafe { Private::borrow((*file).private_data) };
    // SAFETY: The mapping is being made; nobody else uses it yet.
    let (vma, offset) = unsafe { (VmaNew::from_raw(vma), (*vma).vm_pgoff) };
    let mapped = offset
        .checked_mul(PAGE_SIZE)
        .ok_or(EINVAL)
        .and_then(|offset| this.session().map(vma, offset));
    match mapped {
        Ok(()) => 0,
        Err(error) => error.to_errno(),
    }
}

/// # Safety
///
/// Called by the kernel for a file that [`open`] succeeded on and that stays open during the call.
unsafe extern "C" fn poll(
    file: *mut bindings::file,
    table: *mut bindings::poll_table_struct,
) -> bindings::__poll_t {
    // SAFETY: `open` put it there, and `release` cannot come before the end of this call.
    let this = unsafe { Private::borrow((*file).private_data) };
    // SAFETY: These are the kernel's arguments. The file keeps its sessions until it is released.
    unsafe { this.session().poll(file, table) }
}

/// Implements the kernel's marker traits for structures of the ABI.
macro_rules! plain_data {
    ($($type:ident),*) => {$(
        // SAFETY: `repr(C)`, integers alone, no padding (asserted by their sizes in the ABI's file).
        unsafe impl AsBytes for uapi::$type {}
        // SAFETY: As above: any bytes are a value.
        unsafe impl FromBytes for uapi::$type {}
    )*};
}
plain_data!(
    Info,
    Config,
    Target,
    Rule,
    Filter,
    FilterMapping,
    Time,
    Drain,
    CpuCounters,
    SessionInfo
);
