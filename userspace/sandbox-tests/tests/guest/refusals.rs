// SPDX-License-Identifier: GPL-2.0-only

//! Bad input: each item has its error and its one line in the kernel log, and changes nothing.

use std::{fs, io, os::unix::fs::PermissionsExt, ptr};

use fault_tracer_uapi::{self as uapi, mode, session_flag, state};
use rustix::mm::{self, MapFlags, MprotectFlags, ProtFlags};
use sandbox_tests::{
    device::{self, Recording, Session, Setup},
    guest,
    log::Log,
    module,
    program::Program,
};

/// No process has this id: it is the largest that the kernel could ever give, and so many there are not.
const NO_PROCESS: i32 = (1 << 22) - 1;

/// Checks the error of a result.
#[track_caller]
fn assert_error<T>(what: &str, result: io::Result<T>, errno: i32) {
    match result {
        Ok(_) => panic!("{what}: accepted"),
        Err(error) => assert_eq!(
            error.raw_os_error(),
            Some(errno),
            "{what}: got {error}, expected {}",
            io::Error::from_raw_os_error(errno)
        ),
    }
}

/// Makes a bad call twice: each time it fails, and the first time, it alone, the log says why.
#[track_caller]
fn refused<T>(log: &Log, what: &str, errno: i32, call: impl Fn() -> io::Result<T>) {
    log.news();
    assert_error(what, call(), errno);
    let said = log.news();
    assert_eq!(said.len(), 1, "{what}: lines in the log: {said:?}");
    assert_error(what, call(), errno);
    let said = log.news();
    assert_eq!(said, [""; 0], "{what}: said again");
}

#[test]
fn bad_module_parameters_are_refused_and_leave_nothing() {
    guest::test(|log| {
        let own = std::process::id();
        let cases = [
            (format!("pid={NO_PROCESS}"), libc::ESRCH),
            ("pid=-1".into(), libc::EINVAL),
            ("pid=-2147483648".into(), libc::EINVAL),
            ("pid=abc".into(), libc::EINVAL),
            ("pid=12x".into(), libc::EINVAL),
            ("pid=".into(), libc::EINVAL),
            (format!("pid={own} ring_kib=0"), libc::EINVAL),
            (format!("pid={own} ring_kib=3"), libc::EINVAL),
            (format!("pid={own} ring_kib=1000"), libc::EINVAL),
            (format!("pid={own} ring_kib=-4"), libc::EINVAL),
            (format!("pid={own} ring_kib=2097152"), libc::EINVAL),
            // In its range, but the guest has not so much memory.
            (format!("pid={own} ring_kib=1048576"), libc::ENOMEM),
            (format!("pid={own} follow=2"), libc::EINVAL),
            (format!("pid={own} log=-1"), libc::EINVAL),
            ("log=1".into(), libc::EINVAL),
        ];
        for (parameters, errno) in cases {
            log.news();
            assert_error(&parameters, module::load(&parameters), errno);
            module::assert_gone();
            let said = log.news();
            assert_eq!(said.len(), 1, "{parameters}: lines in the log: {said:?}");
        }
        // And after all that it works.
        module::load(&format!("pid={own}"))
            .unwrap()
            .unload()
            .unwrap();
    });
}

#[test]
fn unknown_calls_are_refused() {
    guest::test(|log| {
        let _module = module::load_idle();
        for command in [
            uapi::IOC_TYPE << 8 | 99,
            uapi::FT_IOC_INFO + 0x0001_0000, // Another size.
            0x5401,                          // TCGETS
            0,
        ] {
            let session = Session::open().unwrap();
            refused(log, &format!("ioctl {command:#x}"), libc::ENOTTY, || {
                // SAFETY: The call has no argument that anybody knows.
                unsafe { session.call(command, 0) }
            });
        }
    });
}

fn with_stack(config: &mut uapi::Config, flags: u32, stack: u32) {
    (config.flags, config.stack) = (flags, stack);
}

#[test]
fn bad_configurations_are_refused() {
    guest::test(|log| {
        let _module = module::load_idle();
        let good = uapi::Config {
            ring_bytes: 1 << 16,
            mode: mode::DISCARD,
            flags: session_flag::FOLLOW,
            ..uapi::Config::default()
        };
        let bad = |change: fn(&mut uapi::Config)| {
            let mut config = good;
            change(&mut config);
            config
        };
        for config in [
            bad(|config| config.ring_bytes = 0),
            bad(|config| config.ring_bytes = 2048),
            bad(|config| config.ring_bytes = 3 << 12),
            bad(|config| config.ring_bytes = (1 << 16) + 1),
            bad(|config| config.ring_bytes = 1 << 31),
            bad(|config| config.ring_bytes = 1 << 63),
            bad(|config| config.ring_bytes = u64::MAX),
            bad(|config| config.mode = 2),
            bad(|config| config.mode = u32::MAX),
            bad(|config| config.flags = session_flag::LOG),
            bad(|config| config.flags = session_flag::BOOT),
            bad(|config| config.flags = 1 << 31),
            bad(|config| config.watermark_bytes = (1 << 16) + 1),
            bad(|config| config.clock = 3),
            bad(|config| config.stack = 1),
            bad(|config| config.flags = session_flag::STACK_FRAMES),
            bad(|config| with_stack(config, session_flag::STACK_FRAMES, 1025)),
            bad(|config| with_stack(config, session_flag::STACK_COPY, 0)),
            bad(|config| with_stack(config, session_flag::STACK_COPY, 1001)),
            bad(|config| with_stack(config, session_flag::STACK_COPY, 40 << 10)),
            bad(|config| with_stack(config, session_flag::STACK_COPY, !7)),
            // A quarter of the ring is 16 KiB.
            bad(|config| with_stack(config, session_flag::STACK_COPY, 16 << 10)),
            bad(|config| {
                let both = session_flag::STACK_FRAMES | session_flag::STACK_COPY;
                with_stack(config, both, 16 << 10);
            }),
        ] {
            let session = Session::open().unwrap();
            let before = session.info();
            refused(log, &format!("{config:?}"), libc::EINVAL, || {
                session.with(uapi::FT_IOC_CONFIGURE, &mut { config })
            });
            assert_eq!(session.info(), before, "{config:?} changed the session");
        }
        let session = Session::open().unwrap();
        session.with(uapi::FT_IOC_CONFIGURE, &mut { good }).unwrap();
        assert_eq!(session.info().ring_bytes, good.ring_bytes);
    });
}

#[test]
fn who_opens_the_device_again_and_again_does_not_fill_the_log() {
    guest::test(|log| {
        let _module = module::load_idle();
        log.news();
        let (mut opened, mut said) = (0, Vec::new());
        // A hundred within ten seconds, which may be several times ten.
        while !said
            .iter()
            .any(|line: &String| line.contains("further refusals"))
        {
            for _ in 0..200 {
                let session = Session::open().unwrap();
                assert_error("stop", session.stop(), libc::EINVAL);
            }
            opened += 200;
            said.extend(log.news());
        }
        assert!(said.len() < opened, "{} lines of {opened}", said.len());
    });
}

#[test]
fn rings_that_do_not_fit_are_refused_and_smaller_ones_then_work() {
    guest::test(|log| {
        let _module = module::load_idle();
        let session = Session::idle(Setup {
            ring_bytes: 1 << 30,
            ..Setup::default()
        });
        session.add(guest::own_pid()).unwrap();
        refused(log, "two times 1 GiB", libc::ENOMEM, || session.start());
        assert_eq!(session.info().state, state::IDLE);
        assert_eq!(module::kprobes(), [""; 0]);
        session.configure(Setup::default()).unwrap();
        session.start().unwrap();
        assert_eq!(session.info().live_targets, 1, "its target was kept");
    });
}

#[test]
fn bad_targets_are_refused() {
    guest::test(|log| {
        let _module = module::load_idle();
        let target = |pid| uapi::Target { pid, flags: 0 };
        let flagged = uapi::Target {
            pid: guest::own_pid(),
            flags: 2,
        };
        for start in [false, true] {
            for (target, errno) in [
                (target(0), libc::EINVAL),
                (target(-1), libc::EINVAL),
                (target(i32::MIN), libc::EINVAL),
                (target(i32::MAX), libc::ESRCH),
                (target(NO_PROCESS), libc::ESRCH),
                (flagged, libc::EINVAL),
            ] {
                for command in [uapi::FT_IOC_TARGET_ADD, uapi::FT_IOC_TARGET_REMOVE] {
                    let session = Session::open().unwrap();
                    if start {
                        session.start().unwrap();
                    }
                    refused(log, &format!("{target:?}"), errno, || {
                        session.with(command, &mut { target })
                    });
                    assert_eq!(session.info().live_targets, 0);
                }
            }
        }
        let session = Session::open().unwrap();
        refused(log, "removing what is no target", libc::ESRCH, || {
            session.remove(guest::own_pid())
        });
    });
}

#[test]
fn calls_that_the_state_does_not_allow_are_refused() {
    guest::test(|log| {
        let _module = module::load_idle();
        let own = guest::own_pid();
        let drain = |session: &Session| session.drain_into(0, &mut [0; 4]).map(|_| ());
        type Call<'a> = (&'a str, &'a dyn Fn(&Session) -> io::Result<()>);
        let idle: [Call<'_>; 3] = [
            ("drain when idle", &drain),
            ("counters when idle", &|session| {
                session.counters(0).map(|_| ())
            }),
            ("stop when idle", &Session::stop),
        ];
        let running: [Call<'_>; 3] = [
            ("start when running", &Session::start),
            ("configure when running", &|session| {
                session.configure(Setup::default())
            }),
            ("adopt when running", &Session::adopt),
        ];
        let stopped: [Call<'_>; 6] = [
            ("start when stopped", &Session::start),
            ("stop when stopped", &Session::stop),
            ("configure when stopped", &|session| {
                session.configure(Setup::default())
            }),
            ("add when stopped", &|session| session.add(own)),
            ("remove when stopped", &|session| session.remove(own)),
            ("adopt when stopped", &Session::adopt),
        ];
        for (what, call) in idle {
            let session = Session::open().unwrap();
            refused(log, what, libc::EINVAL, || call(&session));
            assert_eq!(session.info().state, state::IDLE);
        }
        for (what, call) in running {
            let session = Session::running(Setup::default());
            refused(log, what, libc::EINVAL, || call(&session));
            assert_eq!(session.info().state, state::RUNNING);
        }
        for (what, call) in stopped {
            let session = Session::running(Setup::default());
            session.stop().unwrap();
            refused(log, what, libc::EINVAL, || call(&session));
            assert_eq!(session.info().state, state::STOPPED);
        }
    });
}

#[test]
fn processors_that_do_not_exist_are_refused() {
    guest::test(|log| {
        let _module = module::load_idle();
        for beyond in [0, 1, 1000, u32::MAX] {
            let session = Session::running(Setup::default());
            let cpu = session.info().cpus.saturating_add(beyond);
            refused(log, &format!("drain of CPU {cpu}"), libc::EINVAL, || {
                session.drain_into(cpu, &mut [0; 4])
            });
            let session = Session::running(Setup::default());
            refused(log, &format!("counters of CPU {cpu}"), libc::EINVAL, || {
                session.counters(cpu)
            });
        }
    });
}

#[test]
fn reserved_fields_that_are_not_zero_are_refused() {
    guest::test(|log| {
        let _module = module::load_idle();
        let counters = uapi::CpuCounters {
            reserved0: 1,
            ..Default::default()
        };
        let session = Session::running(Setup::default());
        refused(log, "CpuCounters::reserved", libc::EINVAL, || {
            session.with(uapi::FT_IOC_CPU_COUNTERS, &mut { counters })
        });
    });
}

/// Two pages, the second of which is not mapped.
fn page_before_a_hole() -> *mut u8 {
    // SAFETY: A new mapping at an address of the kernel's choice; its second page is then unmapped,
    // and nobody has it.
    unsafe {
        let start = mm::mmap_anonymous(
            ptr::null_mut(),
            2 * guest::page_size(),
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::PRIVATE,
        )
        .unwrap();
        mm::munmap(
            start.cast::<u8>().add(guest::page_size()).cast(),
            guest::page_size(),
        )
        .unwrap();
        start.cast()
    }
}

fn drain_request(buffer: u64, length: u32) -> uapi::Drain {
    uapi::Drain {
        buffer,
        length,
        cpu: 0,
        bytes: 0,
        gap_slots: 0,
    }
}

/// Two sessions that have recorded the same run: one to be tried, and what it must give in the end.
fn recorded() -> (Session, Recording) {
    let mut program = Program::workload(&["touch", "--pages", "1000"], None, Some(0));
    let [tried, reference] = [(); 2].map(|()| {
        let session = Session::running(Setup::default());
        session.add(program.pid()).unwrap();
        session
    });
    program.go();
    program.wait().assert_success();
    tried.stop().unwrap();
    (tried, reference.finish())
}

#[track_caller]
fn assert_all_there(session: &Session, first: Vec<uapi::FaultRecord>, reference: &Recording) {
    let recording = session.collect(&[first]);
    assert!(
        recording.cpus == reference.cpus,
        "of {} records {} are left",
        reference.len(),
        recording.len()
    );
}

#[test]
fn bad_drain_buffers_are_refused_and_no_record_is_lost() {
    guest::test(|log| {
        let _module = module::load_idle();
        let page = page_before_a_hole();
        let (good, page_size) = (page as u64, guest::page_size() as u64);
        let read_only = page_before_a_hole();
        // SAFETY: The page is ours alone.
        unsafe { mm::mprotect(read_only.cast(), guest::page_size(), MprotectFlags::READ) }.unwrap();
        let read_only = read_only as u64;
        for (what, request, errno) in [
            ("no room", drain_request(good, 0), libc::EINVAL),
            ("short of a record", drain_request(good, 31), libc::EINVAL),
            ("misaligned by 1", drain_request(good + 1, 64), libc::EINVAL),
            ("misaligned by 4", drain_request(good + 4, 64), libc::EINVAL),
            ("null", drain_request(0, 64), libc::EFAULT),
            (
                "not mapped",
                drain_request(good + page_size, 64),
                libc::EFAULT,
            ),
            ("read-only", drain_request(read_only, 4096), libc::EFAULT),
            (
                "the kernel's",
                drain_request(0xffff_8880_0000_0000, 64),
                libc::EFAULT,
            ),
            (
                "beyond the address space",
                drain_request(u64::MAX - 7, 4096),
                libc::EFAULT,
            ),
            (
                "mapped at its beginning alone",
                drain_request(good + page_size - 64, 128),
                libc::EFAULT,
            ),
        ] {
            let (session, reference) = recorded();
            refused(log, what, errno, || {
                session.with(uapi::FT_IOC_DRAIN, &mut { request })
            });
            assert_all_there(&session, Vec::new(), &reference);
        }
    });
}

/// The answer, how many bytes were written, cannot be given: the client does not know of the records, so
/// they must not be gone.
#[test]
fn a_drain_whose_answer_cannot_be_written_loses_no_record() {
    guest::test(|_| {
        let _module = module::load_idle();
        let (session, reference) = recorded();
        let page = page_before_a_hole();
        let mut buffer = vec![0u64; 4096];
        let request = drain_request(buffer.as_mut_ptr() as u64, 32768);
        // SAFETY: The page is ours alone, large enough and aligned.
        unsafe {
            page.cast::<uapi::Drain>().write(request);
            mm::mprotect(page.cast(), guest::page_size(), MprotectFlags::READ).unwrap();
        }
        // SAFETY: The request lies in a page of ours, and what it points to is ours.
        let result = unsafe { session.call(uapi::FT_IOC_DRAIN, page as usize) };
        assert_error("a read-only request", result, libc::EFAULT);
        assert_all_there(&session, Vec::new(), &reference);
    });
}

#[test]
fn requests_at_bad_addresses_are_refused() {
    guest::test(|_| {
        let _module = module::load_idle();
        let hole = page_before_a_hole() as usize + guest::page_size();
        for command in [
            uapi::FT_IOC_INFO,
            uapi::FT_IOC_CONFIGURE,
            uapi::FT_IOC_TARGET_ADD,
            uapi::FT_IOC_TARGET_REMOVE,
            uapi::FT_IOC_DRAIN,
            uapi::FT_IOC_CPU_COUNTERS,
            uapi::FT_IOC_SESSION,
        ] {
            let session = Session::running(Setup::default());
            for address in [0, hole, hole - 4, usize::MAX - 7] {
                // SAFETY: Nothing of ours is at the address.
                let result = unsafe { session.call(command, address) };
                assert_error(
                    &format!("{command:#x} at {address:#x}"),
                    result,
                    libc::EFAULT,
                );
            }
            assert_eq!(session.info().state, state::RUNNING);
        }
    });
}

/// The user whom nobody is.
const NOBODY: libc::uid_t = 65534;

/// Opens the device in a child that is `NOBODY` with no capability, or with one: the error, or 0.
fn open_as_nobody(capability: Option<u32>) -> i32 {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: i32,
    }
    let path = std::ffi::CString::new(device::path().to_str().unwrap()).unwrap();
    // SAFETY: The child makes system calls alone, on memory prepared before.
    let child = unsafe {
        match libc::fork() {
            -1 => panic!("cannot fork: {}", io::Error::last_os_error()),
            0 => {
                let failed = |result: libc::c_long| {
                    if result != 0 {
                        libc::_exit(255);
                    }
                };
                failed(libc::prctl(libc::PR_SET_KEEPCAPS, 1).into());
                failed(libc::setresuid(NOBODY, NOBODY, NOBODY).into());
                // _LINUX_CAPABILITY_VERSION_3: two words each of effective, permitted, inheritable.
                let mut header = Header {
                    version: 0x2008_0522,
                    pid: 0,
                };
                let mut sets = [[0u32; 3]; 2];
                if let Some(capability) = capability {
                    let word = &mut sets[capability as usize / 32];
                    word[0] = 1 << (capability % 32);
                    word[1] = word[0];
                }
                failed(libc::syscall(
                    libc::SYS_capset,
                    &raw mut header,
                    sets.as_ptr(),
                ));
                let fd = libc::open(path.as_ptr(), libc::O_RDWR);
                libc::_exit(if fd >= 0 {
                    0
                } else {
                    *libc::__errno_location()
                });
            }
            child => child,
        }
    };
    let mut status = 0;
    // SAFETY: A child of ours; `status` is ours.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    assert!(libc::WIFEXITED(status), "wait status {status:#x}");
    libc::WEXITSTATUS(status)
}

#[test]
fn only_who_may_trace_can_open_the_device() {
    const CAP_NET_ADMIN: u32 = 12;
    const CAP_SYS_ADMIN: u32 = 21;
    const CAP_PERFMON: u32 = 38;
    guest::test(|log| {
        let _module = module::load_idle();
        let node = fs::metadata(device::path()).unwrap();
        assert_eq!(
            node.permissions().mode() & 0o777,
            0o600,
            "rights of the node"
        );
        // Open to all, as an administrator could make it.
        fs::set_permissions(device::path(), fs::Permissions::from_mode(0o666)).unwrap();
        log.news();
        assert_eq!(open_as_nobody(None), libc::EPERM, "with no capability");
        let said = log.news();
        assert_eq!(said.len(), 1, "lines in the log: {said:?}");
        assert_eq!(open_as_nobody(Some(CAP_NET_ADMIN)), libc::EPERM);
        assert_eq!(log.news(), [""; 0], "said again");
        assert_eq!(open_as_nobody(Some(CAP_PERFMON)), 0, "with CAP_PERFMON");
        assert_eq!(open_as_nobody(Some(CAP_SYS_ADMIN)), 0, "with CAP_SYS_ADMIN");
    });
}

#[test]
fn one_session_too_many_is_refused_until_another_ends() {
    guest::test(|log| {
        let _module = module::load_idle();
        let setup = Setup {
            ring_bytes: guest::page_size() as u64,
            ..Setup::default()
        };
        let mut running: Vec<Session> = (0..uapi::MAX_SESSIONS)
            .map(|_| Session::running(setup))
            .collect();
        let late = Session::idle(setup);
        refused(log, "one more", libc::EBUSY, || late.start());
        assert_eq!(late.info().state, state::IDLE);
        assert_eq!(late.overviews().len(), uapi::MAX_SESSIONS);
        assert_eq!(
            late.overview(uapi::MAX_SESSIONS as u32).present,
            0,
            "an index beyond all sessions"
        );
        assert_eq!(late.overview(u32::MAX).present, 0);
        running.pop();
        late.start().unwrap();
        assert_eq!(late.overviews().len(), uapi::MAX_SESSIONS);
        // The last one in its slot gets the faults of its targets as the first did.
        let mut program = Program::workload(&["touch"], None, None);
        late.add(program.pid()).unwrap();
        program.go();
        program.wait().assert_success();
        assert!(late.totals().hits > 100);
        assert_eq!(running[0].totals().hits, 0);
    });
}
