// SPDX-License-Identifier: GPL-2.0-only

//! Nothing of the module outlives its use: not under an open file, not under load, not after a crash of
//! who used it; and while nobody records, nothing is probed.

use std::{fs, io, process::Command, time::Duration};

use fault_tracer_uapi::mode;
use sandbox_tests::{
    device::{Session, Setup},
    guest,
    module::{self, kprobes},
    program::Program,
    sideband::{self, Record},
    tool,
    trace::Trace,
};

const LOAD: [&str; 5] = ["spin", "--threads", "8", "--pages", "32"];

fn small(mode: u32) -> Setup {
    Setup {
        ring_bytes: 64 * 1024,
        mode,
        ..Setup::default()
    }
}

/// Waits until a session has seen that many faults.
fn wait_for_hits(session: &Session, hits: u64) {
    while session.totals().hits < hits {
        // No event tells of a hit.
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The kernel's kprobes, and what ftrace calls at faults (`enabled_functions`, Documentation/trace/ftrace.rst).
fn probes() -> Vec<String> {
    let hooks = fs::read_to_string("/sys/kernel/tracing/enabled_functions").unwrap();
    let hooks = hooks
        .lines()
        .filter(|line| line.starts_with("handle_mm_fault "));
    kprobes()
        .into_iter()
        .chain(hooks.map(str::to_owned))
        .collect()
}

fn assert_probed() {
    let list = probes();
    for function in ["handle_mm_fault", "do_notify_parent"] {
        assert!(
            list.iter().any(|line| line.contains(function)),
            "{function} is not probed: {list:?}"
        );
    }
}

fn assert_not_probed(when: &str) {
    assert_eq!(probes(), [""; 0], "probes {when}");
}

#[test]
fn the_module_cannot_be_unloaded_under_an_open_file() {
    guest::test(|_| {
        let loaded = module::load_idle();
        let session = Session::open().unwrap();
        let refused = || {
            // What delete_module(2) says of a module in use when it is not to wait.
            assert_eq!(
                module::unload().unwrap_err().raw_os_error(),
                Some(libc::EWOULDBLOCK)
            );
            let output = Command::new("rmmod").arg(module::NAME).output().unwrap();
            let text = String::from_utf8_lossy(&output.stderr);
            assert!(
                !output.status.success() && text.contains("in use"),
                "rmmod: {} {text}",
                output.status
            );
        };
        refused();
        session.add(guest::own_pid()).unwrap();
        session.start().unwrap();
        refused();
        assert!(session.totals().hits > 0, "the session goes on");
        session.stop().unwrap();
        refused();
        drop(session);
        loaded.unload().unwrap();
        module::assert_gone();
    });
}

#[test]
fn the_boot_session_is_unloaded_under_load() {
    guest::test(|_| {
        for arguments in [&LOAD[..], &["spin", "--threads", "8", "--fork"]] {
            let program = Program::load(arguments);
            for _ in 0..guest::number_of("FT_LOADS", 10) {
                let loaded = module::load(&format!("pid={} ring_kib=64", program.pid())).unwrap();
                let session = Session::open().unwrap();
                session.adopt().unwrap();
                wait_for_hits(&session, 100);
                drop(session);
                loaded.unload().unwrap();
                module::assert_gone();
            }
            program.kill();
        }
    });
}

/// KiB that the kernel has in `vmalloc`, as all rings and tables are.
fn vmalloc_kib() -> i64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap();
    text.lines()
        .find_map(|line| line.strip_prefix("VmallocUsed:"))
        .and_then(|rest| rest.trim().strip_suffix(" kB"))
        .and_then(|number| number.parse().ok())
        .expect("VmallocUsed in /proc/meminfo")
}

/// What fifty cycles may leave in use: stacks of threads come and go meanwhile, but less than this
/// would be left by the smallest of the module's allocations (64 KiB) in each.
const NOISE_KIB: i64 = 50 * 64 / 2;

#[test]
fn closing_under_load_frees_everything() {
    guest::test(|_| {
        let _module = module::load_idle();
        let program = Program::load(&LOAD);
        let cycle = |i: usize| {
            let mode = [mode::DISCARD, mode::OVERWRITE][i % 2];
            let session = Session::running(small(mode));
            session.add(program.pid()).unwrap();
            wait_for_hits(&session, 100);
            assert_probed();
            // Some are closed while running, some stopped, some partly drained.
            if i % 3 == 0 {
                session.drain(0);
            }
            if i % 4 == 0 {
                session.stop().unwrap();
            }
            drop(session);
            assert_not_probed("after the only session was closed");
        };
        cycle(0);
        let before = vmalloc_kib();
        for i in 0..50 {
            cycle(i);
        }
        let growth = vmalloc_kib() - before;
        assert!(
            growth < NOISE_KIB,
            "fifty sessions left {growth} KiB of vmalloc"
        );
    });
}

#[test]
fn a_killed_owner_leaves_nothing() {
    guest::test(|_| {
        let _module = module::load_idle();
        let program = Program::load(&LOAD);
        let (heard, tell) = rustix::pipe::pipe().unwrap();
        let cycle = || {
            // SAFETY: The child makes system calls and uses the allocator, which the C library keeps
            // usable in the child of a program with several threads.
            let owner = match unsafe { libc::fork() } {
                -1 => panic!("cannot fork: {}", io::Error::last_os_error()),
                0 => {
                    let session = Session::running(small(mode::DISCARD));
                    let added = session.add(program.pid()).is_ok();
                    wait_for_hits(&session, 100);
                    let _ = rustix::io::write(&tell, &[u8::from(added)]);
                    loop {
                        // SAFETY: Waits for a signal.
                        unsafe { libc::pause() };
                    }
                }
                child => child,
            };
            let mut added = [0];
            rustix::io::read(&heard, &mut added).unwrap();
            assert_eq!(added, [1], "the owner could not record");
            assert_probed();
            let mut status = 0;
            // SAFETY: A child of ours; `status` is ours.
            unsafe {
                assert_eq!(libc::kill(owner, libc::SIGKILL), 0);
                assert_eq!(libc::waitpid(owner, &raw mut status, 0), owner);
            }
            assert!(libc::WIFSIGNALED(status), "wait status {status:#x}");
            assert_not_probed("after the owner was killed");
        };
        cycle();
        let before = vmalloc_kib();
        for _ in 0..20 {
            cycle();
        }
        let growth = vmalloc_kib() - before;
        assert!(
            growth < NOISE_KIB * 20 / 50,
            "twenty killed owners left {growth} KiB of vmalloc"
        );
    });
}

/// At each moment of its way in: while it opens, is configured, names targets, starts, and waits for RCU in between.
#[test]
fn a_recorder_that_is_killed_while_it_starts_leaves_nothing() {
    guest::test(|_| {
        let _module = module::load_idle();
        let program = Program::load(&LOAD);
        let pid = program.pid().to_string();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("faults.arrows");
        let record = ["record", "-q", "-o", file.to_str().unwrap()];
        let ways: [&[&str]; 4] = [
            &["-p", &pid],
            &["-p", &pid, "--latency", "-g"],
            &["-a", "--except", "name=nobody"],
            &["-p", &pid, "--hook", "kprobe", "--ring-size", "16M"],
        ];
        let device = Session::open().unwrap();
        let mut were_running = 0;
        for (step, way) in (0..48).zip(ways.into_iter().cycle()) {
            let mut recorder = tool::command(&[&record[..], way].concat()).spawn().unwrap();
            // Not to wait for anything: to be somewhere else each time.
            std::thread::sleep(Duration::from_millis(step * 20));
            were_running += u32::from(!device.overviews().is_empty());
            recorder.kill().unwrap();
            recorder.wait().unwrap();
            let left = device.overviews();
            assert!(left.is_empty(), "after {} ms: {left:?}", step * 20);
            assert_not_probed("after the recorder was killed");
        }
        assert!(
            (1..48).contains(&were_running),
            "{were_running} of 48 had started"
        );
        let trace = Trace::of_command(&["--latency"], &["ls", "/"]);
        trace.assert_balance();
    });
}

#[test]
fn nothing_is_probed_while_nobody_records() {
    guest::test(|_| {
        let _module = module::load_idle();
        assert_not_probed("after loading");
        let program = Program::load(&LOAD);
        let [first, second] = [(); 2].map(|()| Session::idle(small(mode::DISCARD)));
        first.add(program.pid()).unwrap();
        assert_not_probed("while a session is idle");
        first.start().unwrap();
        assert_probed();
        second.start().unwrap();
        first.stop().unwrap();
        assert_probed();
        second.stop().unwrap();
        assert_not_probed("when both sessions are stopped");
        let hits = first.totals().hits;
        assert!(first.overviews().is_empty(), "no session runs");
        let recording = first.collect(&[]);
        assert_eq!(
            recording.len() as u64 + recording.lost(),
            hits,
            "a stopped session is drained"
        );
    });
}

#[test]
fn sessions_come_and_go_under_load_beside_one_that_stays() {
    guest::test(|_| {
        let _module = module::load_idle();
        let program = Program::load(&["spin", "--threads", "4", "--fork"]);
        let staying = Session::running(small(mode::OVERWRITE));
        staying.add(program.pid()).unwrap();
        for _ in 0..20 {
            let session = Session::running(small(mode::DISCARD));
            session.add(program.pid()).unwrap();
            wait_for_hits(&session, 50);
            let recording = session.finish();
            let targets = session.info().live_targets;
            assert_eq!(targets, 0, "a stopped session has no targets");
            assert!(!recording.is_empty());
        }
        let hits = staying.totals().hits;
        wait_for_hits(&staying, hits + 100);
        program.kill();
        staying.finish();
    });
}

#[test]
fn what_was_begun_for_a_session_does_not_reach_the_next_in_its_place() {
    guest::test(|_| {
        let _module = module::load_idle();
        let load = Program::load(&["spin", "--threads", "8", "--fork"]);
        let own = guest::own_pid();
        // While it is there, the kernel's probes stay, so that the end of no other session waits for whoever is in them.
        let _beside = Session::configured(sideband::config());
        for _ in 0..guest::number_of("FT_LOADS", 10) {
            // It ends while processors are about to write of the load's processes for it.
            let before = Session::configured(sideband::config());
            before.add(load.pid()).unwrap();
            wait_for_hits(&before, 100);
            std::thread::sleep(Duration::from_millis(50));
            before.stop().unwrap();
            drop(before);
            let session = Session::configured(sideband::config());
            session.add(own).unwrap();
            guest::touch_fresh(50);
            // Whoever was held up for long comes meanwhile.
            std::thread::sleep(Duration::from_millis(300));
            let trace = sideband::Trace::finish(&session, &[]);
            let mut faults = 0;
            for record in trace.cpus.iter().flatten() {
                let pid = match record {
                    Record::Fault(fault) => {
                        faults += 1;
                        fault.pid()
                    }
                    Record::Task(task) => task.pid,
                    Record::Exit(exit) => exit.pid,
                    Record::Mapping(mapping) => mapping.pid,
                    Record::Lost(_) => continue,
                };
                assert_eq!(pid, own.unsigned_abs(), "{record:?}");
            }
            assert!(faults >= 50, "{faults}");
        }
        load.kill();
    });
}

#[test]
fn hundreds_of_targets_that_end_leave_no_live_target() {
    guest::test(|_| {
        let _module = module::load_idle();
        let session = Session::running(small(mode::OVERWRITE));
        let mut program = Program::workload(
            &["storm", "--threads", "8", "--rounds", "60", "--pages", "4"],
            None,
            None,
        );
        session.add(program.pid()).unwrap();
        program.go();
        program.wait().assert_success();
        assert_eq!(session.info().live_targets, 0);
        session.finish();
    });
}
