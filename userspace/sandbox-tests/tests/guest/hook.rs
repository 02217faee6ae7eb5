// SPDX-License-Identifier: GPL-2.0-only

//! The ftrace hook sees what the kprobe sees, beside it and beside the tracers of others.

use std::{
    fs,
    process::{Command, Stdio},
    thread,
};

use fault_tracer_uapi::{mode, session_flag, Config, FaultRecord};
use sandbox_tests::{
    check,
    device::{Recording, Session},
    guest, module,
    program::Program,
    tool::{self, run},
    trace::{matches, Trace, Traced},
};

/// A running session with these flags besides.
fn session(flags: u32) -> Session {
    Session::configured(Config {
        ring_bytes: 16 << 20,
        mode: mode::DISCARD,
        flags: session_flag::FOLLOW | flags,
        ..Config::default()
    })
}

/// Address, instruction pointer, flags and minor-fault counter of a record.
type Seen = (u64, u64, u64, u64);

/// The records of all threads in their order, as far as both hooks know them: all but the time.
fn faults(recording: &Recording) -> Vec<(u32, Vec<Seen>)> {
    let fault = |record: &FaultRecord| {
        (
            record.address(),
            record.ip(),
            record.flags(),
            u64::from(record.min_flt_low()),
        )
    };
    check::by_thread(recording)
        .into_iter()
        .map(|((_, tid), records)| (tid, records.iter().map(fault).collect()))
        .collect()
}

/// What both hooks record of a program that runs meanwhile.
fn beside_each_other(arguments: &[&str]) {
    let mut program = Program::workload(arguments, None, None);
    let sessions = [session(0), session(session_flag::FTRACE)];
    for session in &sessions {
        session.add(program.pid()).unwrap();
    }
    program.go();
    program.wait().assert_success();
    let recordings = sessions.map(|session| {
        let recording = session.finish();
        recording.assert_complete();
        recording
    });
    let [kprobe, ftrace] = recordings.map(|recording| faults(&recording));
    assert!(kprobe.iter().map(|(_, faults)| faults.len()).sum::<usize>() > 1000);
    assert_eq!(kprobe, ftrace);
}

#[test]
fn both_hooks_record_the_same_faults() {
    guest::test(|_| {
        let _module = module::load_idle();
        beside_each_other(&["touch", "--pages", "3000", "--threads", "4"]);
        beside_each_other(&["children", "--count", "50", "--how", "exec"]);
    });
}

/// Others that trace the very function.
struct Other {
    name: &'static str,
    begin: fn() -> Box<dyn FnOnce()>,
}

fn tracefs(file: &str, text: &str) {
    let path = format!("/sys/kernel/tracing/{file}");
    fs::write(&path, text).unwrap_or_else(|error| panic!("{path}: {error}"));
}

const OTHERS: [Other; 4] = [
    Other {
        name: "the function tracer",
        begin: || {
            tracefs("set_ftrace_filter", "handle_mm_fault");
            tracefs("current_tracer", "function");
            Box::new(|| {
                tracefs("current_tracer", "nop");
                tracefs("set_ftrace_filter", "");
            })
        },
    },
    Other {
        name: "a kprobe event",
        begin: || {
            tracefs("kprobe_events", "p:other handle_mm_fault");
            tracefs("events/kprobes/other/enable", "1");
            Box::new(|| {
                tracefs("events/kprobes/other/enable", "0");
                tracefs("kprobe_events", "");
            })
        },
    },
    Other {
        name: "a kretprobe event",
        begin: || {
            tracefs("kprobe_events", "r:other handle_mm_fault");
            tracefs("events/kprobes/other/enable", "1");
            Box::new(|| {
                tracefs("events/kprobes/other/enable", "0");
                tracefs("kprobe_events", "");
            })
        },
    },
    Other {
        name: "bpf's fentry and fexit",
        begin: || {
            let program = "fentry:handle_mm_fault { @in = count(); } fexit:handle_mm_fault { @out = count(); } \
                           BEGIN { printf(\"ready\\n\"); }";
            let mut child = Command::new("bpftrace")
                .args(["-e", program])
                .stdout(Stdio::piped())
                .spawn()
                .expect("bpftrace runs");
            let mut lines = std::io::BufRead::lines(std::io::BufReader::new(
                child.stdout.take().expect("a pipe"),
            ));
            assert!(
                lines.any(|line| line.is_ok_and(|line| line.contains("ready"))),
                "bpftrace has not attached"
            );
            let drain = thread::spawn(move || lines.for_each(drop));
            Box::new(move || {
                child.kill().unwrap();
                child.wait().unwrap();
                drain.join().unwrap();
            })
        },
    },
];

#[test]
fn nothing_is_missed_beside_the_tracers_of_others() {
    guest::test(|_| {
        let _module = module::load_idle();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("faults");
        let file = file.to_str().unwrap();
        for Other { name, begin } in OTHERS {
            // They come and go before the recording, and while it runs.
            let end = begin();
            let command = ["ft-workload", "touch", "--pages", "500", "--threads", "3"];
            for latency in [&[][..], &["--latency"]] {
                let hook = if latency.is_empty() || module::RETURNS_AFTER_FTRACE {
                    "ftrace"
                } else {
                    "kprobe"
                };
                let record = ["record", "--hook", hook, "-o", file];
                let record = [&record[..], latency, &["--"], &command].concat();
                run(&record, 0);
                let text = run(&["verify", file], 0);
                assert!(text.contains("difference 0"), "{name}: {text}");
            }
            let mut load = tool::command(&["record", "--hook", "ftrace", "-a", "-o", file])
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            let session = Session::open().unwrap();
            while session.overviews().is_empty() {
                thread::yield_now();
            }
            end();
            let end = begin();
            guest::touch_fresh(2000);
            // SAFETY: The recorder is a child that has not been waited for.
            assert_eq!(unsafe { libc::kill(load.id() as i32, libc::SIGINT) }, 0);
            assert!(load.wait().unwrap().success());
            end();
            let text = run(&["verify", file], 0);
            assert!(text.contains("difference 0"), "{name}: {text}");
        }
    });
}

#[test]
fn every_fault_is_explained_by_either_hook() {
    guest::test(|_| {
        let _module = module::load_idle();
        for hook in ["kprobe", "ftrace"] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("truth");
            let program = Program::workload(&["touch", "--pages", "2000"], Some(&path), None);
            let Traced { trace, usage, .. } = Trace::of_program(&["--hook", hook], program);
            usage.assert_success();
            trace.assert_balance();
            let truth = sandbox_tests::truth::Truth::read(&path);
            assert_eq!(matches(&truth, &trace.faults()).len(), 2000, "{hook}");
        }
    });
}

#[test]
fn the_environment_chooses_the_hook_that_the_command_line_leaves_open() {
    guest::test(|_| {
        let _module = module::load_idle();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("faults");
        let record = |variable: &str, options: &[&str]| {
            // What is traced tells how.
            tool::command(&["record", "-q", "-o"])
                .arg(&file)
                .args(options)
                .args(["--", "fault-tracer", "status"])
                .env("FAULT_TRACER_HOOK", variable)
                .output()
                .unwrap()
        };
        let output = record("fprobe", &[]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(125), "{said}");
        assert!(said.contains("FAULT_TRACER_HOOK"), "{said}");
        assert!(!file.exists());
        for (variable, options, is_ftrace) in [
            ("", &[][..], true),
            ("ftrace", &[], true),
            ("kprobe", &[], false),
            ("kprobe", &["--hook", "ftrace"], true),
            ("ftrace", &["--hook", "kprobe"], false),
        ] {
            let output = record(variable, options);
            assert!(output.status.success(), "{output:?}");
            let said = String::from_utf8_lossy(&output.stdout);
            assert_eq!(said.contains("by ftrace"), is_ftrace, "{variable}: {said}");
        }
    });
}

/// `kernel.ftrace_enabled`, put back when dropped.
struct FtraceEnabled;

impl FtraceEnabled {
    const FILE: &str = "/proc/sys/kernel/ftrace_enabled";

    fn set(text: &str) -> std::io::Result<()> {
        fs::write(Self::FILE, text)
    }
}

impl Drop for FtraceEnabled {
    fn drop(&mut self) {
        let _ = Self::set("1");
    }
}

#[test]
fn where_ftrace_is_switched_off_nothing_starts_and_nobody_silences_what_runs() {
    guest::test(|log| {
        let _module = module::load_idle();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("faults");
        let file = file.to_str().unwrap();
        let _back = FtraceEnabled;
        if let Err(error) = FtraceEnabled::set("0") {
            // From 7.3 on, nobody can switch it off.
            assert_eq!(error.raw_os_error(), Some(libc::EOPNOTSUPP));
            return;
        }
        // A kprobe at a function's entry is ftrace's, too: it does not hear, either.
        for hook in ["ftrace", "auto", "kprobe"] {
            let text = run(&["record", "--hook", hook, "-o", file, "--", "true"], 125);
            assert!(text.contains("kernel.ftrace_enabled=1"), "{hook}: {text}");
            assert!(!std::path::Path::new(file).exists());
        }
        let said = log.of_module().join("\n");
        assert!(said.contains("ftrace_enabled"), "{said}");
        FtraceEnabled::set("1").unwrap();
        run(&["record", "-o", file, "--", "true"], 0);
        run(&["verify", file], 0);
        // Nobody silences a recording that runs.
        let session = session(session_flag::FTRACE);
        session.add(guest::own_pid()).unwrap();
        assert!(FtraceEnabled::set("0").is_err(), "the hook can be silenced");
        guest::touch_fresh(100);
        session.stop().unwrap();
        assert!(session.totals().recorded >= 100);
    });
}

#[test]
fn hooks_come_and_go_while_threads_fault() {
    guest::test(|_| {
        let load = [
            Program::load(&["spin", "--threads", "3", "--pages", "64"]),
            Program::load(&["children", "--count", "100000000", "--how", "exec"]),
        ];
        for turn in 0..12 {
            let module = module::load_idle();
            let first = session(session_flag::FTRACE);
            let mut hooks = vec![session_flag::FTRACE, 0, session_flag::LATENCY];
            if module::RETURNS_AFTER_FTRACE {
                hooks.push(session_flag::FTRACE | session_flag::LATENCY);
            }
            let second = session(hooks[turn % hooks.len()]);
            for program in &load {
                first.add(program.pid()).unwrap();
                second.add(program.pid()).unwrap();
            }
            while first.totals().hits < 100 || second.totals().hits < 100 {
                thread::yield_now();
            }
            drop((first, second));
            module.unload().unwrap();
        }
    });
}
