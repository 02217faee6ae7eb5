// SPDX-License-Identifier: GPL-2.0-only

//! The frame of each test: nothing left of the one before, and nothing left after it.

use std::{
    env, io,
    panic::{catch_unwind, resume_unwind, AssertUnwindSafe},
    sync::{Mutex, PoisonError},
    thread,
    time::Duration,
};

use rustix::thread::{CapabilitySet, CapabilitySets};

use crate::{log::Log, module};

/// Set where the tests may do what they do.
const MARK: &str = "FAULT_TRACER_GUEST";

/// What has not happened after this time does not happen on any machine, however slow or busy it is.
pub const NEVER: Duration = Duration::from_secs(600);

/// Runs a test: alone, with the module not loaded at its beginning. At its end the module can be
/// unloaded, has left nothing behind, and the kernel has complained of nothing.
pub fn test(body: impl FnOnce(&Log)) {
    static ALONE: Mutex<()> = Mutex::new(());
    assert!(
        env::var_os(MARK).is_some(),
        "these tests load kernel modules: run them inside the sandbox, by tests/guest/run"
    );
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let log = Log::from_now();
    module::assert_gone();
    let result = catch_unwind(AssertUnwindSafe(|| body(&log)));
    let unloaded = if module::is_loaded() {
        module::unload()
    } else {
        Ok(())
    };
    let trouble = log.trouble();
    if let Err(panic) = result {
        eprintln!("the module said: {:#?}", log.of_module());
        if !trouble.is_empty() {
            eprintln!("the kernel complained: {trouble:#?}");
        }
        resume_unwind(panic);
    }
    unloaded.expect("the module does not unload after the test");
    assert_eq!(trouble, [""; 0], "the kernel complained");
    module::assert_gone();
}

/// The process id of the tests, as system calls take it.
pub fn own_pid() -> i32 {
    rustix::process::getpid().as_raw_pid()
}

/// The user `nobody`.
pub const NOBODY: libc::uid_t = 65534;

/// Runs something in a thread of another user that has these rights alone.
pub fn as_nobody<T: Send>(rights: CapabilitySet, run: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            rustix::thread::set_keep_capabilities(true).expect("rights cannot be kept");
            // SAFETY: The system call itself, unlike libc's function, changes the calling thread alone.
            let result = unsafe { libc::syscall(libc::SYS_setresuid, NOBODY, NOBODY, NOBODY) };
            assert_eq!(result, 0, "setresuid: {}", io::Error::last_os_error());
            let sets = CapabilitySets {
                effective: rights,
                permitted: rights,
                inheritable: CapabilitySet::empty(),
            };
            rustix::thread::set_capabilities(None, sets).expect("rights cannot be chosen");
            run()
        });
        thread.join().expect("the thread panicked")
    })
}

/// A number that a variable may give to a test (`tests/guest/run --env NAME=VALUE`).
///
/// # Panics
///
/// If it is no number.
pub fn number_of(name: &str, default: u64) -> u64 {
    env::var(name).map_or(default, |text| {
        text.parse()
            .unwrap_or_else(|_| panic!("{name}={text} is no number"))
    })
}

/// Bytes of a page.
pub fn page_size() -> usize {
    rustix::param::page_size()
}

/// The smallest ring, in KiB, as options take it: a page.
pub fn smallest_ring_kib() -> String {
    (page_size() / 1024).to_string()
}

/// Takes a fault on each of so many pages of fresh memory, which no allocator has used before and no huge
/// page serves.
pub fn touch_fresh(pages: usize) {
    let page_size = page_size();
    // SAFETY: A new mapping of our own, written within its length and then given up.
    unsafe {
        let memory = libc::mmap(
            std::ptr::null_mut(),
            pages * page_size,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        );
        assert_ne!(memory, libc::MAP_FAILED);
        libc::madvise(memory, pages * page_size, libc::MADV_NOHUGEPAGE);
        for page in 0..pages {
            memory.cast::<u8>().add(page * page_size).write_volatile(1);
        }
        libc::munmap(memory, pages * page_size);
    }
}
