// SPDX-License-Identifier: GPL-2.0-only

//! Whatever is asked of the device, it answers or refuses, and goes on as before.

use std::ptr;

use fault_tracer_uapi::{self as uapi, session_flag};
use rustix::mm::{self, MapFlags, MprotectFlags, ProtFlags};
use sandbox_tests::{
    check,
    device::{Session, Setup},
    guest, module, program,
};

const CALLS: usize = 20_000;

/// What PROTOCOL.md says that a call may fail with.
const ERRORS: [i32; 11] = [
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
];

const COMMANDS: [u32; 11] = [
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

/// An argument for a command, as it may be: often as it should be, in parts.
fn argument(random: &mut fastrand::Rng, command: u32, room: u64) -> [u64; 32] {
    let choose = |random: &mut fastrand::Rng, values: &[u64]| values[random.usize(..values.len())];
    let odd = |random: &mut fastrand::Rng| match random.u8(..4) {
        0 => random.u64(..),
        1 => 1 << random.u8(..64),
        2 => u64::MAX >> random.u8(..64),
        _ => random.u64(..64),
    };
    let own = u64::from(std::process::id());
    let mut words = [0; 32];
    match command {
        uapi::FT_IOC_CONFIGURE => {
            words[0] = choose(random, &[4096, 1 << 14, 1 << 16]);
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

#[test]
fn any_call_is_answered_or_refused() {
    guest::test(|_| {
        let _module = module::load_idle();
        let seed = 7;
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        let room = room();
        let open = || Session::open().unwrap();
        let mut sessions = [open(), open(), open()];
        let (mut accepted, mut refused) = ([0; COMMANDS.len()], [0; ERRORS.len()]);
        for _ in 0..CALLS {
            let session = &mut sessions[random.usize(..3)];
            if random.u8(..100) == 0 {
                *session = open();
            }
            let index = random.usize(..COMMANDS.len());
            let mut command = COMMANDS[index];
            let mut words = argument(&mut random, command, room);
            let mut address = words.as_mut_ptr() as usize;
            match random.u8(..20) {
                0 => command ^= 1 << random.u8(..32),
                1 => address = BAD_ADDRESSES[random.usize(..BAD_ADDRESSES.len())] as usize,
                _ => {}
            }
            // Another command than the argument is for: where the words say to write, there is no memory.
            if command != COMMANDS[index] && command == uapi::FT_IOC_DRAIN {
                words[0] = 0;
            }
            // SAFETY: The kernel writes to `words`, which are longer than any structure, to `room`, which a
            // drain cannot leave, or nowhere.
            match unsafe { session.call(command, address) } {
                Ok(()) => accepted[index] += 1,
                Err(error) => {
                    let errno = error.raw_os_error();
                    let known = ERRORS.iter().position(|&one| Some(one) == errno);
                    refused[known.unwrap_or_else(|| panic!("ioctl {command:#x}: {error}"))] += 1;
                }
            }
        }
        println!("accepted {accepted:?}, refused {refused:?}");
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
        let run = program::trace(Setup::default(), &["touch", "--pages", "100"]);
        run.recording.assert_complete();
        check::matches(&run.truth, &run.recording);
    });
}
