// SPDX-License-Identifier: GPL-2.0-only

//! What this program was started with. A command is to find it as if it had been started in its place, so what the
//! runtime or this program changes for itself is taken back in the command's process before its exec.

use std::{
    io, mem, ptr,
    sync::atomic::{AtomicU64, AtomicU8, Ordering},
};

use libc::{c_int, c_long, SIGXFSZ, SIG_DFL, SIG_IGN};

/// A bit for each signal that was ignored, that of signal N at N - 1.
static IGNORED: AtomicU64 = AtomicU64::new(0);
/// A bit for each standard descriptor that was closed: the runtime opens /dev/null in its place.
static CLOSED: AtomicU8 = AtomicU8::new(0);

/// Called before the runtime begins, which ignores SIGPIPE and opens what is closed.
#[used]
#[link_section = ".init_array"]
static AT_START: extern "C" fn() = {
    extern "C" fn at_start() {
        for signal in signals().filter(|signal| is_ignored(*signal)) {
            IGNORED.fetch_or(1 << (signal - 1), Ordering::Relaxed);
        }
        for fd in 0..3 {
            // SAFETY: It only asks whether the descriptor is open.
            if unsafe { libc::fcntl(fd, libc::F_GETFD) } < 0 {
                CLOSED.fetch_or(1 << fd, Ordering::Relaxed);
            }
        }
    }
    at_start
};

/// The signals that can be ignored. The C library has two for itself, of which it speaks to nobody (32 and 33): whoever
/// makes threads handles them.
fn signals() -> impl Iterator<Item = c_int> {
    (1..=64).filter(|signal| ![libc::SIGKILL, libc::SIGSTOP].contains(signal))
}

/// As the kernel has it on x86-64.
#[repr(C)]
#[derive(Default)]
struct Action {
    handler: usize,
    flags: u64,
    restorer: usize,
    mask: u64,
}

/// The system call, past the C library.
fn sigaction(signal: c_int, new: Option<&Action>, old: Option<&mut Action>) -> io::Result<()> {
    let new = new.map_or(ptr::null(), ptr::from_ref);
    let old = old.map_or(ptr::null_mut(), ptr::from_mut);
    let set_bytes = size_of::<u64>();
    // SAFETY: Both are null or point to what the kernel takes for an action. No handler of this program is set here.
    let done = unsafe {
        libc::syscall(
            libc::SYS_rt_sigaction,
            c_long::from(signal),
            new,
            old,
            set_bytes,
        )
    };
    match done {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Whether a signal is ignored now.
pub fn is_ignored(signal: c_int) -> bool {
    let mut action = Action::default();
    sigaction(signal, None, Some(&mut action)).is_ok() && action.handler == SIG_IGN
}

/// Makes a file that gets too long for `ulimit -f` an error of the write, not the end of this program.
pub fn survive_file_limits() {
    // SAFETY: To ignore a signal runs no code of this program.
    unsafe { libc::signal(SIGXFSZ, SIG_IGN) };
}

/// What the calling thread is to be given back.
#[derive(Clone, Copy)]
pub struct Inherited {
    mask: libc::sigset_t,
}

impl Inherited {
    /// That of this thread, which has changed nothing of it.
    pub fn of_this_thread() -> io::Result<Self> {
        // SAFETY: The call only fills in the set, for which zeros are a value.
        unsafe {
            let mut mask: libc::sigset_t = mem::zeroed();
            match libc::pthread_sigmask(libc::SIG_BLOCK, ptr::null(), &raw mut mask) {
                0 => Ok(Self { mask }),
                errno => Err(io::Error::from_raw_os_error(errno)),
            }
        }
    }

    /// Gives it back, in a process that is about to execute a command. It makes system calls alone.
    pub fn restore(&self) -> io::Result<()> {
        let ignored = IGNORED.load(Ordering::Relaxed);
        for signal in signals() {
            let handler = if ignored & 1 << (signal - 1) != 0 {
                SIG_IGN
            } else {
                SIG_DFL
            };
            let action = Action {
                handler,
                ..Action::default()
            };
            sigaction(signal, Some(&action), None)?;
        }
        let closed = CLOSED.load(Ordering::Relaxed);
        for fd in (0..3).filter(|fd| closed & 1 << fd != 0) {
            // SAFETY: It is the runtime's /dev/null, which nothing in this process uses any more.
            unsafe { libc::close(fd) };
        }
        // SAFETY: The set was filled in by the system.
        match unsafe {
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.mask, ptr::null_mut())
        } {
            0 => Ok(()),
            errno => Err(io::Error::from_raw_os_error(errno)),
        }
    }
}
