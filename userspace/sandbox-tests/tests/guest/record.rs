// SPDX-License-Identifier: GPL-2.0-only

//! `fault-tracer record`, `verify` and `export`, end to end.

use std::{
    fs,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use sandbox_tests::{
    device::Session,
    guest, module,
    program::{self, Program},
    tool::{self, recorder, run},
};

/// The trace of a command in the current kernel, and its folder.
fn recorded(options: &[&str], command: &[&str]) -> (tempfile::TempDir, String, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder
        .path()
        .join("faults.arrows")
        .to_str()
        .unwrap()
        .to_owned();
    let arguments = [&["record", "-o", &file], options, &["--"], command].concat();
    let text = run(&arguments, 0);
    (folder, file, text)
}

#[test]
fn a_record_of_a_command_and_its_children_is_proved_complete() {
    guest::test(|_| {
        let _module = module::load_idle();
        for options in [
            &[][..],
            &["--clock", "raw"],
            &["--clock", "boottime", "--mode", "discard"],
        ] {
            let script = "for i in 1 2 3 4 5 6 7 8; do ls /usr/lib >/dev/null & done; wait";
            let (_folder, file, _) = recorded(options, &["sh", "-c", script]);
            let text = run(&["verify", &file], 0);
            assert!(text.contains("9 threads from beginning to end"), "{text}");
            assert!(text.contains("difference 0"), "{text}");
        }
    });
}

#[test]
fn threads_that_fork_execute_and_kill_at_random_balance() {
    guest::test(|_| {
        let _module = module::load_idle();
        let turmoil = program::find("ft-workload").to_str().unwrap().to_owned();
        for seed in ["1", "2", "3"] {
            let (_folder, file, _) = recorded(
                &["--ring-kib", "16384"],
                &[&turmoil, "turmoil", "--threads", "8", "--seed", seed],
            );
            let text = run(&["verify", &file], 0);
            assert!(text.contains("difference 0"), "{text}");
        }
    });
}

#[test]
fn faults_are_explained() {
    guest::test(|_| {
        let _module = module::load_idle();
        let (_folder, file, _) = recorded(&[], &["ls", "/"]);
        let text = run(&["export", &file, "-f", "csv"], 0);
        let has = |words: &[&str]| {
            let all = |line: &str| words.iter().all(|word| line.contains(word));
            assert!(text.lines().any(all), "no line with {words:?} in:\n{text}");
        };
        has(&[",ls,ls,file-exec,", "/usr/bin/ls,r-xp,"]);
        has(&[",ls,ls,zero-fill,minor,[heap],rw-p,"]);
        has(&[",ls,ls,copy-on-write,"]);
        has(&[",[stack],rw-p,"]);
        has(&["libc.so.6,r-xp,"]);
        let text = run(&["export", &file, "-f", "folded"], 0);
        assert!(text.contains("ls;ls;/usr/bin/ls;"), "{text}");
    });
}

/// Sends a signal to a process and, if it is to stop, waits until it does.
fn signal(process: &Child, signal: i32) {
    let pid = process.id() as i32;
    // SAFETY: System calls on a child of ours that was not waited for, with an integer of ours.
    unsafe {
        assert_eq!(libc::kill(pid, signal), 0);
        if signal == libc::SIGSTOP {
            let mut status = 0;
            assert_eq!(libc::waitpid(pid, &raw mut status, libc::WUNTRACED), pid);
            assert!(libc::WIFSTOPPED(status), "wait status {status:#x}");
        }
    }
}

/// Records a program from before its beginning until after its end with a recorder that is stopped in
/// between. Returns what `verify` says, which must have that status.
fn while_the_recorder_is_stopped(options: &[&str], status: i32) -> String {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("faults.arrows");
    let file = file.to_str().unwrap();
    let mut program = Program::workload(
        &[
            "children", "--count", "20", "--pages", "200", "--how", "exec",
        ],
        None,
        None,
    );
    program.wait_at_gate();
    let pid = program.pid().to_string();
    let arguments = [&["record", "-o", file, "--pid", &pid], options].concat();
    let mut recorder = recorder(&arguments);
    signal(&recorder, libc::SIGSTOP);
    program.go();
    program.wait().assert_success();
    signal(&recorder, libc::SIGCONT);
    assert!(recorder.wait().unwrap().success());
    run(&["verify", "--losses", file], status)
}

#[test]
fn what_is_lost_is_named_with_its_cpu_and_time_and_the_threads_that_miss_it() {
    guest::test(|_| {
        let _module = module::load_idle();
        let text = while_the_recorder_is_stopped(&["--ring-kib", "64"], 1);
        assert!(text.contains("a ring was full\n"), "{text}");
        assert!(text.contains(" faults on CPU "), "{text}");
        assert!(text.contains("21 threads from beginning to end"), "{text}");
        assert!(text.contains(" missing"), "{text}");
        assert!(!text.contains("did not fit"), "{text}");
        assert!(!text.contains("the losses above"), "{text}");
        let text = while_the_recorder_is_stopped(&["--ring-kib", &guest::smallest_ring_kib()], 1);
        assert!(text.contains("did not fit"), "{text}");
        let text = while_the_recorder_is_stopped(&["--ring-kib", "16384"], 0);
        assert!(text.contains("21 threads from beginning to end"), "{text}");
    });
}

#[test]
fn what_is_overwritten_is_named_and_large_rings_overwrite_nothing() {
    guest::test(|_| {
        let _module = module::load_idle();
        let overwrite = |kib, status| {
            while_the_recorder_is_stopped(&["--mode", "overwrite", "--ring-kib", kib], status)
        };
        let text = overwrite("64", 1);
        assert!(text.contains("they were overwritten"), "{text}");
        assert!(
            text.contains("whose beginning is not in the trace"),
            "{text}"
        );
        assert!(!text.contains(" 0 overwritten;"), "{text}");
        let text = overwrite("16384", 0);
        assert!(text.contains("21 threads from beginning to end"), "{text}");
    });
}

/// How many lines of a CSV there are of the faults of a process of that name.
fn faults_of(csv: &str, name: &str) -> usize {
    let named = format!(",{name},");
    csv.lines().filter(|line| line.contains(&named)).count()
}

#[test]
fn threads_that_still_run_are_checked_up_to_the_end() {
    guest::test(|_| {
        let _module = module::load_idle();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("faults.arrows");
        let file = file.to_str().unwrap();
        let pid = guest::own_pid().to_string();
        let mut recorder = recorder(&["record", "-o", file, "--pid", &pid]);
        guest::touch_fresh(1000);
        signal(&recorder, libc::SIGINT);
        assert!(recorder.wait().unwrap().success());
        let text = run(&["verify", file], 0);
        assert!(
            text.contains("still ran when the recording was stopped"),
            "{text}"
        );
        assert!(text.contains("difference 0"), "{text}");
        assert!(!text.contains("up to the last fault"), "{text}");
    });
}

#[test]
fn every_process_is_recorded_and_proved_complete() {
    guest::test(|_| {
        let _module = module::load_idle();
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        let (file, fifo, ready, done) = (
            path("faults.arrows"),
            path("fifo"),
            path("ready"),
            path("done"),
        );
        assert!(Command::new("mkfifo")
            .arg(&fifo)
            .status()
            .unwrap()
            .success());
        // A daemon: a shell whose parent has ended, and which starts a program when it is asked to.
        let script = r#"(echo $$ >"$1"; read -r _ <"$0"; ls -l /usr/bin >/dev/null; echo >"$2"; read -r _ <"$0") &"#;
        let status = Command::new("dash")
            .args(["-c", script, &fifo, &ready, &done])
            .stdin(Stdio::null())
            .status();
        assert!(status.unwrap().success());
        let wait_for = |path: &str| {
            while fs::read(path).map_or(true, |text| text.is_empty()) {
                thread::yield_now();
            }
        };
        wait_for(&ready);

        let mut recorder = recorder(&["record", "-a", "-o", &file]);
        let own = recorder.id();
        fs::write(&fifo, "go\n").unwrap();
        wait_for(&done);
        // A pipeline of programs that nobody named, and this process, which runs on.
        run_shell("seq 20000 | sort -r | head -n 1");
        guest::touch_fresh(300);
        signal(&recorder, libc::SIGINT);
        assert!(recorder.wait().unwrap().success());
        fs::write(&fifo, "end\n").unwrap();

        let text = run(&["verify", &file], 0);
        assert!(text.contains("difference 0"), "{text}");
        assert!(
            text.contains("still ran when the recording was stopped"),
            "{text}"
        );
        let csv = run(&["export", &file, "-f", "csv"], 0);
        for name in ["ls", "seq", "sort", "head"] {
            assert!(faults_of(&csv, name) > 10, "few faults of {name}");
        }
        assert!(faults_of(&csv, "dash") > 0, "no faults of the daemon");
        assert!(of_process(&csv, std::process::id()) >= 300);
        assert_eq!(of_process(&csv, own), 0, "the recorder has recorded itself");
        assert_eq!(faults_of(&csv, "fault-tracer"), 0);
    });
}

/// Recordings begin and end in the midst of processes that begin, execute, fault and end all the time.
#[test]
fn every_process_balances_whatever_it_does_when_the_recording_begins_and_ends() {
    guest::test(|_| {
        let _module = module::load_idle();
        let _load = [
            Program::load(&["children", "--count", "100000000", "--how", "exec"]),
            Program::load(&["children", "--count", "100000000", "--how", "thread-exec"]),
            Program::load(&["spin", "--threads", "4", "--pages", "64"]),
        ];
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("faults.arrows");
        let file = file.to_str().unwrap();
        let session = Session::open().unwrap();
        for _ in 0..8 {
            let mut recorder = recorder(&["record", "-a", "--ring-kib", "65536", "-o", file]);
            while session.overviews()[0].hits < 5000 {
                thread::yield_now();
            }
            signal(&recorder, libc::SIGINT);
            assert!(recorder.wait().unwrap().success());
            let text = run(&["verify", file], 0);
            assert!(text.contains("difference 0"), "{text}");
        }
    });
}

#[test]
fn the_raw_records_of_every_process_can_be_drained() {
    guest::test(|_| {
        let _module = module::load_idle();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("faults.csv");
        let file = file.to_str().unwrap();
        let mut recorder = recorder(&["drain", "-a", "-o", file]);
        let own = recorder.id();
        guest::touch_fresh(300);
        signal(&recorder, libc::SIGINT);
        assert!(recorder.wait().unwrap().success());
        let csv = fs::read_to_string(file).unwrap();
        assert!(of_process(&csv, std::process::id()) >= 300);
        assert_eq!(of_process(&csv, own), 0, "the recorder has recorded itself");
    });
}

/// How many lines of a CSV there are of the faults of a process.
fn of_process(csv: &str, pid: u32) -> usize {
    let pid = pid.to_string();
    let faults = csv.lines().filter(|line| !line.starts_with('#'));
    faults
        .filter(|line| line.split(',').nth(2) == Some(&pid))
        .count()
}

/// Runs a line of a shell, which must succeed.
fn run_shell(line: &str) {
    let status = Command::new("sh")
        .args(["-c", line])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status();
    assert!(status.unwrap().success(), "{line}");
}

#[test]
fn all_processes_are_not_for_a_container() {
    guest::test(|log| {
        let _module = module::load_idle();
        let tool = program::find("fault-tracer");
        let tool = tool.to_str().unwrap();
        let output = Command::new("unshare")
            .args([
                "--pid",
                "--fork",
                tool,
                "record",
                "-a",
                "-o",
                "/tmp/none.arrows",
            ])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains("initial pid namespace"), "{text}");
        let said = log.of_module().join("\n");
        assert!(
            said.contains("from inside a container, name them one by one"),
            "{said}"
        );
        assert!(!std::path::Path::new("/tmp/none.arrows").exists());
    });
}

#[test]
fn a_recording_that_is_killed_is_readable() {
    guest::test(|_| {
        let _module = module::load_idle();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("faults.arrows");
        let file = file.to_str().unwrap();
        let script = "for i in 1 2 3 4 5 6; do ls / >/dev/null; sleep 0.5; done";
        let mut recorder = tool::command(&["record", "-o", file, "--", "sh", "-c", script])
            .spawn()
            .unwrap();
        let mut size = 0;
        // More than a file without rows.
        while size < 10_000 {
            thread::sleep(Duration::from_millis(100));
            size = fs::metadata(file).map_or(0, |about| about.len());
        }
        recorder.kill().unwrap();
        recorder.wait().unwrap();
        let text = run(&["verify", file], 1);
        assert!(
            text.contains("cut off") && text.contains("difference 0"),
            "{text}"
        );
        let text = run(&["export", file, "-f", "jsonl"], 0);
        assert!(text.contains("\"kind\":\"zero-fill\""), "{text}");
    });
}
