// SPDX-License-Identifier: GPL-2.0-only

//! Each allocation fails once, and each copy from and to the caller: of every call of the device, and of loading the
//! module. The call fails cleanly, or goes on without what it lacks; the next one does what it should; nothing is left.
//!
//! These need a kernel that lets things fail (`make test-debug-kernel`). On others there is nothing to be done.

use std::{io, os::fd::AsRawFd};

use fault_tracer_uapi::{self as uapi, rule_kind, session_flag};
use sandbox_tests::{
    check,
    device::{Session, Setup},
    failing::Failing,
    guest,
    log::Log,
    mapped::Mapped,
    module,
};

/// More of them no call has.
const MOST: u32 = 20_000;

/// What a call says of whose allocation or copy has failed.
const CLEAN: [i32; 2] = [libc::ENOMEM, libc::EFAULT];

fn small() -> Setup {
    Setup {
        ring_bytes: 1 << 16,
        ..Setup::default()
    }
}

/// A test in which this thread's allocations and copies can fail.
fn test(body: impl FnOnce(&Failing, &Log)) {
    guest::test(|log| {
        if let Some(failing) = Failing::of_this_thread() {
            body(&failing, log);
        }
    });
}

#[track_caller]
fn assert_clean(what: &str, n: u32, error: &io::Error) {
    assert!(
        error
            .raw_os_error()
            .is_some_and(|errno| CLEAN.contains(&errno)),
        "{what}, number {n}: {error}"
    );
}

/// Makes a call in which the first allocation or copy fails, another in which the second does, until all have failed. After
/// an error, the same call succeeds. How often the call failed.
fn each<S, T>(
    failing: &Failing,
    what: &str,
    prepare: impl Fn() -> S,
    call: impl Fn(&S) -> io::Result<T>,
) -> u32 {
    // Not to count the faults of what is executed for the first time.
    if let Err(error) = call(&prepare()) {
        panic!("{what}: {error}");
    }
    let mut errors = 0;
    for n in 1..MOST {
        let state = prepare();
        let (result, has_failed) = failing.nth(n, || call(&state));
        match result {
            Ok(_) if has_failed => {}
            Err(error) if has_failed => {
                assert_clean(what, n, &error);
                errors += 1;
                if let Err(error) = call(&state) {
                    panic!("{what}, behind number {n}: {error}");
                }
            }
            Ok(_) => {
                println!("{what}: {} failed, {errors} times the call did", n - 1);
                return errors;
            }
            Err(error) => panic!("{what}: nothing was made to fail, and yet: {error}"),
        }
    }
    panic!("{what}: has it no end?");
}

fn open() -> Session {
    Session::open().unwrap()
}

fn with<T: Default>(session: &Session, command: u32) -> io::Result<()> {
    session.with(command, &mut T::default())
}

/// Ourselves, in the session's state.
fn running() -> Session {
    let session = Session::running(small());
    session.add(guest::own_pid()).unwrap();
    session
}

fn name<const N: usize>(text: &str) -> [u8; N] {
    let mut name = [0; N];
    name[..text.len()].copy_from_slice(text.as_bytes());
    name
}

fn add_rule(session: &Session) -> io::Result<()> {
    let mut rule = uapi::Rule {
        kind: rule_kind::NAME,
        name: name("nobody"),
        ..Default::default()
    };
    session.with(uapi::FT_IOC_RULE_ADD, &mut rule)
}

fn filter(session: &Session) -> io::Result<()> {
    let mut filter = uapi::Filter {
        every: 2,
        ..Default::default()
    };
    session.with(uapi::FT_IOC_FILTER, &mut filter)
}

fn filter_mapping(session: &Session) -> io::Result<()> {
    let mut mapping = uapi::FilterMapping {
        name: name("[heap]"),
    };
    session.with(uapi::FT_IOC_FILTER_MAPPING, &mut mapping)
}

/// A call, from the state that it is made in.
type Scene = (
    &'static str,
    fn() -> Session,
    fn(&Session) -> io::Result<()>,
);

const SCENES: [Scene; 14] = [
    ("INFO", running, |session| {
        with::<uapi::Info>(session, uapi::FT_IOC_INFO)
    }),
    ("CONFIGURE", open, |session| session.configure(small())),
    (
        "TARGET_ADD, idle",
        || Session::idle(small()),
        |session| session.add(guest::own_pid()),
    ),
    (
        "TARGET_ADD, running",
        || Session::running(small()),
        |session| session.add(guest::own_pid()),
    ),
    ("TARGET_REMOVE", running, |session| {
        session.remove(guest::own_pid())
    }),
    ("RULE_ADD", open, add_rule),
    ("FILTER", open, filter),
    ("FILTER_MAPPING", open, filter_mapping),
    ("CPU_COUNTERS", running, |session| {
        session.counters(0).map(drop)
    }),
    ("SESSION", running, |session| {
        with::<uapi::SessionInfo>(session, uapi::FT_IOC_SESSION)
    }),
    ("CLOCK", open, |session| {
        with::<uapi::Time>(session, uapi::FT_IOC_CLOCK)
    }),
    ("TELL_ALIVE", running, |session| {
        // SAFETY: The call has no argument.
        unsafe { session.call(uapi::FT_IOC_TELL_ALIVE, 0) }
    }),
    ("poll", running, poll),
    ("epoll", running, epoll),
];

fn map(session: &Session, offset: u32, length: usize, rights: i32) -> io::Result<()> {
    let rights = rights | libc::PROT_READ;
    Mapped::new(session, offset.into(), length, rights, libc::MAP_SHARED).map(drop)
}

fn poll(session: &Session) -> io::Result<()> {
    let mut file = libc::pollfd {
        fd: session.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: One structure of ours.
    match unsafe { libc::poll(&raw mut file, 1, 0) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

fn epoll(session: &Session) -> io::Result<()> {
    use std::os::fd::{FromRawFd, OwnedFd};
    let mut event = libc::epoll_event {
        events: libc::EPOLLIN as u32,
        u64: 0,
    };
    // SAFETY: The descriptor is new and becomes ours; the kernel reads one structure and writes one, both ours.
    unsafe {
        let poll = libc::epoll_create1(libc::EPOLL_CLOEXEC);
        if poll < 0 {
            return Err(io::Error::last_os_error());
        }
        let poll = OwnedFd::from_raw_fd(poll);
        let file = session.as_raw_fd();
        if libc::epoll_ctl(poll.as_raw_fd(), libc::EPOLL_CTL_ADD, file, &raw mut event) < 0
            || libc::epoll_wait(poll.as_raw_fd(), &raw mut event, 1, 0) < 0
        {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

#[test]
fn what_fails_within_a_call_fails_it_alone() {
    test(|failing, log| {
        let _module = module::load_idle();
        // The name, the kernel's file, and the module's two structures.
        assert!(each(failing, "open", || (), |()| Session::open()) > 3);
        for (what, prepare, call) in SCENES {
            let errors = each(failing, what, prepare, call);
            // It has no argument, and needs no memory.
            assert!(errors > 0 || what == "TELL_ALIVE", "{what} never failed");
            log.forget_all_but_trouble();
        }
        let running = || {
            let session = running();
            let info = session.info();
            (session, info)
        };
        let consumer = |(session, info): &(Session, uapi::Info)| {
            map(
                session,
                info.consumer_offset,
                guest::page_size(),
                libc::PROT_WRITE,
            )
        };
        assert!(each(failing, "mmap of a consumer page", running, consumer) > 0);
        let records = |(session, info): &(Session, uapi::Info)| {
            map(session, info.data_offset, info.ring_bytes as usize, 0)
        };
        assert!(each(failing, "mmap of records", running, records) > 0);
        // While another one records: taking the probe out is the kernel's own, which does not bear that its allocations
        // fail (`ftrace_set_filter_ip` within `disarm_kprobe_ftrace`). It warns, and leaves the probe where it is.
        let _another = Session::running(small());
        each(failing, "STOP", || running().0, Session::stop);
        check::assert_sound();
    });
}

/// What a session may be started with, and the size of its stacks.
const STARTS: [(&str, u32, u32); 6] = [
    ("START", session_flag::FOLLOW, 0),
    (
        "START, side-band",
        session_flag::SIDEBAND | session_flag::RETELL,
        0,
    ),
    (
        "START, all processes",
        session_flag::SIDEBAND | session_flag::ALL,
        0,
    ),
    ("START, durations", session_flag::LATENCY, 0),
    ("START, ftrace", session_flag::FTRACE, 0),
    ("START, stacks", session_flag::STACK_COPY, 1024),
];

#[test]
fn what_fails_within_a_start_leaves_an_idle_session() {
    test(|failing, log| {
        let _module = module::load_idle();
        for (what, flags, stack) in STARTS {
            let idle = || {
                let session = open();
                let mut config = uapi::Config {
                    ring_bytes: 1 << 16,
                    flags,
                    stack,
                    ..Default::default()
                };
                session.with(uapi::FT_IOC_CONFIGURE, &mut config).unwrap();
                if flags & session_flag::ALL == 0 {
                    session.add(guest::own_pid()).unwrap();
                } else {
                    add_rule(&session).unwrap();
                }
                filter(&session).unwrap();
                if flags & session_flag::SIDEBAND != 0 {
                    filter_mapping(&session).unwrap();
                }
                session
            };
            // The rings of each CPU at least.
            assert!(each(failing, what, idle, Session::start) > 4, "{what}");
            log.forget_all_but_trouble();
        }
        check::assert_sound();
    });
}

#[test]
fn a_drain_that_fails_loses_no_record() {
    test(|failing, _| {
        let _module = module::load_idle();
        for n in 1..MOST {
            let session = running();
            guest::touch_fresh(20);
            session.stop().unwrap();
            let pending = |cpu| session.counters(cpu).unwrap().pending;
            let cpu = (0..session.info().cpus)
                .max_by_key(|cpu| pending(*cpu))
                .unwrap();
            let mut buffer = vec![0; 1 << 13];
            let here = pending(cpu);
            assert!((20..1000).contains(&here), "{here} faults");
            let (result, has_failed) = failing.nth(n, || session.drain_into(cpu, &mut buffer));
            match result {
                Ok(words) => assert_eq!(words as u64, 4 * here),
                Err(error) => {
                    assert_clean("DRAIN", n, &error);
                    assert_eq!(session.drain(cpu).len() as u64, here, "behind number {n}");
                }
            }
            if !has_failed {
                println!("DRAIN: {} failed", n - 1);
                assert!(n > 3, "a request, and two answers");
                check::assert_sound();
                return;
            }
        }
        panic!("has it no end?");
    });
}

#[test]
fn what_fails_while_a_session_is_adopted_leaves_it_to_be_adopted() {
    test(|failing, _| {
        let _module = module::load(&format!("pid={} ring_kib=64", guest::own_pid())).unwrap();
        each(failing, "ADOPT", open, Session::adopt);
        let session = open();
        session.adopt().unwrap();
        guest::touch_fresh(20);
        session.finish();
    });
}

#[test]
fn what_fails_while_the_module_is_loaded_leaves_nothing() {
    test(|failing, log| {
        for parameters in [
            String::new(),
            format!("pid={} ring_kib=64", guest::own_pid()),
        ] {
            let image = module::Image::of_module(&parameters);
            let mut errors = 0;
            let mut n = 0;
            loop {
                n += 1;
                let (result, has_failed) = failing.nth(n, || image.load());
                match result {
                    Ok(loaded) => loaded.unload().unwrap(),
                    Err(error) => {
                        assert!(has_failed, "nothing was made to fail, and yet: {error}");
                        assert_clean(&parameters, n, &error);
                        errors += 1;
                    }
                }
                module::assert_gone();
                if !has_failed {
                    break;
                }
                log.forget_all_but_trouble();
            }
            println!(
                "load {parameters:?}: {} failed, {errors} times it did",
                n - 1
            );
            // The kernel's own, and ours.
            assert!(errors > 20, "{errors}");
        }
        let _module = module::load_idle();
        check::assert_sound();
    });
}
