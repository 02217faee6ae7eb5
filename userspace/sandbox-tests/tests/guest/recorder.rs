// SPDX-License-Identifier: GPL-2.0-only

//! How a recorder behaves beside what it traces: it sleeps where nothing happens, what it has taken is in
//! the file at once and stays there, and it keeps up.

use std::{
    collections::HashSet,
    fs::{self, File},
    io::Read as _,
    os::fd::{FromRawFd as _, OwnedFd},
    path::Path,
    process::{Child, Command, Stdio},
    ptr, thread,
    time::{Duration, Instant},
};

use sandbox_tests::{
    device::Session,
    guest, module,
    program::{self, Program},
    tool::{self, run},
    truth::Truth,
};

/// How often all the threads of a process have gone to sleep.
fn sleeps(process: &Child) -> u64 {
    let threads = fs::read_dir(format!("/proc/{}/task", process.id())).expect("it has ended");
    let of_thread = |status: String| {
        let count = status
            .lines()
            .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))
            .expect("/proc/PID/status has another form");
        count.trim().parse::<u64>().expect("no number")
    };
    threads
        .map(|thread| thread.unwrap().path().join("status"))
        .filter_map(|path| fs::read_to_string(path).ok())
        .map(of_thread)
        .sum()
}

/// Waits until the file is there.
fn wait_for(path: &Path) {
    while !path.exists() {
        thread::sleep(Duration::from_millis(20));
    }
}

/// Ends a recorder, and with it its command.
fn stop(mut recorder: Child) {
    // SAFETY: A system call on a child of ours that was not waited for, so that the id is its.
    let result = unsafe { libc::kill(recorder.id() as i32, libc::SIGTERM) };
    assert_eq!(result, 0);
    recorder.wait().unwrap();
}

#[test]
fn a_recorder_of_what_does_nothing_sleeps() {
    const TIME: Duration = Duration::from_secs(5);
    /// Each time it may also write, and wait for the kernel, for what happened at the beginning.
    const MOST_A_SECOND: u64 = 4;

    guest::test(|_| {
        let _module = module::load_idle();
        for subcommand in ["record", "drain"] {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("faults");
            let ready = folder.path().join("ready");
            let script = format!("touch {}; exec sleep 1000", ready.display());
            let file = file.to_str().unwrap();
            let recorder = tool::command(&[subcommand, "-o", file, "--", "sh", "-c", &script])
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            wait_for(&ready);
            let (began, before) = (Instant::now(), sleeps(&recorder));
            thread::sleep(TIME);
            let slept = sleeps(&recorder) - before;
            // More on a machine that is slow: it is asked of the time that has really gone by.
            let seconds = began.elapsed().as_secs() + 1;
            assert!(
                (1..=MOST_A_SECOND * seconds).contains(&slept),
                "{subcommand} woke up {slept} times in {seconds} s"
            );
            stop(recorder);
        }
    });
}

/// The two ends of a new terminal: what is written to the second can be read from the first.
fn terminal() -> (File, OwnedFd) {
    let (mut ours, mut its) = (-1, -1);
    // SAFETY: Both numbers are ours; the terminal's name, settings and size are as the system has them.
    unsafe {
        let none = ptr::null_mut();
        let result = libc::openpty(&raw mut ours, &raw mut its, none, none.cast(), none.cast());
        assert_eq!(result, 0, "there is no terminal");
        (File::from_raw_fd(ours), OwnedFd::from_raw_fd(its))
    }
}

/// Faults, faults a second, and lost ones, of a line on a terminal.
fn live_line(line: &str) -> Option<[u64; 3]> {
    let (faults, rest) = line
        .strip_prefix("fault-tracer: ")?
        .split_once(" faults, ")?;
    let (rate, rest) = rest.split_once("/s, ")?;
    let numbers = [faults, rate, rest.strip_suffix(" lost")?];
    let numbers = numbers.map(|number| number.replace(',', "").parse());
    let [Ok(faults), Ok(rate), Ok(lost)] = numbers else {
        return None;
    };
    Some([faults, rate, lost])
}

#[test]
fn a_terminal_shows_faults_their_rate_and_losses_while_they_come() {
    guest::test(|_| {
        let _module = module::load_idle();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("faults.arrows");
        let file = file.to_str().unwrap();
        let program = Program::load(&["spin", "--threads", "1", "--pages", "64"]);
        let (mut terminal, its) = terminal();
        let pid = program.pid().to_string();
        let recorder = ["record", "-o", file, "--pid", &pid, "--ring-kib", "4"];
        let mut recorder = tool::command(&recorder).stderr(its).spawn().unwrap();
        let signal = |signal| {
            // SAFETY: A system call on a child of ours that was not waited for, so that the id is its.
            assert_eq!(unsafe { libc::kill(recorder.id() as i32, signal) }, 0);
        };
        let session = Session::open().unwrap();
        let (mut shown, mut bytes, mut was_stopped) = (Vec::new(), [0; 1024], false);
        let numbers = loop {
            let count = terminal.read(&mut bytes).expect("the recorder has ended");
            shown.extend_from_slice(&bytes[..count]);
            let text = String::from_utf8_lossy(&shown);
            // Each is written over the one before. The last may not be whole.
            let mut lines: Vec<&str> = text.split("\r\x1b[K").skip(1).collect();
            lines.pop();
            let numbers: Vec<_> = lines
                .iter()
                .map(|line| live_line(line).unwrap_or_else(|| panic!("another form: {line:?}")))
                .collect();
            if numbers.last().is_some_and(|[.., lost]| *lost > 0) && was_stopped {
                break numbers;
            }
            if !numbers.is_empty() && !was_stopped {
                // While it does not read, the ring gets full.
                signal(libc::SIGSTOP);
                while session.overviews()[0].dropped == 0 {
                    thread::yield_now();
                }
                signal(libc::SIGCONT);
                was_stopped = true;
            }
        };
        assert!(
            numbers.is_sorted_by_key(|[faults, ..]| faults)
                && numbers.is_sorted_by_key(|[.., lost]| lost),
            "{numbers:?}"
        );
        assert!(
            numbers
                .iter()
                .any(|[faults, rate, _]| *faults > 0 && *rate > 0),
            "{numbers:?}"
        );
        recorder.kill().unwrap();
        recorder.wait().unwrap();
        program.kill();
    });
}

#[test]
fn a_recording_ends_after_its_time_while_the_program_runs_on() {
    guest::test(|_| {
        let _module = module::load_idle();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("faults.arrows");
        let file = file.to_str().unwrap();
        let program = Program::load(&["spin", "--threads", "1", "--pages", "64"]);
        let pid = program.pid().to_string();
        let options = ["--ring-kib", "65536", "--duration", "0.5"];
        let began = Instant::now();
        run(
            &[&["record", "-o", file, "--pid", &pid], &options[..]].concat(),
            0,
        );
        assert!(began.elapsed() >= Duration::from_millis(500));
        assert!(program.is_running());
        program.kill();
        let text = run(&["verify", file], 0);
        assert!(
            text.contains("still ran when the recording was stopped"),
            "{text}"
        );
    });
}

#[test]
fn what_happened_a_second_before_a_kill_is_in_the_file() {
    /// The round that was under way, the next one with all its waits, and one more.
    const SLEEPS: u64 = 8;

    guest::test(|_| {
        let _module = module::load_idle();
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let file = path("faults.arrows");
        let file = file.to_str().unwrap();
        let script = format!(
            "ft-workload touch --pages 300 --threads 3 --truth {}; touch {}; exec sleep 1000",
            path("truth").display(),
            path("ready").display()
        );
        let mut recorder = tool::command(&["record", "-o", file, "--", "sh", "-c", &script])
            .spawn()
            .unwrap();
        wait_for(&path("ready"));
        let before = sleeps(&recorder);
        thread::sleep(Duration::from_secs(1));
        // On a machine that is slow a second may not be enough to get to run.
        while sleeps(&recorder) < before + SLEEPS {
            thread::sleep(Duration::from_millis(20));
        }
        recorder.kill().unwrap();
        recorder.wait().unwrap();

        let truth = Truth::read(&path("truth"));
        assert_eq!(truth.faults.len(), 900);
        let csv = run(&["export", file, "-f", "csv"], 0);
        let found: HashSet<&str> = csv.lines().flat_map(|line| line.split(',')).collect();
        let missing: Vec<_> = truth
            .faults
            .iter()
            .map(|fault| format!("{:#x}", fault.address))
            .filter(|address| !found.contains(&**address))
            .collect();
        assert!(missing.is_empty(), "not in the file: {missing:?}");
        let text = run(&["verify", file], 1);
        assert!(
            text.contains("cut off") && text.contains("difference 0"),
            "{text}"
        );
    });
}

/// A file system that holds little, until this is dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn new(kib: u32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let status = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={kib}k"), "tmpfs"])
            .arg(folder.path())
            .status();
        assert!(status.unwrap().success());
        Self(folder)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let status = Command::new("umount").arg(self.0.path()).status();
        assert!(status.unwrap().success());
    }
}

/// Records 200,000 faults in random order into a file for which there is too little room: the first second may bring
/// more than fit. `line` starts the tool, which is `"$@"`.
#[track_caller]
fn with_little_room(line: &str, file: &str, error: &str) {
    let tool = program::find("fault-tracer").to_str().unwrap().to_owned();
    let workload = program::find("ft-workload").to_str().unwrap().to_owned();
    let output = Command::new("bash")
        .args(["-c", line, "bash", &tool, "record", "-o", file, "--"])
        .args([&workload, "touch", "--pages", "200000", "--order", "random"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(125), "{text}");
    assert!(text.contains(file) && text.contains(error), "{text}");
    let size = fs::metadata(file).unwrap().len();
    assert!(size > 256 << 10, "only {size} bytes were written");
    let text = run(&["verify", file], 1);
    assert!(
        text.contains("cut off") && !text.contains("damaged"),
        "{text}"
    );
    let text = run(&["export", file, "-f", "csv"], 0);
    assert!(text.contains("zero-fill"), "{text}");
    let faults = text.lines().filter(|line| !line.starts_with('#')).count();
    assert!(faults > 10_000, "{faults} faults in {size} bytes");
}

#[test]
fn a_full_disk_ends_the_recording_and_leaves_a_readable_file() {
    guest::test(|_| {
        let _module = module::load_idle();
        let disk = SmallDisk::new(512);
        let file = disk.0.path().join("faults.arrows");
        let file = file.to_str().unwrap();
        with_little_room("exec \"$@\"", file, "No space left on device");
    });
}

#[test]
fn a_limit_of_file_sizes_ends_the_recording_and_leaves_a_readable_file() {
    guest::test(|_| {
        let _module = module::load_idle();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("faults.arrows");
        let file = file.to_str().unwrap();
        with_little_room("ulimit -f 512; exec \"$@\"", file, "File too large");
    });
}

#[test]
fn a_disk_with_room_for_one_copy_alone_keeps_the_recording_whole() {
    guest::test(|_| {
        let _module = module::load_idle();
        let disk = SmallDisk::new(128);
        let file = disk.0.path().join("faults.arrows");
        let file = file.to_str().unwrap();
        let script = "for i in 1 2 3 4 5 6 7 8 9 10; do ls / >/dev/null; sleep 0.5; done";
        let text = run(&["record", "-o", file, "--", "sh", "-c", script], 0);
        let is_larger = text.contains("too little room for a copy");
        let size = fs::metadata(file).unwrap().len();
        assert_eq!(is_larger, size > (128 << 10) / 3, "{size} bytes: {text}");
        let text = run(&["verify", file], 0);
        assert!(text.contains("difference 0"), "{text}");
        assert_eq!(fs::read_dir(disk.0.path()).unwrap().count(), 1);
    });
}

/// Makes what another recording writes its own only when that has ended.
#[test]
fn two_recordings_of_one_name_leave_both_whole() {
    guest::test(|_| {
        let _module = module::load_idle();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("faults.arrows");
        let file = file.to_str().unwrap();
        let script = "ls / >/dev/null; sleep 3; ls / >/dev/null";
        let first = tool::command(&["record", "-o", file, "--", "sh", "-c", script])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        while fs::metadata(file).map_or(0, |file| file.len()) == 0 {
            thread::sleep(Duration::from_millis(20));
        }
        let text = run(&["record", "-o", file, "--", "true"], 125);
        assert!(text.contains("another recording is writing"), "{text}");
        let first = first.wait_with_output().unwrap();
        assert!(first.status.success());
        let text = run(&["verify", file], 0);
        assert!(text.contains("4 threads from beginning to end"), "{text}");
        let text = run(&["record", "-o", file, "--", "true"], 0);
        assert!(text.contains("faults.arrows.old now"), "{text}");
        for name in [file, &format!("{file}.old")] {
            let text = run(&["verify", name], 0);
            assert!(text.contains("difference 0"), "{text}");
        }
    });
}

#[test]
fn a_recording_that_is_interrupted_is_proven() {
    guest::test(|_| {
        let _module = module::load_idle();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("faults.arrows");
        let file = file.to_str().unwrap();
        let tool = program::find("fault-tracer").to_str().unwrap().to_owned();
        for signal in ["INT", "TERM", "HUP"] {
            let line = [
                "-s", signal, "2", &tool, "record", "-o", file, "--", "sleep", "100",
            ];
            let output = Command::new("timeout").args(line).output().unwrap();
            let text = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(124), "{text}");
            let text = run(&["verify", file], 0);
            assert!(
                text.contains("difference 0") && !text.contains("complete: 0 of 0"),
                "{signal}: {text}"
            );
        }
    });
}

#[test]
fn nothing_is_said_over_what_the_command_shows_or_when_it_is_to_be_quiet() {
    guest::test(|_| {
        let _module = module::load_idle();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("faults.arrows");
        let file = file.to_str().unwrap();
        // With a command, the summary at the end alone; when it is to be quiet, nothing at all.
        for (arguments, summary) in [
            (&["record", "-o", file, "--", "sleep", "3"][..], true),
            (&["record", "-q", "-o", file, "--", "sleep", "3"], false),
            (
                &["record", "-q", "-o", file, "-a", "--duration", "3s"],
                false,
            ),
        ] {
            let (mut terminal, its) = terminal();
            let status = tool::command(arguments).stderr(its).status().unwrap();
            assert!(status.success());
            let mut shown = Vec::new();
            let mut bytes = [0; 1024];
            // It fails when nobody can write any more.
            while let Ok(count @ 1..) = terminal.read(&mut bytes) {
                shown.extend_from_slice(&bytes[..count]);
            }
            let shown = String::from_utf8_lossy(&shown);
            assert!(!shown.contains("\x1b[K"), "{shown:?}");
            assert_eq!(shown.contains("written to"), summary, "{shown:?}");
            assert_eq!(shown.is_empty(), !summary, "{shown:?}");
        }
    });
}

#[test]
fn what_cannot_fault_is_refused_with_a_hint() {
    guest::test(|_| {
        let _module = module::load_idle();
        let mut ended = Command::new("true").spawn().unwrap();
        let zombie = ended.id().to_string();
        let stat = format!("/proc/{zombie}/stat");
        while !fs::read_to_string(&stat).unwrap().contains(") Z ") {
            thread::yield_now();
        }
        for subcommand in ["record", "drain"] {
            let refused = |pid: &str, status| {
                run(
                    &[subcommand, "-o", "/tmp/none.arrows", "--pid", pid],
                    status,
                )
            };
            // kthreadd.
            assert!(refused("2", 1).contains("kernel thread"));
            assert!(refused(&zombie, 1).contains("has ended"));
            assert!(refused("0", 2).contains("use -a to trace all"));
            assert!(!Path::new("/tmp/none.arrows").exists());
        }
        ended.wait().unwrap();
    });
}

/// What a recorded command finds is what it would have found without the recorder.
#[test]
fn a_recorded_command_inherits_what_it_would_have_without_the_tool() {
    guest::test(|_| {
        let _module = module::load_idle();
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        let (file, out) = (path("faults.arrows"), path("out"));
        let script = r#"{
            grep -E '^(Sig(Blk|Ign|Cgt)|Cap|Umask|NoNewPrivs|Seccomp):' /proc/self/status
            cat /proc/self/limits /proc/self/oom_score_adj
            for fd in /proc/$$/fd/*; do echo "${fd##*/}"; done
            cut -d ' ' -f 5-8,19 /proc/$$/stat
            pwd; env | grep -v '^_='
        } >"$0""#;
        let tool = program::find("fault-tracer").to_str().unwrap().to_owned();
        for surroundings in [
            &["env"][..],
            &["env", "--ignore-signal=PIPE,XFSZ"],
            &["env", "--default-signal", "--block-signal=USR1,PIPE"],
            &["nice", "-n", "7"],
            &["sh", "-c", "ulimit -c 0 -n 77; exec \"$@\" <&-", "sh"],
        ] {
            let found = |tool: &[&str]| {
                let status = Command::new(surroundings[0])
                    .args(&surroundings[1..])
                    .args(tool)
                    .args(["sh", "-c", script, &out])
                    .stderr(Stdio::null())
                    .status();
                assert!(status.unwrap().success(), "{surroundings:?}");
                fs::read_to_string(&out).unwrap()
            };
            let with = found(&[&tool, "record", "-o", &file, "--"]);
            assert_eq!(found(&[]), with, "{surroundings:?}");
        }
    });
}
