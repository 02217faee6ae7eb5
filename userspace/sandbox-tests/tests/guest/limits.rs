// SPDX-License-Identifier: GPL-2.0-only

//! What the module takes of the machine has limits: memory, and processes that are named.

use std::{fs, ptr, slice};

use rustix::{
    mm::{self, MapFlags, ProtFlags},
    process::{Resource, Rlimit},
    thread::CapabilitySet,
};
use sandbox_tests::{
    device::{Session, Setup},
    guest, module,
};

/// What PROTOCOL.md says.
const NAMED: usize = 10_000;

/// A line of `/proc/meminfo`, in bytes.
fn meminfo(name: &str) -> usize {
    bytes_of("/proc/meminfo", name)
}

/// A line `NAME: NUMBER kB` of a file, in bytes.
fn bytes_of(file: &str, name: &str) -> usize {
    let text = fs::read_to_string(file).unwrap_or_else(|error| panic!("{file}: {error}"));
    let kib: usize = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .and_then(|rest| rest.trim().strip_suffix(" kB")?.parse().ok())
        .unwrap_or_else(|| panic!("{file} has no {name}"));
    kib * 1024
}

/// How often the kernel has killed somebody for memory.
fn killed_for_memory() -> u64 {
    let text = fs::read_to_string("/proc/vmstat").expect("cannot read /proc/vmstat");
    text.lines()
        .find_map(|line| line.strip_prefix("oom_kill ")?.parse().ok())
        .expect("/proc/vmstat counts them")
}

/// The largest rings of which all together take no more than half of the memory.
fn largest() -> Setup {
    let cpus = fs::read_to_string("/sys/devices/system/cpu/possible").unwrap();
    let last: usize = cpus
        .trim()
        .rsplit(['-', ','])
        .next()
        .unwrap()
        .parse()
        .unwrap();
    // The pages beside the data, too.
    let each = meminfo("MemTotal") / 2 / (last + 1) - 8192;
    Setup {
        ring_bytes: 1 << each.ilog2(),
        ..Setup::default()
    }
}

#[test]
fn the_rings_of_all_sessions_have_half_of_the_memory() {
    guest::test(|_| {
        let _module = module::load_idle();
        let before = meminfo("MemAvailable");
        let first = Session::running(largest());
        first.stop().unwrap();
        // It was stopped, and has its rings until it is closed.
        let others: Vec<Session> = (0..2).map(|_| Session::idle(largest())).collect();
        for other in &others {
            let error = other.start().expect_err("more than half");
            assert_eq!(error.raw_os_error(), Some(libc::ENOMEM));
        }
        drop(first);
        others[0].start().unwrap();
        drop(others);
        let lost = before.saturating_sub(meminfo("MemAvailable"));
        assert!(lost < 64 << 20, "{lost} bytes did not come back");
    });
}

#[test]
fn where_memory_is_short_nobody_is_killed() {
    guest::test(|_| {
        let _module = module::load_idle();
        let setup = largest();
        let killed = killed_for_memory();
        // Leaves less than the rings take: at least one CPU's.
        let rest = setup.ring_bytes as usize / 2;
        let taken = meminfo("MemAvailable") - rest;
        // SAFETY: A new mapping of our own, written within its length and given up behind the last use.
        unsafe {
            let start = mm::mmap_anonymous(
                ptr::null_mut(),
                taken,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE,
            )
            .unwrap();
            for page in
                slice::from_raw_parts_mut(start.cast::<u8>(), taken).chunks_mut(guest::page_size())
            {
                page[0] = 1;
            }
            let session = Session::idle(setup);
            let error = session.start().expect_err("there is no memory for it");
            assert_eq!(error.raw_os_error(), Some(libc::ENOMEM));
            mm::munmap(start, taken).unwrap();
            session.start().unwrap();
        }
        assert_eq!(killed_for_memory(), killed);
    });
}

/// Pages that this process pins, as /proc tells.
fn pinned() -> u64 {
    (bytes_of("/proc/self/status", "VmPin") / guest::page_size()) as u64
}

#[test]
fn rings_count_as_memory_that_the_caller_pins() {
    guest::test(|_| {
        let _module = module::load_idle();
        let setup = |ring_bytes| Setup {
            ring_bytes,
            ..Setup::default()
        };
        let before = pinned();
        let sessions: Vec<_> = (0..4).map(|_| Session::idle(setup(1 << 20))).collect();
        sessions[0].start().unwrap();
        let of_one = pinned() - before;
        assert!(
            of_one >= (1 << 20) / guest::page_size() as u64,
            "{of_one} pages for rings of a MiB"
        );
        // Root may have more than its limit; others may not.
        let limit = rustix::process::getrlimit(Resource::Memlock);
        let two = Rlimit {
            current: Some((before + 2 * of_one) * guest::page_size() as u64),
            ..limit
        };
        rustix::process::setrlimit(Resource::Memlock, two).unwrap();
        let results = guest::as_nobody(CapabilitySet::PERFMON, || {
            [sessions[1].start(), sessions[2].start()]
        });
        assert!(results[0].is_ok(), "{results:?}");
        let error = results[1].as_ref().expect_err("more than the limit");
        assert_eq!(error.raw_os_error(), Some(libc::EPERM));
        assert_eq!(pinned(), before + 2 * of_one);
        sessions[3].start().unwrap();
        assert_eq!(pinned(), before + 3 * of_one);
        rustix::process::setrlimit(Resource::Memlock, limit).unwrap();
        // They are the caller's until the file is closed.
        sessions[0].stop().unwrap();
        assert_eq!(pinned(), before + 3 * of_one);
        drop(sessions);
        assert_eq!(pinned(), before);
    });
}

#[test]
fn a_process_that_is_named_often_is_one_target() {
    guest::test(|_| {
        let _module = module::load_idle();
        let session = Session::idle(Setup::default());
        for _ in 0..20_000 {
            session.add(guest::own_pid()).unwrap();
        }
        assert_eq!(session.info().live_targets, 1);
        session.start().unwrap();
        assert_eq!(session.info().live_targets, 1);
        session.remove(guest::own_pid()).unwrap();
        assert_eq!(session.info().live_targets, 0);
    });
}

/// A process that shares our memory and does nothing.
struct Idler(libc::pid_t);

impl Idler {
    fn new() -> Self {
        extern "C" fn idle(_: *mut libc::c_void) -> libc::c_int {
            loop {
                // SAFETY: Waits for a signal.
                unsafe { libc::pause() };
            }
        }
        const STACK: usize = 4096;
        // SAFETY: The stack is never given back, and the function touches nothing else of ours.
        let pid = unsafe {
            let stack = Box::leak(vec![0_u8; STACK].into_boxed_slice());
            let top = stack.as_mut_ptr().add(STACK & !15);
            libc::clone(
                idle,
                top.cast(),
                libc::CLONE_VM | libc::SIGCHLD,
                ptr::null_mut(),
            )
        };
        assert!(pid > 0, "clone: {}", std::io::Error::last_os_error());
        Self(pid)
    }
}

impl Drop for Idler {
    fn drop(&mut self) {
        // SAFETY: A child of ours, which was not waited for.
        unsafe {
            libc::kill(self.0, libc::SIGKILL);
            libc::waitpid(self.0, ptr::null_mut(), 0);
        }
    }
}

#[test]
fn so_many_processes_can_be_named_and_no_more() {
    guest::test(|_| {
        let _module = module::load_idle();
        let idlers: Vec<Idler> = (0..=NAMED).map(|_| Idler::new()).collect();
        let session = Session::idle(Setup::default());
        for idler in &idlers[..NAMED] {
            session.add(idler.0).unwrap();
        }
        let error = session.add(idlers[NAMED].0).expect_err("one too many");
        assert_eq!(error.raw_os_error(), Some(libc::ENOSPC));
        session.add(idlers[0].0).expect("it is one already");
        session.start().unwrap();
        assert_eq!(session.info().live_targets, NAMED as u32);
        session.stop().unwrap();
    });
}
