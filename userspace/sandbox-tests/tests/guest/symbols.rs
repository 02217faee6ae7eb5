// SPDX-License-Identifier: GPL-2.0-only

//! The code and the symbols of recorded faults.

use std::{
    collections::HashSet,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use sandbox_tests::{guest, module, tool::command as tool};
use serde_json::Value;

/// Runs a command, which must succeed; returns its standard output and error.
#[track_caller]
fn run(command: &mut Command) -> (String, String) {
    let output = command
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let [out, error] =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(output.status.success(), "{command:?} wrote:\n{error}");
    (out, error)
}

#[track_caller]
fn export(trace: &Path, format: &str, options: &[&str]) -> (String, String) {
    run(tool(&[])
        .arg("export")
        .arg(trace)
        .args(["-f", format])
        .args(options))
}

/// All rows of a trace.
#[track_caller]
fn rows(trace: &Path) -> Vec<Value> {
    let (text, _) = export(trace, "jsonl", &["--events"]);
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Records a line of a shell; all rows of its trace.
#[track_caller]
fn rows_of_shell(script: &str) -> Vec<Value> {
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("faults.arrows");
    run(tool(&[])
        .arg("record")
        .arg("-o")
        .arg(&trace)
        .args(["--", "sh", "-c", script]));
    rows(&trace)
}

fn has_flag(row: &Value, flag: &str) -> bool {
    row["flags"]
        .as_str()
        .unwrap()
        .split('|')
        .any(|one| one == flag)
}

#[test]
fn the_code_of_each_fault_is_known() {
    guest::test(|_| {
        let _module = module::load_idle();
        let rows = rows_of_shell("(ls / | sort) & date; (:); wait");
        let mut executed = HashSet::new();
        let (mut fetches, mut others) = (0, 0);
        for row in &rows {
            match row["event"].as_str().unwrap() {
                "exec" => {
                    executed.insert(row["pid"].clone());
                }
                "fork" if executed.contains(&row["parent"]) => {
                    executed.insert(row["pid"].clone());
                }
                "fault" if executed.contains(&row["pid"]) && has_flag(row, "user") => {
                    assert!(row["object"].is_string(), "{row}");
                    // A fetch is of the code itself, but for an instruction that lies on two pages.
                    let of_file = row["object"].as_str().unwrap().starts_with('/');
                    if of_file && row["access"] == "execute" && row["ip"] == row["address"] {
                        fetches += 1;
                        assert_eq!(row["object"], row["mapping"], "{row}");
                        assert_eq!(row["ip_offset"], row["file_offset"], "{row}");
                    } else {
                        others += 1;
                    }
                }
                _ => {}
            }
        }
        assert!(
            fetches > 20 && others > 100,
            "{fetches} fetches, {others} others"
        );

        let libc = rows
            .iter()
            .find(|row| {
                row["event"] == "text" && row["object"].as_str().unwrap().ends_with("/libc.so.6")
            })
            .expect("code of libc");
        let (notes, _) = run(Command::new("readelf")
            .arg("--notes")
            .arg(libc["object"].as_str().unwrap()));
        let build_id = libc["build_id"].as_str().expect("a build id");
        assert!(notes.contains(build_id), "{build_id} in {notes}");
    });
}

/// The kernel writes to such a process before it has executed anything: where it returns to is known from
/// the one that made it alone, and that is not its parent.
#[test]
fn the_code_of_a_process_that_was_made_for_ones_parent_is_known() {
    guest::test(|_| {
        let _module = module::load_idle();
        let rows = rows_of_shell("ft-workload children --count 4 --pages 10 --how sibling; true");
        let of_event = |event: &'static str| rows.iter().filter(move |row| row["event"] == event);
        let shell = &of_event("exec").next().expect("the shell")["pid"];
        let siblings: Vec<&Value> = of_event("fork")
            .filter(|row| row["thread"] == "ft-workload")
            .collect();
        assert_eq!(siblings.len(), 4, "{siblings:?}");
        for sibling in siblings {
            assert_eq!(&sibling["parent"], shell);
            let mut faults = of_event("fault").filter(|row| row["pid"] == sibling["pid"]);
            let first = faults.next().expect("faults");
            assert!(!has_flag(first, "user"), "{first}");
            for fault in std::iter::once(first).chain(faults) {
                assert!(fault["object"].is_string(), "{fault}");
            }
        }
    });
}

#[test]
fn code_that_was_there_before_is_known() {
    guest::test(|_| {
        let _module = module::load_idle();
        let folder = tempfile::tempdir().unwrap();
        let trace = folder.path().join("faults.arrows");
        // All of its loop has run before; then it needs twenty times the memory.
        let script =
            "f() { x=; i=0; while [ $i -lt $1 ]; do x=$x.................; i=$((i+1)); done; }
            f 200; f 200; echo ready; read line; f 4000; exec true";
        let mut shell = Command::new("sh")
            .args(["-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = [0; 6];
        std::io::Read::read_exact(shell.stdout.as_mut().unwrap(), &mut ready).unwrap();
        let pid = shell.id().to_string();
        let mut recorder = tool(&[])
            .arg("record")
            .arg("-o")
            .arg(&trace)
            .args(["--pid", &pid])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // It has begun when the trace has.
        while fs::metadata(&trace).map_or(0, |about| about.len()) == 0 {
            assert!(recorder.try_wait().unwrap().is_none(), "the recorder ended");
            thread::sleep(Duration::from_millis(20));
        }
        shell.stdin.take().unwrap().write_all(b"go\n").unwrap();
        assert!(shell.wait().unwrap().success());
        assert!(recorder.wait().unwrap().success());
        let mut before_exec = 0;
        for row in rows(&trace) {
            if row["event"] == "fault" && has_flag(&row, "user") {
                assert!(row["object"].is_string(), "{row}");
                before_exec += u64::from(row["process"] == "sh");
            }
        }
        assert!(before_exec > 0, "the shell itself has faulted");
    });
}

/// A program that faults on so many pages in a function of that name, and its debug file by its build id in a
/// folder.
fn build(folder: &Path, function: &str, pages: u32) -> PathBuf {
    let source = folder.join("program.c");
    let text = format!(
        "#include <sys/mman.h>\n\
         __attribute__((noinline)) void {function}(volatile char *at) {{\n\
             for (int i = 0; i < {pages}; i++) at[i * 4096] = 1;\n\
         }}\n\
         int main(void) {{\n\
             {function}(mmap(0, 64 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));\n\
             return 0;\n\
         }}\n"
    );
    fs::write(&source, text).unwrap();
    let program = folder.join("program");
    let new = folder.join("new");
    run(Command::new("gcc")
        .args(["-O1", "-Wl,--build-id=sha1", "-o"])
        .arg(&new)
        .arg(&source));
    let (notes, _) = run(Command::new("readelf").arg("--notes").arg(&new));
    let (_, id) = notes.split_once("Build ID: ").expect("a build id");
    let id = id.lines().next().unwrap_or("").trim();
    let (first, rest) = id.split_at(2);
    let kept = folder.join("debug/.build-id").join(first);
    fs::create_dir_all(&kept).unwrap();
    run(Command::new("objcopy")
        .arg("--only-keep-debug")
        .arg(&new)
        .arg(kept.join(format!("{rest}.debug"))));
    fs::rename(new, &program).unwrap();
    program
}

#[test]
fn symbols_are_those_of_the_program_that_ran() {
    guest::test(|_| {
        let _module = module::load_idle();
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let program = build(folder, "touch_of_old", 64);
        let trace = folder.join("faults.arrows");
        run(tool(&[])
            .arg("record")
            .arg("-o")
            .arg(&trace)
            .arg("--")
            .arg(&program));
        let faults = "program;program;[anon];touch_of_old 64\n";
        let (text, notes) = export(&trace, "folded", &[]);
        assert!(text.contains(faults), "{text}");
        assert!(!notes.contains("/program"), "{notes}");
        let (text, _) = export(&trace, "perf-script", &[]);
        let object = format!("({})", program.display());
        let frame = |line: &str| line.contains(" touch_of_old+0x") && line.ends_with(&object);
        assert_eq!(
            text.lines().filter(|line| frame(line)).count(),
            64,
            "{text}"
        );

        // Another program in its place. (Names alone do not make another build id.)
        build(folder, "touch_of_new", 63);
        for format in ["folded", "csv", "jsonl", "perf-script", "perfetto"] {
            let (text, notes) = export(&trace, format, &[]);
            assert!(!text.contains("touch_of"), "{format}:\n{text}");
            let reported = |line: &str| line.contains("/program: it was replaced");
            assert!(notes.lines().any(reported), "{notes}");
        }

        // What is kept of it has its symbols.
        let debug = folder.join("debug");
        let (text, notes) = export(&trace, "folded", &["--debug-dir", debug.to_str().unwrap()]);
        assert!(text.contains(faults), "{text}");
        assert!(!notes.contains("/program"), "{notes}");
    });
}

/// Runs the program of a folder while the recorder is stopped, and then a line of a shell there. The trace.
#[track_caller]
fn record_blindly(folder: &Path, then: &str) -> PathBuf {
    let trace = folder.join("faults.arrows");
    let script = format!(
        "cd {} && kill -STOP $PPID && ./program; {then}; kill -CONT $PPID",
        folder.display()
    );
    run(tool(&[])
        .args(["record", "-o"])
        .arg(&trace)
        .args(["--", "sh", "-c", &script]));
    trace
}

/// What the trace says of the build id of the folder's program; all of the same.
#[track_caller]
fn build_id_of_program(trace: &Path) -> Value {
    let rows = rows(trace);
    let mut ids = rows
        .iter()
        .filter(|row| row["event"] == "text")
        .filter(|row| row["object"].as_str().unwrap().contains("/program"))
        .map(|row| row["build_id"].clone());
    let id = ids.next().expect("a row of the program");
    assert!(ids.all(|other| other == id));
    id
}

#[test]
fn a_program_that_is_gone_before_anybody_could_read_it_is_known() {
    guest::test(|_| {
        let _module = module::load_idle();
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        build(folder, "touch_of_gone", 64);
        let debug = fs::read_dir(folder.join("debug/.build-id")).unwrap();
        let first = debug.map(|entry| entry.unwrap()).next().unwrap();
        let rest = fs::read_dir(first.path()).unwrap().next().unwrap().unwrap();
        let rest = rest.file_name().into_string().unwrap();
        let first = first.file_name().into_string().unwrap();
        let id = Value::from(format!("{first}{}", rest.strip_suffix(".debug").unwrap()));
        let other = folder.join("other");
        fs::create_dir(&other).unwrap();
        build(&other, "touch_of_other", 63);

        // Gone; another in its place; another in its very inode.
        for then in [
            "mv program kept",
            "mv program kept; cp other/program .",
            "cp program kept; cat other/program > program",
        ] {
            let trace = record_blindly(folder, then);
            assert_eq!(build_id_of_program(&trace), id, "{then}");
            let (text, _) = export(&trace, "folded", &[]);
            assert!(!text.contains("touch_of"), "{then}:\n{text}");
            // Its debug file does not say where in the program's file its code was.
            let kept = folder.join("debug");
            let (text, _) = export(&trace, "folded", &["--debug-dir", kept.to_str().unwrap()]);
            assert!(text.contains(";touch_of_gone 64\n"), "{then}:\n{text}");
            fs::rename(folder.join("kept"), folder.join("program")).unwrap();
        }

        // It has no build id, and what is there afterwards is not believed.
        run(Command::new("objcopy")
            .args(["--remove-section", ".note.gnu.build-id"])
            .arg(folder.join("program")));
        let trace = record_blindly(folder, "cp program kept; mv kept program");
        assert_eq!(build_id_of_program(&trace), Value::from(""));
        let (text, _) = export(&trace, "folded", &[]);
        assert!(!text.contains("touch_of"), "{text}");
    });
}

/// Its first thread has ended, and with it what `/proc/PID` tells of its memory and its program.
#[test]
fn a_process_whose_first_thread_has_ended_has_a_name_a_program_and_code() {
    guest::test(|_| {
        let _module = module::load_idle();
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        let (go, end) = (path("go"), path("end"));
        let (reported, file) = (path("truth"), path("faults.arrow"));
        let workload = sandbox_tests::program::find(sandbox_tests::program::WORKLOAD);
        let mut process = std::process::Command::new(&workload)
            .args([
                "leaderless",
                "--until",
                &go,
                "--then",
                &end,
                "--truth",
                &reported,
            ])
            .spawn()
            .unwrap();
        let pid = process.id().to_string();
        let leader = format!("/proc/{pid}/stat");
        while !fs::read_to_string(&leader).unwrap().contains(") Z ") {
            std::thread::yield_now();
        }
        let recorder = tool(&["record", "-o", &file, "-p", &pid]).spawn().unwrap();
        let device = sandbox_tests::device::Session::open().unwrap();
        while device.overviews().is_empty() {
            std::thread::yield_now();
        }
        fs::write(&go, "").unwrap();
        // Where its code is, is read while it lives: however slow the recorder is, it does not end before that.
        let has_rows = || {
            let rows = tool(&["export", &file, "-f", "jsonl"]).output().unwrap();
            String::from_utf8_lossy(&rows.stdout).contains(r#""kind":"zero-fill""#)
        };
        while !has_rows() {
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        fs::write(&end, "").unwrap();
        assert!(process.wait().unwrap().success());
        assert!(recorder.wait_with_output().unwrap().status.success());
        let trace = sandbox_tests::trace::Trace::of_file(std::path::Path::new(&file));
        trace.assert_balance();
        let truth = sandbox_tests::truth::Truth::read(std::path::Path::new(&reported));
        let faults = sandbox_tests::trace::matches(&truth, &trace.faults());
        assert_eq!(faults.len(), 50);
        for fault in &faults {
            assert_eq!(fault.process.as_deref(), Some("ft-workload"));
            let object = fault.object.as_deref();
            assert_eq!(object, workload.to_str(), "{fault:?}");
        }
        let rows = trace.rows();
        let present = rows.iter().find(|row| row.event == "present").unwrap();
        assert_eq!(present.program.as_deref(), workload.to_str());
    });
}
