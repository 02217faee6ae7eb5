// SPDX-License-Identifier: GPL-2.0-only

//! `fault-tracer drain` and `fault-tracer status`, end to end.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Child, ExitStatus, Output, Stdio},
    time::Duration,
};

use sandbox_tests::{
    device::Session,
    guest, module,
    program::{self, Program},
    tool::command as tool,
    truth::{Fault, Truth},
};

/// Runs the tool to its end.
fn run(arguments: &[&str]) -> Output {
    tool(arguments).output().expect("cannot run the tool")
}

#[track_caller]
fn assert_status(output: &Output, expected: i32) {
    assert_eq!(
        output.status.code(),
        Some(expected),
        "exit status; standard error was:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// A CSV as the tool writes it.
struct Csv {
    faults: Vec<Fault>,
    times: Vec<u64>,
    /// hits, recorded, dropped, overwritten, missed
    account: [u64; 5],
}

fn read_csv(path: &Path) -> Csv {
    let text = fs::read_to_string(path)
        .unwrap_or_else(|error| panic!("no CSV in {}: {error}", path.display()));
    parse_csv(&text).unwrap_or_else(|line| panic!("{}: not understood: {line}", path.display()))
}

fn parse_csv(text: &str) -> Result<Csv, String> {
    let mut lines = text.lines().filter(|line| !line.starts_with('#'));
    let header = lines.next();
    if header != Some("time_ns,cpu,pid,tid,address,ip,access,flags") {
        return Err(format!("{header:?}"));
    }
    let mut faults = Vec::new();
    let mut times = Vec::new();
    for line in lines {
        let (time, fault) = parse_line(line).ok_or(line)?;
        times.push(time);
        faults.push(fault);
    }
    let account = text
        .lines()
        .rev()
        .find_map(|line| line.strip_prefix("# hits="))
        .ok_or("no line of the account")?;
    let numbers: Vec<u64> = account
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|word| word.parse().ok())
        .collect();
    Ok(Csv {
        faults,
        times,
        account: numbers.try_into().map_err(|_| account)?,
    })
}

fn parse_line(line: &str) -> Option<(u64, Fault)> {
    let fields: Vec<&str> = line.split(',').collect();
    let &[time, _cpu, pid, tid, address, ip, access, flags] = fields.as_slice() else {
        return None;
    };
    let hex = |text: &str| u64::from_str_radix(text.strip_prefix("0x")?, 16).ok();
    hex(ip)?;
    let flags: Vec<&str> = flags
        .split('|')
        .filter(|flag| !["tried", "vma-lock", ""].contains(flag))
        .collect();
    let fault = Fault {
        pid: pid.parse().ok()?,
        tid: tid.parse().ok()?,
        address: hex(address)?,
        access: access.into(),
        flags: if flags.is_empty() {
            "-".into()
        } else {
            flags.join(",")
        },
    };
    Some((time.parse().ok()?, fault))
}

impl Csv {
    /// Checks that it is in the order of time and that its account balances.
    fn assert_sound(&self) {
        assert!(
            self.times.is_sorted(),
            "the lines are not in the order of time"
        );
        let [hits, recorded, dropped, overwritten, _] = self.account;
        assert_eq!(hits, recorded + dropped + overwritten, "{:?}", self.account);
        assert_eq!(
            recorded,
            self.faults.len() as u64,
            "faults in the file; the account is {:?}",
            self.account
        );
    }

    /// Checks that nothing was lost, and that exactly the faults of the truth are there in their order.
    /// The CSV does not tell which attempts were made again: each page of the truth faults once, so what
    /// stands for one page twice in a row is one fault.
    fn assert_matches(&self, truth: &Truth) {
        self.assert_sound();
        assert_eq!(self.account[2..], [0; 3], "dropped, overwritten, missed");
        let mut expected = BTreeMap::<_, Vec<&Fault>>::new();
        for fault in &truth.faults {
            expected.entry(fault.tid).or_default().push(fault);
        }
        let mut seen = BTreeMap::<_, Vec<&Fault>>::new();
        for fault in &self.faults {
            if truth.covers(fault.pid, fault.address) {
                seen.entry(fault.tid).or_default().push(fault);
            }
        }
        for faults in seen.values_mut() {
            faults.dedup();
        }
        let count = |map: &BTreeMap<u32, Vec<&Fault>>| map.values().map(Vec::len).sum::<usize>();
        assert!(
            seen == expected,
            "{} faults in the CSV, {} reported by the program, or in another order",
            count(&seen),
            count(&expected)
        );
    }
}

struct Files {
    _folder: tempfile::TempDir,
    truth: PathBuf,
    csv: PathBuf,
}

impl Files {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self {
            truth: folder.path().join("truth"),
            csv: folder.path().join("faults.csv"),
            _folder: folder,
        }
    }

    fn csv(&self) -> &str {
        self.csv.to_str().unwrap()
    }

    fn truth(&self) -> &str {
        self.truth.to_str().unwrap()
    }
}

/// Waits until a session runs that has seen that many faults.
fn wait_for_session(hits: u64) {
    let session = Session::open().unwrap();
    while !session.overviews().iter().any(|info| info.hits >= hits) {
        // No event tells of either.
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn interrupt(child: &Child, signal: i32) {
    // SAFETY: A system call on a child of ours that was not waited for, so that the id is its.
    assert_eq!(unsafe { libc::kill(child.id() as libc::pid_t, signal) }, 0);
}

fn finish(child: Child) -> (ExitStatus, String) {
    let output = child.wait_with_output().unwrap();
    (
        output.status,
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

#[test]
fn drain_of_a_command_writes_every_fault() {
    guest::test(|_| {
        let _module = module::load_idle();
        for arguments in [
            &[
                "touch",
                "--threads",
                "4",
                "--order",
                "random",
                "--pages",
                "500",
            ][..],
            &["children", "--count", "100", "--pages", "10"],
        ] {
            let files = Files::new();
            let mut line = vec![
                "drain",
                "--comments",
                "-o",
                files.csv(),
                "--",
                program::WORKLOAD,
            ];
            line.extend(arguments);
            line.extend(["--truth", files.truth()]);
            let output = run(&line);
            assert_status(&output, 0);
            assert!(!output.stderr.is_empty(), "a summary on standard error");
            assert!(output.stdout.is_empty(), "standard output is the command's");
            read_csv(&files.csv).assert_matches(&Truth::read(&files.truth));
        }
    });
}

#[test]
fn drain_to_standard_output_and_without_following() {
    guest::test(|_| {
        let _module = module::load_idle();
        let files = Files::new();
        let mut program =
            Program::workload(&["children", "--count", "5"], Some(&files.truth), None);
        let pid = program.pid().to_string();
        let child = tool(&["drain", "--comments", "--no-follow", "--pid", &pid])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        wait_for_session(0);
        program.go();
        program.wait().assert_success();
        let output = child.wait_with_output().unwrap();
        assert_status(&output, 0);
        let csv = parse_csv(&String::from_utf8(output.stdout).unwrap()).unwrap();
        csv.assert_sound();
        let children = Truth::read(&files.truth).processes();
        assert_eq!(children.len(), 5);
        assert!(!csv.faults.is_empty());
        assert!(
            csv.faults
                .iter()
                .all(|fault| !children.contains(&fault.pid)),
            "a child was followed"
        );
    });
}

#[test]
fn drain_ends_with_the_status_of_the_command() {
    guest::test(|_| {
        let _module = module::load_idle();
        let files = Files::new();
        let mut line = vec!["drain", "--comments", "-o", files.csv(), "--"];
        for (command, expected) in [
            (&["true"][..], 0),
            (&["false"], 1),
            (&["sh", "-c", "exit 7"], 7),
            (&["sh", "-c", "kill -KILL $$"], 128 + libc::SIGKILL),
        ] {
            line.truncate(5);
            line.extend(command);
            assert_status(&run(&line), expected);
            read_csv(&files.csv).assert_sound();
        }
    });
}

#[test]
fn bad_input_is_refused_and_an_existing_file_stays() {
    guest::test(|_| {
        let files = Files::new();
        fs::write(&files.csv, "precious").unwrap();
        let none = ((1 << 22) - 1).to_string();
        let csv = files.csv();
        // Without the module, too, which is said.
        let output = run(&["drain", "--comments", "-o", csv, "--pid", "1"]);
        assert!(
            matches!(output.status.code(), Some(1..)),
            "{}",
            output.status
        );
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(text.contains("modprobe fault_tracer"), "{text}");

        let _module = module::load_idle();
        for (arguments, status) in [
            (&["--pid", &none][..], 1),
            (&["--pid", "-5"], 2),
            (&["--pid", "0"], 2),
            (&["--pid", "abc"], 2),
            (&["--ring-kib", "3", "--pid", "1"], 2),
            (&["--ring-kib", "0", "--", "true"], 2),
            (&["--ring-kib", "1048576", "--", "true"], 125),
            (&["--mode", "neither", "--", "true"], 2),
            (&["--", "/no/such/command"], 127),
            (&["--", "no-such-command"], 127),
            (&["--", "/etc/passwd"], 126),
            // There is no session to adopt.
            (&[], 1),
        ] {
            let mut line = vec!["drain", "--comments", "-o", csv];
            line.extend(arguments);
            let output = run(&line);
            assert_eq!(
                output.status.code(),
                Some(status),
                "{line:?}: exit status; standard error was:\n{}",
                String::from_utf8_lossy(&output.stderr)
            );
            assert!(!output.stderr.is_empty(), "{line:?}: nothing was said");
            assert_eq!(
                fs::read_to_string(&files.csv).unwrap(),
                "precious",
                "{line:?} changed the file"
            );
        }
    });
}

#[test]
fn drain_of_a_running_process_ends_with_it() {
    guest::test(|_| {
        let _module = module::load_idle();
        let files = Files::new();
        let mut program = Program::workload(
            &["children", "--count", "50", "--pages", "20"],
            Some(&files.truth),
            None,
        );
        let pid = program.pid().to_string();
        let child = tool(&["drain", "--comments", "-o", files.csv(), "--pid", &pid])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        wait_for_session(0);
        program.go();
        program.wait().assert_success();
        let (status, text) = finish(child);
        assert!(status.success(), "{status}: {text}");
        read_csv(&files.csv).assert_matches(&Truth::read(&files.truth));
    });
}

#[test]
fn at_a_signal_what_was_recorded_is_written() {
    guest::test(|_| {
        let _module = module::load_idle();
        let program = Program::load(&["spin", "--threads", "2"]);
        let pid = program.pid().to_string();
        for signal in [libc::SIGINT, libc::SIGTERM] {
            let files = Files::new();
            let child = tool(&["drain", "--comments", "-o", files.csv(), "--pid", &pid])
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            wait_for_session(1000);
            interrupt(&child, signal);
            let (status, text) = finish(child);
            assert!(status.success(), "signal {signal}: {status}: {text}");
            let csv = read_csv(&files.csv);
            csv.assert_sound();
            assert!(csv.faults.len() >= 1000 || csv.account[2] > 0);
        }
    });
}

#[test]
fn drain_without_a_target_adopts_the_boot_session() {
    guest::test(|_| {
        let files = Files::new();
        let mut program = Program::workload(&["touch", "--pages", "300"], Some(&files.truth), None);
        let _module = module::load(&format!("pid={}", program.pid())).unwrap();
        let child = tool(&["drain", "--comments", "-o", files.csv()])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        program.go();
        program.wait().assert_success();
        let (status, text) = finish(child);
        assert!(status.success(), "{status}: {text}");
        read_csv(&files.csv).assert_matches(&Truth::read(&files.truth));
    });
}

#[test]
fn losses_are_in_the_file_and_in_the_summary() {
    guest::test(|_| {
        let _module = module::load_idle();
        for mode in ["discard", "overwrite"] {
            let files = Files::new();
            let output = run(&[
                "drain",
                "--comments",
                "-o",
                files.csv(),
                "--ring-kib",
                &guest::smallest_ring_kib(),
                "--mode",
                mode,
                "--",
                program::WORKLOAD,
                "touch",
                "--pages",
                "50000",
            ]);
            assert_status(&output, 0);
            let csv = read_csv(&files.csv);
            csv.assert_sound();
            let [hits, _, dropped, overwritten, missed] = csv.account;
            assert!(hits > 50_000, "{:?}", csv.account);
            assert_eq!(missed, 0);
            let (lost, never) = if mode == "discard" {
                (dropped, overwritten)
            } else {
                (overwritten, dropped)
            };
            assert!(lost > 0, "{mode}: {:?}", csv.account);
            assert_eq!(never, 0, "{mode}: {:?}", csv.account);
        }
    });
}

#[test]
fn a_limit_of_file_sizes_leaves_whole_lines() {
    guest::test(|_| {
        let _module = module::load_idle();
        let files = Files::new();
        let tool = program::find("fault-tracer");
        let output = std::process::Command::new("bash")
            .args(["-c", "ulimit -f 100; exec \"$@\"", "bash"])
            .arg(tool)
            .args(["drain", "-o", files.csv(), "--"])
            .args([program::WORKLOAD, "touch", "--pages", "20000"])
            .output()
            .unwrap();
        assert_status(&output, 125);
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(text.contains("File too large"), "{text}");
        let csv = fs::read_to_string(&files.csv).unwrap();
        assert!((90 << 10..=100 << 10).contains(&csv.len()), "{}", csv.len());
        assert!(csv.ends_with('\n'));
        let mut lines = csv.lines().filter(|line| !line.starts_with('#')).skip(1);
        assert!(lines.all(|line| parse_line(line).is_some()));
    });
}

#[test]
fn status_says_what_the_module_is_doing() {
    guest::test(|_| {
        let output = run(&["status"]);
        assert_status(&output, 1);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(text.contains("modprobe fault_tracer"), "{text}");

        let said = || {
            let output = run(&["status"]);
            assert_status(&output, 0);
            String::from_utf8(output.stdout).unwrap()
        };
        let program = Program::workload(&["touch"], None, None);
        let loaded = module::load_idle();
        let text = said();
        assert!(text.contains("nothing"), "{text}");
        loaded.unload().unwrap();
        let _module = module::load(&format!("pid={}", program.pid())).unwrap();
        let text = said();
        assert!(text.contains(&program.pid().to_string()), "{text}");
        assert!(text.contains("overwrite"), "{text}");
    });
}
