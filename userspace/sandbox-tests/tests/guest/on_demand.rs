// SPDX-License-Identifier: GPL-2.0-only

//! Recordings that are written when somebody asks: `record --on-demand` and `snapshot`.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use sandbox_tests::{
    guest, module,
    program::{self, Program},
    tool::{self, Recorder},
};

/// A recording that waits, and the folder into which it writes.
struct OnDemand {
    recorder: Recorder,
    folder: tempfile::TempDir,
}

impl OnDemand {
    fn start(options: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("faults.arrows");
        let file = file.to_str().unwrap();
        let arguments = [&["record", "--on-demand", "-o", file], options].concat();
        Self {
            recorder: Recorder::start(&arguments),
            folder,
        }
    }

    /// The files that it has written, in order.
    fn files(&self) -> Vec<PathBuf> {
        written(self.folder.path())
    }

    /// Waits until it has written so many files to their ends.
    fn wait_for(&self, count: usize) -> Vec<PathBuf> {
        let deadline = Instant::now() + guest::NEVER;
        let is_whole = |file: &PathBuf| {
            let verify = ["verify", file.to_str().unwrap()];
            let output = tool::command(&verify).output().unwrap();
            String::from_utf8_lossy(&output.stdout).contains("the module's account:")
        };
        loop {
            let files = self.files();
            if files.len() == count && files.iter().all(is_whole) {
                return files;
            }
            assert!(Instant::now() < deadline, "{files:?}");
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Interrupts it, and expects it to end well.
    fn end(self) -> tempfile::TempDir {
        self.recorder.end();
        self.folder
    }
}

fn written(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files
}

/// What the faults of a file say: process, program, mapping.
fn said(file: &str) -> Vec<[String; 3]> {
    tool::columns(
        file,
        ["event", "process", "program", "mapping"],
        &["--events"],
    )
    .into_iter()
    .filter(|[event, ..]| event == "fault")
    .map(|[_, process, program, mapping]| [process, program, mapping])
    .collect()
}

fn stir() {
    let script = "for i in 1 2 3 4 5 6 7 8; do ls / >/dev/null; done";
    assert!(Command::new("sh")
        .args(["-c", script])
        .status()
        .unwrap()
        .success());
}

#[test]
fn the_newest_are_written_whenever_asked_and_each_file_stands_for_itself() {
    guest::test(|_| {
        let _module = module::load_idle();
        let spin = program::find("ft-workload");
        let spinning = Program::load(&["spin"]);
        let recorder = OnDemand::start(&["-a", "--ring-size", "256K"]);
        let mut all = BTreeSet::new();
        for number in 1..=3 {
            stir();
            // More than the rings hold.
            let before = spinning.faults_so_far().0;
            while spinning.faults_so_far().0 < before + 20_000 {
                thread::sleep(Duration::from_millis(10));
            }
            let path = tool::run(&["snapshot"], 0);
            let file = path.trim_end();
            assert!(Path::new(file).is_file(), "{file}");
            assert!(all.insert(file.to_owned()));
            assert_eq!(recorder.files().len(), number);
            // Each has all that it needs, though what the recording began with is long gone.
            let rows = said(file);
            let of_it: Vec<_> = rows.iter().filter(|row| row[0] == "ft-workload").collect();
            assert!(
                of_it.len() > 100,
                "{number}: {} of {}",
                of_it.len(),
                rows.len()
            );
            let path = spin.to_str().unwrap();
            let known = of_it
                .iter()
                .filter(|row| row[1] == path && row[2] == "[anon]")
                .count();
            assert!(
                known * 10 > of_it.len() * 9,
                "{known} of {}: {:?}",
                of_it.len(),
                of_it[0]
            );
            let text = tool::run(&["verify", file], 1);
            assert!(text.contains("the module's account:"), "{text}");
            // What the module counts for it is what is in it.
            assert!(!text.contains("were written and"), "{text}");
            assert!(text.contains(" overwritten; 0 missed"), "{text}");
        }
        spinning.kill();
        let folder = recorder.end();
        assert_eq!(written(folder.path()).len(), 3);
    });
}

#[test]
fn a_signal_asks_and_ctrl_c_ends_without_a_file() {
    guest::test(|_| {
        let _module = module::load_idle();
        let recorder = OnDemand::start(&["-a"]);
        stir();
        recorder.recorder.signal(libc::SIGUSR1);
        recorder.wait_for(1);
        let folder = recorder.end();
        assert_eq!(written(folder.path()).len(), 1);
        // Nobody is left to be asked.
        let text = tool::run(&["snapshot"], 1);
        assert!(
            text.contains("no recording with --on-demand is running"),
            "{text}"
        );
        let text = tool::run(&["snapshot", "1"], 1);
        assert!(text.contains("process 1 is no recording"), "{text}");
    });
}

#[test]
fn a_bad_end_of_the_command_is_written_and_a_good_one_is_not() {
    guest::test(|_| {
        let _module = module::load_idle();
        let run = |script: &str, status: i32| {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("faults.arrows");
            let arguments = [
                "record",
                "--on-demand",
                "-o",
                file.to_str().unwrap(),
                "--",
                "sh",
                "-c",
                script,
            ];
            let text = tool::run(&arguments, status);
            (written(folder.path()), folder, text)
        };
        let (files, _folder, text) = run("ls / >/dev/null", 0);
        assert!(
            files.is_empty() && text.contains("nobody had asked"),
            "{files:?} {text}"
        );
        let (files, _folder, text) = run("ls / >/dev/null; exit 3", 3);
        assert_eq!(files.len(), 1);
        assert!(text.contains("the command ended with status 3"), "{text}");
        // All of it was still there.
        let text = tool::run(&["verify", files[0].to_str().unwrap()], 0);
        assert!(text.contains("difference 0"), "{text}");
        let (files, _folder, text) = run("ls / >/dev/null; kill -SEGV $$", 139);
        assert_eq!(files.len(), 1);
        assert!(
            text.contains("the command was ended by signal 11"),
            "{text}"
        );
    });
}

#[test]
fn a_process_that_was_named_and_ends_badly_is_written() {
    guest::test(|_| {
        let _module = module::load_idle();
        let mut child = Command::new(program::find("ft-workload"))
            .arg("spin")
            .spawn()
            .unwrap();
        let mut recorder = OnDemand::start(&["--pid", &child.id().to_string()]);
        thread::sleep(Duration::from_millis(200));
        child.kill().unwrap();
        child.wait().unwrap();
        recorder.wait_for(1);
        // It was the only one.
        assert!(recorder.recorder.wait().success());
    });
}
