// SPDX-License-Identifier: GPL-2.0-only

//! Whatever is asked of the device, it answers or refuses, and goes on as before.
//!
//! What is asked follows from a seed: FT_SEED and FT_CALLS choose others (`make fuzz-abi SEED=… CALLS=…`). With one thread
//! the same seed makes the same calls.

use std::{
    os::fd::AsRawFd as _,
    ptr,
    sync::{Arc, RwLock},
    thread::{self, ScopedJoinHandle},
    time::Duration,
};

use fault_tracer_uapi::{self as uapi, session_flag};
use rustix::mm::{self, MapFlags, MprotectFlags, ProtFlags};
use sandbox_tests::{check, device::Session, guest, mapped::Mapped, module};

/// Which calls are made, and how many.
fn seed_and_calls() -> (u64, u64) {
    let chosen = (
        guest::number_of("FT_SEED", 7),
        guest::number_of("FT_CALLS", 20_000),
    );
    println!("FT_SEED={} FT_CALLS={}", chosen.0, chosen.1);
    chosen
}

/// What PROTOCOL.md says that a call may fail with.
const ERRORS: [i32; 13] = [
    libc::EINVAL,
    libc::EPERM,
    libc::EFAULT,
    libc::ESRCH,
    libc::ENOMEM,
    libc::EBUSY,
    libc::ENOENT,
    libc::ENOTTY,
    libc::EIO,
    libc::ENOSPC,
    libc::EAGAIN,
    libc::EBADF,
    libc::EINTR,
];

const COMMANDS: [u32; 15] = [
    uapi::FT_IOC_INFO,
    uapi::FT_IOC_CONFIGURE,
    uapi::FT_IOC_TARGET_ADD,
    uapi::FT_IOC_TARGET_REMOVE,
    uapi::FT_IOC_START,
    uapi::FT_IOC_STOP,
    uapi::FT_IOC_DRAIN,
    uapi::FT_IOC_CPU_COUNTERS,
    uapi::FT_IOC_ADOPT,
    uapi::FT_IOC_SESSION,
    uapi::FT_IOC_CLOCK,
    uapi::FT_IOC_RULE_ADD,
    uapi::FT_IOC_FILTER,
    uapi::FT_IOC_FILTER_MAPPING,
    uapi::FT_IOC_TELL_ALIVE,
];

/// Memory that any drain may write to, however long it says that it is: a megabyte, and nothing behind.
fn room() -> u64 {
    const BYTES: usize = 1 << 20;
    // SAFETY: A new mapping at an address of the kernel's choice, of which the first part gets rights.
    unsafe {
        let start = mm::mmap_anonymous(
            ptr::null_mut(),
            BYTES + u32::MAX as usize,
            ProtFlags::empty(),
            MapFlags::PRIVATE | MapFlags::NORESERVE,
        )
        .unwrap();
        mm::mprotect(start, BYTES, MprotectFlags::READ | MprotectFlags::WRITE).unwrap();
        start as u64
    }
}

/// Addresses that nobody of ours has: null, next to it, the kernel's, and what is none at all.
const BAD_ADDRESSES: [u64; 5] = [0, 1, 0xffff_8880_0000_0000, 1 << 63, u64::MAX - 7];

/// More than any structure has.
const WORDS: usize = 48;

/// An argument for a command, as it may be: often as it should be, in parts.
fn argument(random: &mut fastrand::Rng, command: u32, room: u64) -> [u64; WORDS] {
    let choose = |random: &mut fastrand::Rng, values: &[u64]| values[random.usize(..values.len())];
    let odd = |random: &mut fastrand::Rng| match random.u8(..4) {
        0 => random.u64(..),
        1 => 1 << random.u8(..64),
        2 => u64::MAX >> random.u8(..64),
        _ => random.u64(..64),
    };
    let own = u64::from(std::process::id());
    let mut words = [0; WORDS];
    match command {
        uapi::FT_IOC_CONFIGURE => {
            words[0] = choose(random, &[guest::page_size() as u64, 1 << 14, 1 << 16]);
            let flags = session_flag::FOLLOW | session_flag::SIDEBAND | session_flag::LATENCY;
            words[1] = random.u64(..2) | (random.u64(..) & u64::from(flags)) << 32;
            words[2] = choose(random, &[0, 32, 4096]);
            words[3] = random.u64(..3);
        }
        uapi::FT_IOC_TARGET_ADD | uapi::FT_IOC_TARGET_REMOVE => {
            words[0] = choose(random, &[own, own, 1, 0, u64::from(u32::MAX)]);
        }
        uapi::FT_IOC_DRAIN => {
            words[0] = choose(
                random,
                &[room, room, room + 32, room + 1, room + (1 << 20) - 64],
            );
            words[1] = choose(random, &[32, 64, 4096, 1 << 20, 0, 33, u64::from(u32::MAX)])
                | random.u64(..3) << 32;
        }
        uapi::FT_IOC_RULE_ADD => {
            words[0] = random.u64(..7) | random.u64(..2) << 32;
            words[1] = choose(random, &[own, 0, 1, 3, 1000]);
            if words[0] & 0xffff_ffff == u64::from(uapi::rule_kind::NAME) {
                words[1] = 0;
                words[2] = u64::from_ne_bytes(*b"guest\0\0\0");
            }
        }
        uapi::FT_IOC_FILTER => {
            for test in 0..random.usize(..3) {
                words[2 * test] = random.u64(..1 << 16);
                words[2 * test + 1] = words[2 * test] & random.u64(..);
            }
            for range in 0..random.usize(..3) {
                words[16 + 2 * range] = random.u64(..1 << 40);
                words[17 + 2 * range] = words[16 + 2 * range] + random.u64(1..1 << 47);
            }
            words[32] = random.u64(..4);
        }
        uapi::FT_IOC_FILTER_MAPPING => words[0] = u64::from_ne_bytes(*b"[heap]\0\0"),
        _ => words[0] = random.u64(..3),
    }
    // And in a third of the calls, something as it should not be.
    if random.u8(..3) == 0 {
        let at = random.usize(..8);
        words[at] = match command {
            // It would write where it is asked to.
            uapi::FT_IOC_DRAIN if at == 0 => choose(random, &BAD_ADDRESSES),
            _ => odd(random),
        };
    }
    words
}

/// Makes a call as it may be. Which command was meant, and what came of it.
fn call(random: &mut fastrand::Rng, session: &Session, room: u64) -> (usize, Result<(), i32>) {
    let index = random.usize(..COMMANDS.len());
    let mut command = COMMANDS[index];
    let mut words = argument(random, command, room);
    let bad_address = BAD_ADDRESSES[random.usize(..BAD_ADDRESSES.len())] as usize;
    let how = random.u8(..20);
    if how == 0 {
        command ^= 1 << random.u8(..32);
    }
    // Another command than the argument is for: where the words say to write, there is no memory.
    if command != COMMANDS[index] && command == uapi::FT_IOC_DRAIN {
        words[0] = 0;
    }
    let address = match how {
        1 => bad_address,
        _ => words.as_mut_ptr() as usize,
    };
    // SAFETY: The kernel writes to `words`, which are longer than any structure, to `room`, which a drain cannot leave, or
    // nowhere.
    let result = unsafe { session.call(command, address) };
    let result = result.map_err(|error| {
        let errno = error.raw_os_error().unwrap_or(0);
        assert!(ERRORS.contains(&errno), "ioctl {command:#x}: {error}");
        errno
    });
    (index, result)
}

#[test]
fn any_call_is_answered_or_refused() {
    guest::test(|log| {
        let _module = module::load_idle();
        let (seed, calls) = seed_and_calls();
        let mut random = fastrand::Rng::with_seed(seed);
        let room = room();
        let open = || Session::open().unwrap();
        let mut sessions = [open(), open(), open()];
        let mut accepted = [0; COMMANDS.len()];
        for number in 0..calls {
            // The module says why it refuses, and the kernel keeps some thousand lines.
            if number % 1_000 == 0 {
                log.forget_all_but_trouble();
            }
            let session = &mut sessions[random.usize(..3)];
            if random.u8(..100) == 0 {
                *session = open();
            }
            if let (index, Ok(())) = call(&mut random, session, room) {
                accepted[index] += 1;
            }
        }
        println!("accepted {accepted:?}");
        // All but ADOPT, for there is no session to adopt.
        for (command, accepted) in COMMANDS.iter().zip(accepted) {
            assert_eq!(
                accepted == 0,
                *command == uapi::FT_IOC_ADOPT,
                "{command:#x}"
            );
        }
        drop(sessions);
        // Nothing is left of it.
        check::assert_sound();
    });
}

/// Maps a CPU's ring, writes nonsense to the page that says how far it was read, and gives the mapping up.
fn scribble(random: &mut fastrand::Rng, session: &Session) {
    let info = session.info();
    let offset = info.ring_stride * u64::from(random.u32(..info.cpus));
    let page = Mapped::new(
        session,
        offset + u64::from(info.consumer_offset),
        guest::page_size(),
        libc::PROT_READ | libc::PROT_WRITE,
        libc::MAP_SHARED,
    );
    // Before the start there is none.
    if let Ok(page) = page {
        for word in 0..2 {
            // SAFETY: Within the page that was mapped.
            unsafe {
                page.start()
                    .cast::<u64>()
                    .add(word)
                    .write_volatile(random.u64(..));
            };
        }
    }
}

/// Has a child make calls on the files that it inherits, and end in the middle of things.
fn hand_on(random: &mut fastrand::Rng, session: &Session, room: u64) {
    // SAFETY: The child makes system calls alone, and ends.
    unsafe {
        let child = libc::fork();
        assert!(child >= 0, "no child can be made");
        if child == 0 {
            for _ in 0..20 {
                let mut words = argument(random, uapi::FT_IOC_DRAIN, room);
                let index = random.usize(..COMMANDS.len());
                if COMMANDS[index] != uapi::FT_IOC_DRAIN {
                    words[0] = 0;
                }
                let _ = session.call(COMMANDS[index], words.as_mut_ptr() as usize);
            }
            libc::_exit(0);
        }
        let mut status = 0;
        libc::waitpid(child, &raw mut status, 0);
        assert_eq!(status, 0, "a child that makes calls ended badly");
    }
}

#[test]
fn threads_and_children_that_share_files_get_answers() {
    const THREADS: u64 = 4;
    guest::test(|log| {
        let _module = module::load_idle();
        let (seed, calls) = seed_and_calls();
        let open = || Arc::new(Session::open().unwrap());
        let sessions = RwLock::new([open(), open(), open()]);
        thread::scope(|scope| {
            let callers = (0..THREADS).map(|thread| {
                let sessions = &sessions;
                scope.spawn(move || {
                    let mut random = fastrand::Rng::with_seed(seed ^ thread << 32);
                    let room = room();
                    for _ in 0..calls / THREADS {
                        let index = random.usize(..3);
                        let session = Arc::clone(&sessions.read().unwrap()[index]);
                        match random.u16(..1000) {
                            // Whoever uses it at this moment has the old one to its end.
                            0..15 => sessions.write().unwrap()[index] = open(),
                            15..30 => scribble(&mut random, &session),
                            30..33 => hand_on(&mut random, &session, room),
                            33..43 => {
                                let mut file = libc::pollfd {
                                    fd: session.as_raw_fd(),
                                    events: libc::POLLIN,
                                    revents: 0,
                                };
                                // SAFETY: One structure of ours.
                                unsafe { libc::poll(&raw mut file, 1, 0) };
                            }
                            _ => {
                                // Whatever it is; that it is an answer is looked at there.
                                let _ = call(&mut random, &session, room);
                            }
                        }
                    }
                })
            });
            let callers: Vec<_> = callers.collect();
            while !callers.iter().all(ScopedJoinHandle::is_finished) {
                log.forget_all_but_trouble();
                thread::sleep(Duration::from_millis(10));
            }
        });
        drop(sessions);
        check::assert_sound();
    });
}
