// SPDX-License-Identifier: GPL-2.0-only

//! Processes that are chosen by what they are: control group, user, program, name; and exceptions.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::{fd::AsRawFd as _, unix::fs::PermissionsExt as _},
    process::Command,
    thread,
    time::Duration,
};

use fault_tracer_uapi::{self as uapi, rule_flag, rule_kind};
use sandbox_tests::{
    device::Session,
    group::Group,
    guest, module, program,
    tool::{self, Recorder},
    truth::Truth,
};

/// A trace in a folder that goes when dropped.
struct Trace {
    _folder: tempfile::TempDir,
    file: String,
}

/// What a line of the CSV says.
#[derive(Debug)]
struct Line {
    pid: u32,
    address: u64,
    process: String,
}

impl Trace {
    /// That of a recording that runs as long as a command.
    fn during(options: &[&str], command: &[&str]) -> Self {
        let trace = Self::none();
        let arguments = [
            &["record", "--ring-size", "16M", "-o", &trace.file],
            options,
            &["--"],
            command,
        ]
        .concat();
        tool::run(&arguments, 0);
        trace
    }

    fn none() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("faults.arrows");
        Self {
            file: file.to_str().unwrap().to_owned(),
            _folder: folder,
        }
    }

    fn lines(&self) -> Vec<Line> {
        tool::columns(&self.file, ["pid", "address", "process"], &[])
            .into_iter()
            .map(|[pid, address, process]| Line {
                pid: pid.parse().unwrap(),
                address: u64::from_str_radix(address.trim_start_matches("0x"), 16).unwrap(),
                process,
            })
            .collect()
    }

    /// How many faults each process has, by its name.
    fn processes(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for line in self.lines() {
            *counts.entry(line.process).or_default() += 1;
        }
        counts
    }

    #[track_caller]
    fn assert_proven(&self) -> String {
        let text = tool::run(&["verify", &self.file], 0);
        assert!(text.contains("difference 0"), "{text}");
        text
    }
}

#[test]
fn a_control_group_is_followed_while_a_thousand_processes_move_in_and_out() {
    guest::test(|_| {
        let _module = module::load_idle();
        let (inside, outside) = (Group::new("inside"), Group::new("outside"));
        let below = Group::new("inside/below");
        let truth_file = tempfile::NamedTempFile::new().unwrap();
        let workload = program::find("ft-workload").to_str().unwrap().to_owned();
        let trace = Trace::during(
            &["--cgroup", "/inside"],
            &[
                &workload,
                "--truth",
                truth_file.path().to_str().unwrap(),
                "commuters",
                "--inside",
                below.path(),
                "--outside",
                outside.path(),
            ],
        );
        let text = trace.assert_proven();
        // Each goes in twice and out twice, or ends inside.
        assert!(
            text.contains("2,000 threads from beginning to end"),
            "{text}"
        );
        assert!(
            text.contains("1,500 of them went on and were traced no more"),
            "{text}"
        );
        let truth = Truth::read(truth_file.path());
        assert_eq!(truth.processes().len(), 1000);
        let expected: BTreeSet<(u32, u64)> = truth
            .faults
            .iter()
            .map(|fault| (fault.pid, fault.address & !(guest::page_size() as u64 - 1)))
            .collect();
        let lines = trace.lines();
        let found: Vec<(u32, u64)> = lines
            .iter()
            .map(|line| (line.pid, line.address & !(guest::page_size() as u64 - 1)))
            .filter(|&(pid, address)| truth.covers(pid, address))
            .collect();
        assert_eq!(found.len(), expected.len());
        assert!(found.into_iter().collect::<BTreeSet<_>>() == expected);
        let pids: BTreeSet<u32> = lines.iter().map(|line| line.pid).collect();
        assert_eq!(pids, truth.processes());
        drop((below, inside));
    });
}

/// A shell script whose programs are known.
const SCRIPT: &str =
    "for i in 1 2 3 4 5; do ls / >/dev/null; cat /etc/passwd | grep -c root >/dev/null; done";

#[test]
fn programs_and_names_are_chosen_from_their_exec_on() {
    guest::test(|_| {
        let _module = module::load_idle();
        let command = ["sh", "-c", SCRIPT];
        for options in [
            &["--exe", "/bin/ls", "--exe", "/usr/bin/grep"][..],
            &["--name", "ls", "--name", "grep"],
        ] {
            let trace = Trace::during(options, &command);
            let text = trace.assert_proven();
            assert!(text.contains("10 threads from beginning to end"), "{text}");
            let names: Vec<String> = trace.processes().into_keys().collect();
            assert_eq!(names, ["grep", "ls"], "{options:?}");
        }
        // The name is there a little before the exec is over, from which on a command is traced.
        let by_name = Trace::during(&["--name", "ls"], &["ls", "/"]);
        let by_command = Trace::during(&[], &["ls", "/"]);
        let count = |trace: &Trace| trace.processes().get("ls").copied().unwrap_or(0);
        let (by_name, by_command) = (count(&by_name), count(&by_command));
        assert!(
            (by_command..by_command + 20).contains(&(by_name + 5)) && by_command > 50,
            "{by_name} by name, {by_command} as a command"
        );
    });
}

#[test]
fn who_has_another_name_or_program_then_is_traced_no_more() {
    guest::test(|_| {
        let _module = module::load_idle();
        // The shell is called sh, then true, then it is gone.
        let trace = Trace::during(
            &["--name", "sh"],
            &[
                "sh",
                "-c",
                "echo >/dev/null; exec cat /etc/passwd >/dev/null",
            ],
        );
        let text = trace.assert_proven();
        assert!(
            text.contains("1 of them went on and were traced no more"),
            "{text}"
        );
        let names: Vec<String> = trace.processes().into_keys().collect();
        assert_eq!(names, ["sh"]);
    });
}

#[test]
fn users_are_chosen_whatever_they_were_before() {
    guest::test(|_| {
        let _module = module::load_idle();
        let script = "ls / >/dev/null; setpriv --reuid 4321 --clear-groups sh -c 'ls / >/dev/null; cat /etc/passwd >/dev/null'; ls / >/dev/null";
        let trace = Trace::during(&["--user", "4321"], &["sh", "-c", script]);
        trace.assert_proven();
        let processes = trace.processes();
        let names: Vec<&str> = processes.keys().map(String::as_str).collect();
        // setpriv is it from the moment on when it is another user, until it executes the shell.
        assert!(
            names.contains(&"sh") && names.contains(&"ls") && names.contains(&"cat"),
            "{names:?}"
        );
        let pids: BTreeSet<u32> = trace.lines().iter().map(|line| line.pid).collect();
        assert_eq!(pids.len(), 3, "{processes:?}");
    });
}

#[test]
fn all_but_some() {
    guest::test(|_| {
        let _module = module::load_idle();
        let trace = Trace::none();
        let recorder = Recorder::start(&[
            "record",
            "-a",
            "--except",
            "name=ls",
            "--except",
            "exe=/usr/bin/grep",
            "--except",
            &format!("pid={}", std::process::id()),
            "-o",
            &trace.file,
        ]);
        let info = Session::open().unwrap().overview(0);
        assert_eq!(info.rules, 3, "{info:?}");
        let text = tool::run(&["status"], 0);
        assert!(text.contains("chosen by 3 rules"), "{text}");
        assert!(Command::new("sh")
            .args(["-c", SCRIPT])
            .status()
            .unwrap()
            .success());
        recorder.end();
        trace.assert_proven();
        let processes = trace.processes();
        assert!(
            processes.contains_key("sh") && processes.contains_key("cat"),
            "{processes:?}"
        );
        for not in ["ls", "grep"] {
            assert!(!processes.contains_key(not), "{not}: {processes:?}");
        }
        let own = std::process::id();
        assert!(trace.lines().iter().all(|line| line.pid != own));
    });
}

/// A rule of this kind and value.
fn rule(kind: u32, value: u64) -> uapi::Rule {
    uapi::Rule {
        kind,
        value,
        ..uapi::Rule::default()
    }
}

fn named(name: &[u8]) -> uapi::Rule {
    let mut rule = rule(rule_kind::NAME, 0);
    for (to, from) in rule.name.iter_mut().zip(name) {
        *to = *from;
    }
    rule
}

fn except(rule: uapi::Rule) -> uapi::Rule {
    uapi::Rule {
        flags: rule_flag::EXCEPT,
        ..rule
    }
}

#[test]
fn rules_that_make_no_sense_are_refused() {
    guest::test(|_| {
        let _module = module::load_idle();
        let add = |session: &Session, mut rule: uapi::Rule| {
            let result = session.with(uapi::FT_IOC_RULE_ADD, &mut rule);
            result.map_err(|error| error.raw_os_error().unwrap())
        };
        let session = Session::open().unwrap();
        add(&session, rule(rule_kind::USER, 7)).unwrap();
        for bad in [
            rule(rule_kind::NONE, 7),
            rule(6, 7),
            rule(rule_kind::USER, 1 << 32),
            rule(rule_kind::USER, u32::MAX.into()),
            rule(rule_kind::CGROUP, 0),
            rule(rule_kind::PROCESS, 1 << 40),
            rule(rule_kind::PROCESS, u64::MAX),
            named(b""),
            named(&[b'x'; 16]),
            uapi::Rule {
                flags: 2,
                ..rule(rule_kind::USER, 7)
            },
            uapi::Rule {
                value: 1,
                ..named(b"ls")
            },
            uapi::Rule {
                name: [1; 16],
                ..rule(rule_kind::USER, 7)
            },
        ] {
            assert_eq!(add(&session, bad), Err(libc::EINVAL), "{bad:?}");
        }
        for descriptor in [u64::MAX, 1000, 1 << 33] {
            let bad = rule(rule_kind::EXECUTABLE, descriptor);
            assert_eq!(add(&session, bad), Err(libc::EBADF));
        }
        let nobody = rule(rule_kind::PROCESS, 4_000_000);
        assert_eq!(add(&session, nobody), Err(libc::ESRCH));
        for _ in 1..uapi::RULES_MAX {
            add(&session, named(b"ls")).unwrap();
        }
        assert_eq!(add(&session, named(b"ls")), Err(libc::ENOSPC));
        // It is as good as before.
        session.start().unwrap();
        assert_eq!(add(&session, named(b"ls")), Err(libc::EINVAL));
        drop(session);

        // Names beside rules, either way round.
        let session = Session::open().unwrap();
        session.add(1).unwrap();
        assert_eq!(add(&session, named(b"ls")), Err(libc::EINVAL));
        let session = Session::open().unwrap();
        add(&session, named(b"ls")).unwrap();
        assert_eq!(
            session.add(1).unwrap_err().raw_os_error(),
            Some(libc::EINVAL)
        );

        // What is seen at the start alone.
        let file = fs::File::open("/usr/bin/ls").unwrap();
        // CAST: descriptors are not negative.
        let program = rule(rule_kind::EXECUTABLE, file.as_raw_fd() as u64);
        for rules in [
            &[except(named(b"ls"))][..],
            &[rule(rule_kind::CGROUP, 7), program],
        ] {
            let session = Session::open().unwrap();
            for &rule in rules {
                add(&session, rule).unwrap();
            }
            let error = session.start().unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EINVAL), "{rules:?}");
        }
    });
}

#[test]
fn what_cannot_be_chosen_is_said() {
    guest::test(|_| {
        let _module = module::load_idle();
        let file = "/dev/null";
        for (options, word) in [
            (&["--user", "nosuchuser"][..], "there is no user nosuchuser"),
            (
                &["--cgroup", "/no/such"],
                "there is no /sys/fs/cgroup/no/such",
            ),
            (&["--cgroup", "/tmp"], "/tmp is none"),
            (
                &["--exe", "/no/such"],
                "the program /no/such cannot be looked at",
            ),
            (&["--exe", "/tmp"], "/tmp is no file that can be executed"),
        ] {
            let arguments = [&["record", "-o", file], options].concat();
            let text = tool::run(&arguments, 1);
            assert!(text.contains(word), "{text}");
        }
    });
}

#[test]
fn a_session_by_rules_lives_on_without_a_target() {
    guest::test(|_| {
        let _module = module::load_idle();
        let folder = tempfile::tempdir().unwrap();
        let script = folder.path().join("late");
        fs::copy("/usr/bin/true", &script).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        let script = script.to_str().unwrap();
        let trace = Trace::none();
        let mut recorder = Recorder::start(&["record", "--exe", script, "-o", &trace.file]);
        thread::sleep(Duration::from_secs(2));
        for _ in 0..3 {
            assert!(Command::new(script).status().unwrap().success());
        }
        thread::sleep(Duration::from_secs(1));
        assert!(recorder.is_running(), "it has ended by itself");
        recorder.end();
        let text = trace.assert_proven();
        assert!(text.contains("3 threads from beginning to end"), "{text}");
    });
}
