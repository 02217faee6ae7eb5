// SPDX-License-Identifier: GPL-2.0-only

//! What happens to a machine while it is recorded: processors go and come back, it is full of processes, and it runs out of
//! memory.

use std::{
    fs,
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use sandbox_tests::{
    device::Session,
    group::Group,
    guest, module, program,
    tool::{self, Recorder},
};

fn run(command: &[&str]) {
    let status = Command::new(command[0])
        .args(&command[1..])
        .stdout(std::process::Stdio::null())
        .status();
    assert!(status.unwrap().success(), "{command:?}");
}

/// A recording of all processes, in a folder of its own.
struct OfAll {
    recorder: Recorder,
    folder: tempfile::TempDir,
}

impl OfAll {
    fn start(options: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("faults.arrows");
        let record = ["record", "-a", "-o", file.to_str().unwrap()];
        Self {
            recorder: Recorder::start(&[&record[..], options].concat()),
            folder,
        }
    }

    /// Ends it, and expects that nothing is missing; returns what `verify` says, and the file.
    fn end(self) -> (String, String, tempfile::TempDir) {
        self.recorder.end();
        let file = self.folder.path().join("faults.arrows");
        let file = file.to_str().unwrap().to_owned();
        let text = tool::run(&["verify", &file], 0);
        assert!(text.contains("found, difference 0\n"), "{text}");
        assert!(
            text.contains(" 0 dropped + 0 overwritten; 0 missed"),
            "{text}"
        );
        (text, file, self.folder)
    }
}

/// Takes a processor away, or gives it back.
fn set_online(cpu: u32, is_online: bool) {
    let file = format!("/sys/devices/system/cpu/cpu{cpu}/online");
    fs::write(file, u8::from(is_online).to_string()).expect("processors cannot be taken away");
}

#[test]
fn processors_go_and_come_back() {
    guest::test(|_| {
        let _module = module::load_idle();
        for options in [
            &["--ring-size", "16M"][..],
            &["--latency", "--hook", "kprobe", "--ring-size", "16M"],
        ] {
            // Its ring is there before the processor is.
            set_online(1, false);
            let recording = OfAll::start(options);
            run(&["ls", "/"]);
            for _ in 0..4 {
                set_online(1, true);
                run(&["taskset", "-c", "1", "ls", "/"]);
                run(&["ls", "-R", "/etc"]);
                set_online(1, false);
                run(&["ls", "/"]);
            }
            set_online(1, true);
            run(&["taskset", "-c", "1", "ls", "/"]);
            let (_, file, _folder) = recording.end();
            let cpus = tool::columns(&file, ["cpu"], &[]);
            for cpu in ["0", "1"] {
                let count = cpus.iter().filter(|[of]| of == cpu).count();
                assert!(count > 100, "{count} faults on {cpu}");
            }
        }
    });
}

#[test]
fn a_fork_bomb_in_a_box_is_recorded_whole() {
    guest::test(|_| {
        let _module = module::load_idle();
        let group = Group::limited("bomb", "pids", "pids.max", "150");
        let recording = OfAll::start(&["--ring-size", "64M"]);
        // Each makes two more until no more are allowed.
        let bomb = "b() { b | b & }; b 2>/dev/null; sleep 30";
        let script = format!("echo $$ >{}/cgroup.procs; {bomb}", group.path());
        let mut shell = Command::new("sh").args(["-c", &script]).spawn().unwrap();
        let deadline = Instant::now() + guest::NEVER;
        let refused = || {
            let events = group.read("pids.events");
            events
                .lines()
                .any(|line| line.strip_prefix("max ").is_some_and(|count| count != "0"))
        };
        while !refused() {
            assert!(Instant::now() < deadline, "it made too few processes");
            thread::sleep(Duration::from_millis(20));
        }
        group.kill();
        let _ = shell.wait();
        while group.read("cgroup.procs").lines().next().is_some() {
            thread::sleep(Duration::from_millis(20));
        }
        let (text, file, _folder) = recording.end();
        let events = tool::columns(&file, ["event"], &["--events"]);
        let forks = events.iter().filter(|[event]| event == "fork").count();
        assert!(forks > 100, "{forks} processes were made: {text}");
    });
}

/// The kernel kills a recorder that has too little memory, and all goes on.
#[test]
fn a_recorder_that_runs_out_of_memory_leaves_nothing() {
    guest::test(|_| {
        let _module = module::load_idle();
        let mut spinning = Command::new(program::find("ft-workload"))
            .arg("spin")
            .spawn()
            .unwrap();
        let group = Group::limited("small", "memory", "memory.max", "max");
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("faults.arrows");
        let record = ["record", "-a", "-o", file.to_str().unwrap()];
        let mut recorder = tool::recorder(&record);
        group.add(i32::try_from(recorder.id()).unwrap());
        // What it has already is not counted here: what comes is too much.
        fs::write(Path::new(group.path()).join("memory.swap.max"), "0").unwrap();
        fs::write(Path::new(group.path()).join("memory.max"), "64K").unwrap();
        let status = recorder.wait().unwrap();
        assert!(!status.success(), "{status}");
        let session = Session::open().unwrap();
        assert!(session.overviews().is_empty(), "its session is still there");
        spinning.kill().unwrap();
        spinning.wait().unwrap();
        // What was written is there, and the next one records.
        let said = tool::run(&["report", file.to_str().unwrap()], 0);
        assert!(said.contains("faults"), "{said}");
        tool::run(
            &["record", "-q", "-o", file.to_str().unwrap(), "--", "true"],
            0,
        );
        tool::run(&["verify", file.to_str().unwrap()], 0);
    });
}

/// A recorder that is stopped for long takes what is still there, and says what is not.
#[test]
fn a_recorder_that_is_stopped_counts_what_it_missed() {
    guest::test(|_| {
        let _module = module::load_idle();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("faults.arrows");
        let file = file.to_str().unwrap();
        let recorder = Recorder::start(&["record", "-a", "--ring-size", "64K", "-o", file]);
        recorder.signal(libc::SIGSTOP);
        let session = Session::open().unwrap();
        // Until the rings are full.
        while session.overviews()[0].dropped == 0 {
            guest::touch_fresh(256);
        }
        recorder.signal(libc::SIGCONT);
        recorder.end();
        let said = tool::command(&["verify", file]).output().unwrap();
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        // hits = recorded + dropped + overwritten
        let account = said
            .lines()
            .find(|line| line.starts_with("the module's account:"));
        let numbers: Vec<u64> = account
            .unwrap_or_else(|| panic!("{said}"))
            .split(|sign: char| !sign.is_ascii_digit() && sign != ',')
            .filter_map(|word| word.replace(',', "").parse().ok())
            .collect();
        let [hits, recorded, dropped, overwritten, ..] = numbers[..] else {
            panic!("{said}");
        };
        assert!(dropped > 0 && recorded > 0, "{said}");
        assert_eq!(hits, recorded + dropped + overwritten, "{said}");
    });
}
