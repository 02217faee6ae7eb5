// SPDX-License-Identifier: GPL-2.0-only

//! Recordings that go on in another file again and again: `record --rotate`.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use sandbox_tests::{
    guest, module,
    tool::{self, Recorder},
};

/// Files below a folder with that ending, in order of their names.
fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(folder) else {
            continue;
        };
        for entry in entries {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension() == Some(extension.as_ref()) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// A thread's counters, and its faults.
#[derive(Debug, Default)]
struct Thread {
    began: Option<u64>,
    ended: Option<u64>,
    faults: u64,
}

#[test]
fn no_fault_is_lost_or_counted_twice_between_two_files() {
    guest::test(|_| {
        let _module = module::load_idle();
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().to_str().unwrap();
        let script =
            "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do ls -R /etc >/dev/null; sleep 0.4; done";
        let arguments = [
            "record",
            "--rotate",
            "1s",
            "--keep-traces",
            "-g",
            "-o",
            root,
        ];
        let said = tool::run(&[&arguments[..], &["--", "sh", "-c", script]].concat(), 0);
        assert!(said.contains("lost: 0 ("), "{said}");
        let traces = files(&folder.path().join("_traces"), "arrows");
        assert!(traces.len() >= 3, "{traces:?}");
        assert!(!folder.path().join("_recording").exists());
        assert!(
            said.contains(&format!("in {} tables", traces.len())),
            "{said}"
        );

        let mut threads = BTreeMap::<String, Thread>::new();
        let (mut recorded, mut attempts_of_all) = (0, 0);
        let tables = files(folder.path(), "parquet");
        for (trace, table) in traces.iter().zip(&tables) {
            // host=NAME/date=DAY/FILE
            let below =
                |path: &Path, root: PathBuf| path.strip_prefix(root).unwrap().with_extension("");
            let place = below(table, folder.path().to_owned());
            assert_eq!(place, below(trace, folder.path().join("_traces")));
            let parts: Vec<_> = place.iter().map(|part| part.to_str().unwrap()).collect();
            assert!(
                parts[0].starts_with("host=") && parts[1].starts_with("date=20"),
                "{parts:?}"
            );
            let file = trace.to_str().unwrap();

            let rows = tool::columns(
                file,
                [
                    "event", "tid", "fate", "attempts", "count", "min_flt", "maj_flt", "object",
                    "ip", "stack", "callers",
                ],
                &["--events"],
            );
            let (mut faults, mut attempts) = (0, 0);
            for [event, tid, fate, tries, count, minor, major, object, ip, stack, callers] in rows {
                let counters = || minor.parse::<u64>().unwrap() + major.parse::<u64>().unwrap();
                match &*event {
                    "fault" => {
                        faults += 1;
                        attempts += tries.parse::<u64>().unwrap();
                        let counts = ["minor", "major"].contains(&&*fate);
                        threads.entry(tid).or_default().faults += u64::from(counts);
                        // What was told in the files before is told in this one, too.
                        assert!(object.is_empty() || !ip.is_empty(), "{file}: {object}");
                        let has_callers = !["", "0"].contains(&&*stack);
                        assert_eq!(
                            has_callers,
                            !callers.is_empty(),
                            "{file}: {stack} {callers}"
                        );
                    }
                    "fork" | "present" | "exec" => {
                        let thread = threads.entry(tid).or_default();
                        thread.began.get_or_insert_with(counters);
                    }
                    "exit" => threads.entry(tid).or_default().ended = Some(counters()),
                    "recorded" => recorded += count.parse::<u64>().unwrap(),
                    "end" => assert_eq!(count.parse::<u64>().unwrap(), attempts, "{file}"),
                    _ => {}
                }
            }
            assert!(faults > 0, "{file}");
            attempts_of_all += attempts;
            let verdict = tool::command(&["verify", file]).output().unwrap();
            let verdict = String::from_utf8_lossy(&verdict.stdout).into_owned();
            assert!(
                verdict.contains(" 0 dropped + 0 overwritten; 0 missed"),
                "{verdict}"
            );
            assert!(!verdict.contains("were written and"), "{verdict}");
        }
        assert_eq!(tables.len(), traces.len());
        assert_eq!(recorded, attempts_of_all);
        // Each `ls` began and ended, some of them in different files.
        assert!(threads.len() >= 13, "{threads:?}");
        for (tid, thread) in &threads {
            let (Some(began), Some(ended)) = (thread.began, thread.ended) else {
                panic!("{tid}: {thread:?}");
            };
            assert_eq!(ended - began, thread.faults, "{tid}");
        }
    });
}

#[test]
fn what_a_killed_recording_leaves_is_made_into_a_table_by_the_next() {
    guest::test(|_| {
        let _module = module::load_idle();
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().to_str().unwrap();
        let mut recorder = Recorder::start(&["record", "-a", "--rotate", "1G", "-o", root]);
        let left = || files(&folder.path().join("_recording"), "arrows");
        let deadline = Instant::now() + guest::NEVER;
        // Some rounds have been written.
        while left()
            .iter()
            .all(|file| fs::metadata(file).unwrap().len() < 20_000)
        {
            tool::run(&["status"], 0);
            assert!(Instant::now() < deadline, "{:?}", left());
            thread::sleep(Duration::from_millis(50));
        }
        recorder.signal(libc::SIGKILL);
        recorder.wait();
        let [trace] = &left()[..] else {
            panic!("{:?}", left());
        };
        let said = tool::run(&["record", "--rotate", "1h", "-o", root, "--", "true"], 0);
        let name = trace.file_name().unwrap().to_str().unwrap();
        assert!(
            said.contains(name) && said.contains("made into a table"),
            "{said}"
        );
        assert!(said.contains("in 2 tables"), "{said}");
        assert_eq!(left(), [] as [PathBuf; 0]);
        let tables = files(folder.path(), "parquet");
        assert_eq!(tables.len(), 2);
        for table in tables {
            let bytes = fs::read(&table).unwrap();
            assert!(bytes.starts_with(b"PAR1") && bytes.ends_with(b"PAR1"));
        }
    });
}

#[test]
fn two_recordings_share_a_folder() {
    guest::test(|_| {
        let _module = module::load_idle();
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().to_str().unwrap();
        let arguments = ["record", "--rotate", "1s", "-o", root, "--", "sh", "-c"];
        let script = "for i in 1 2 3 4 5 6; do ls / >/dev/null; sleep 0.5; done";
        let begin = || tool::command(&arguments).arg(script).spawn().unwrap();
        let recorders = [begin(), begin(), begin()];
        for mut recorder in recorders {
            assert!(recorder.wait().unwrap().success());
        }
        let tables = files(folder.path(), "parquet");
        assert!(tables.len() >= 6, "{tables:?}");
        assert!(!folder.path().join("_recording").exists());
    });
}

#[test]
fn a_quiet_machine_gets_no_files_and_a_file_is_no_folder() {
    guest::test(|_| {
        let _module = module::load_idle();
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().to_str().unwrap();
        let pid = std::process::id().to_string();
        // This process waits for it, and does nothing.
        let arguments = [
            "record",
            "-p",
            &pid,
            "--duration",
            "5s",
            "--rotate",
            "1s",
            "-o",
            root,
        ];
        tool::run(&arguments, 0);
        let tables = files(folder.path(), "parquet");
        assert!(tables.len() < 4, "{tables:?}");

        let file = folder.path().join("file");
        fs::write(&file, "mine").unwrap();
        let name = file.to_str().unwrap();
        let said = tool::run(&["record", "--rotate", "1s", "-o", name, "--", "true"], 125);
        assert!(said.contains("name a folder with -o"), "{said}");
        assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
    });
}
