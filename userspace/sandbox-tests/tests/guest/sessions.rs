// SPDX-License-Identifier: GPL-2.0-only

//! Several sessions at once, and how targets are named.

use std::{fs, io};

use fault_tracer_uapi as uapi;
use sandbox_tests::{
    check,
    device::{Session, Setup},
    guest, module,
    program::Program,
    truth::Truth,
};

#[test]
fn two_sessions_on_one_target_both_get_everything() {
    guest::test(|_| {
        let _module = module::load_idle();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("truth");
        let arguments = ["touch", "--pages", "200", "--threads", "4"];
        let mut program = Program::workload(&arguments, Some(&file), None);
        let sessions = [(); 2].map(|()| {
            let session = Session::running(Setup::default());
            session.add(program.pid()).unwrap();
            session
        });
        assert_eq!(sessions[0].overviews().len(), 2);
        program.go();
        program.wait().assert_success();
        let [first, second] = sessions.map(|session| session.finish());
        first.assert_complete();
        second.assert_complete();
        check::matches(&Truth::read(&file), &first);
        assert!(
            first.cpus == second.cpus,
            "{} and {} records, or different ones",
            first.len(),
            second.len()
        );
    });
}

#[test]
fn sessions_with_different_targets_do_not_mix() {
    guest::test(|_| {
        let _module = module::load_idle();
        let folder = tempfile::tempdir().unwrap();
        let mut runs: Vec<_> = (0..4)
            .map(|i| {
                let file = folder.path().join(i.to_string());
                let arguments = ["children", "--count", "10", "--pages", "20"];
                let program = Program::workload(&arguments, Some(&file), None);
                let session = Session::running(Setup {
                    ring_bytes: 4 << 20,
                    ..Setup::default()
                });
                session.add(program.pid()).unwrap();
                (program, session, file)
            })
            .collect();
        for (program, ..) in &mut runs {
            program.go();
        }
        for (program, session, file) in runs {
            let pid = program.pid().unsigned_abs();
            program.wait().assert_success();
            let recording = session.finish();
            recording.assert_complete();
            let truth = Truth::read(&file);
            check::matches(&truth, &recording);
            let own = truth.processes();
            for record in recording.cpus.iter().flatten() {
                assert!(
                    record.pid() == pid || own.contains(&record.pid()),
                    "session of process {pid} has a fault of process {}",
                    record.pid()
                );
            }
        }
    });
}

#[test]
fn several_targets_are_traced_from_the_start_on() {
    guest::test(|_| {
        let _module = module::load_idle();
        let folder = tempfile::tempdir().unwrap();
        let session = Session::idle(Setup::default());
        let mut programs: Vec<_> = (0..3)
            .map(|i| {
                let file = folder.path().join(i.to_string());
                let program = Program::workload(&["touch"], Some(&file), None);
                session.add(program.pid()).unwrap();
                (program, file)
            })
            .collect();
        assert_eq!(session.info().live_targets, 3);
        session.start().unwrap();
        assert_eq!(session.info().live_targets, 3);
        let overview = &session.overviews()[0];
        assert_eq!(overview.named_targets, 3);
        assert_eq!(overview.first_target, programs[0].0.pid());
        for (program, _) in &mut programs {
            program.go();
        }
        let mut truths = Vec::new();
        for (program, file) in programs {
            program.wait().assert_success();
            truths.push(Truth::read(&file));
        }
        assert_eq!(session.info().live_targets, 0);
        let recording = session.finish();
        recording.assert_complete();
        // Each program is mapped elsewhere: the code of all is that of any.
        let mut all = Truth::default();
        for truth in truths {
            all.text.extend(truth.text);
            all.regions.extend(truth.regions);
            all.faults.extend(truth.faults);
        }
        check::matches(&all, &recording);
    });
}

#[test]
fn the_id_of_any_thread_names_its_process() {
    guest::test(|_| {
        let _module = module::load_idle();
        let session = Session::running(Setup::default());
        std::thread::scope(|scope| {
            scope
                .spawn(|| {
                    let tid = rustix::thread::gettid().as_raw_nonzero().get();
                    assert_ne!(tid.unsigned_abs(), std::process::id());
                    session.add(tid).unwrap();
                })
                .join()
                .unwrap();
        });
        let overview = &session.overviews()[0];
        assert_eq!(
            overview.first_target.unsigned_abs(),
            std::process::id(),
            "the target is the process of the thread"
        );
    });
}

/// The id in the initial pid namespace of a process that has `inner` in its innermost one.
fn outer_id(inner: u32) -> u32 {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Ok(status) = fs::read_to_string(entry.path().join("status")) else {
            continue;
        };
        let ids = status
            .lines()
            .find_map(|line| line.strip_prefix("NSpid:"))
            .unwrap_or_default();
        let ids: Vec<u32> = ids
            .split_whitespace()
            .filter_map(|id| id.parse().ok())
            .collect();
        if ids.len() == 2 && ids[1] == inner {
            found.push(ids[0]);
        }
    }
    assert_eq!(found.len(), 1, "processes with inner id {inner}: {found:?}");
    found[0]
}

/// Process 1 of a namespace looks at a session of this process, whose target it is, and at one of its own.
#[test]
fn the_overview_has_the_ids_of_the_readers_namespace() {
    guest::test(|_| {
        let _module = module::load_idle();
        let outside = Session::running(Setup::default());
        let inside = Session::idle(Setup::default());
        outside.add(guest::own_pid()).unwrap();
        let (heard, tell) = rustix::pipe::pipe().unwrap();
        let init = std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                // SAFETY: A system call that concerns the later children of this thread alone.
                assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWPID) }, 0);
                // SAFETY: The child makes system calls and uses the allocator, which the C library keeps usable in the
                // child of a program with several threads.
                match unsafe { libc::fork() } {
                    -1 => panic!("cannot fork: {}", io::Error::last_os_error()),
                    0 => {
                        let is_right = inside.add(1).is_ok() && inside.start().is_ok();
                        let ids = |index| {
                            let overview = inside.overview(index);
                            [overview.owner_pid, overview.first_target]
                        };
                        let answer = [ids(0), ids(1), [i32::from(is_right), 0]].concat();
                        let bytes: Vec<u8> =
                            answer.into_iter().flat_map(i32::to_ne_bytes).collect();
                        let _ = rustix::io::write(&tell, &bytes);
                        // SAFETY: Ends this process at once.
                        unsafe { libc::_exit(0) }
                    }
                    child => child,
                }
            });
            thread.join().unwrap()
        });
        let mut answer = [0; 24];
        assert_eq!(rustix::io::read(&heard, &mut answer), Ok(24));
        let words = answer.chunks_exact(4);
        let words = words.map(|word| i32::from_ne_bytes(word.try_into().unwrap()));
        assert_eq!(words.collect::<Vec<_>>(), [0, 0, 1, 1, 1, 0]);
        let mut status = 0;
        // SAFETY: A child of ours; `status` is ours.
        assert_eq!(unsafe { libc::waitpid(init, &raw mut status, 0) }, init);
        // Out here they are known.
        let own = outside.overview(0);
        assert_eq!([own.owner_pid, own.first_target], [guest::own_pid(); 2]);
        let other = outside.overview(1);
        assert_eq!([other.owner_pid, other.first_target], [init; 2]);
    });
}

/// Process 1 of a namespace names process 2 of it, which waits at a gate, by that id.
#[test]
fn a_process_id_is_read_in_the_pid_namespace_of_the_caller() {
    guest::test(|_| {
        let _module = module::load_idle();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("truth");
        let session = Session::running(Setup::default());
        let (heard, tell) = rustix::pipe::pipe().unwrap();
        let (wait, let_go) = rustix::pipe::pipe().unwrap();
        // The namespace is for the children of a thread: of one that ends with this test.
        let init = std::thread::scope(|scope| {
            scope
                .spawn(|| {
                    // SAFETY: A system call that concerns the later children of this thread alone.
                    assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWPID) }, 0);
                    // SAFETY: The child makes system calls and uses the allocator, which the C library
                    // keeps usable in the child of a program with several threads.
                    match unsafe { libc::fork() } {
                        -1 => panic!("cannot fork: {}", io::Error::last_os_error()),
                        0 => {
                            let mut program =
                                Program::workload(&["touch", "--pages", "300"], Some(&file), None);
                            let error = session
                                .add(2)
                                .err()
                                .and_then(|error| error.raw_os_error())
                                .unwrap_or(0);
                            let answer = [program.pid(), error].map(i32::to_ne_bytes).concat();
                            let _ = rustix::io::write(&tell, &answer);
                            let _ = rustix::io::read(&wait, &mut [0]);
                            program.go();
                            let status = program.wait().status;
                            // SAFETY: Ends this process at once.
                            unsafe { libc::_exit(i32::from(status != 0)) }
                        }
                        child => child,
                    }
                })
                .join()
                .unwrap()
        });
        let mut answer = [0; 8];
        assert_eq!(rustix::io::read(&heard, &mut answer), Ok(8));
        let [inner, error] =
            [0, 4].map(|at| i32::from_ne_bytes(answer[at..at + 4].try_into().unwrap()));
        assert_eq!(inner, 2, "the first child of a namespace's process 1");
        assert_eq!(error, 0, "naming it failed with error {error}");
        let outer = outer_id(2);
        assert_ne!(outer, 2);
        assert_eq!(session.overviews()[0].first_target.unsigned_abs(), outer);
        rustix::io::write(&let_go, &[1]).unwrap();
        let mut status = 0;
        // SAFETY: A child of ours; `status` is ours.
        assert_eq!(unsafe { libc::waitpid(init, &raw mut status, 0) }, init);
        assert_eq!(status, 0, "the program in the namespace failed");
        let recording = session.finish();
        recording.assert_complete();
        // The program tells the ids that it sees; records have those of the initial namespace.
        check::matches(
            &Truth::read(&file).with_ids(|id| if id == 2 { outer } else { id }),
            &recording,
        );
    });
}

#[test]
fn a_target_named_twice_is_traced_once_and_one_that_ended_is_refused() {
    guest::test(|_| {
        let _module = module::load_idle();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("truth");
        let mut program = Program::workload(&["touch"], Some(&file), None);
        let session = Session::running(Setup::default());
        session.add(program.pid()).unwrap();
        session.add(program.pid()).unwrap();
        assert_eq!(session.info().live_targets, 1);
        let pid = program.pid();
        program.go();
        // Ended, but not waited for: its id is still taken.
        // SAFETY: Zero is a value of all its fields.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        // SAFETY: `info` is ours for the time of the call.
        let waited = unsafe {
            libc::waitid(
                libc::P_PID,
                pid.unsigned_abs(),
                &raw mut info,
                libc::WEXITED | libc::WNOWAIT,
            )
        };
        assert_eq!(waited, 0);
        assert_eq!(session.info().live_targets, 0);
        assert_eq!(
            session.add(pid).unwrap_err().raw_os_error(),
            Some(libc::ESRCH)
        );
        program.wait().assert_success();
        let recording = session.finish();
        recording.assert_complete();
        check::matches(&Truth::read(&file), &recording);
    });
}

#[test]
fn info_tells_the_abi_and_the_geometry() {
    guest::test(|_| {
        let _module = module::load_idle();
        let session = Session::running(Setup::default());
        let info = session.info();
        assert_eq!(info.abi_version, uapi::ABI_VERSION);
        assert_eq!(
            info.fault_record_bytes as usize,
            size_of::<uapi::FaultRecord>()
        );
        assert_eq!(info.slot_bytes as usize, uapi::SLOT_BYTES);
        assert_eq!(info.max_sessions as usize, uapi::MAX_SESSIONS);
        assert_eq!(info.ring_bytes, Setup::default().ring_bytes);
        let possible = fs::read_to_string("/sys/devices/system/cpu/possible").unwrap();
        let last = possible.trim().rsplit(['-', ',']).next().unwrap();
        assert_eq!(info.cpus, last.parse::<u32>().unwrap() + 1, "{possible}");
        // Whole pages each, the consumer's first: the rest can be mapped read-only in one piece.
        assert_eq!(info.consumer_offset, 0);
        // CAST: at most 64 KiB.
        let page = rustix::param::page_size() as u32;
        assert_eq!(info.page_bytes, page);
        assert_eq!(info.producer_offset, page);
        assert_eq!(info.data_offset, 2 * page);
        assert_eq!(
            info.ring_stride,
            u64::from(info.data_offset) + info.ring_bytes
        );
    });
}
