// SPDX-License-Identifier: GPL-2.0-only

//! Without rights to trace all, one traces one's own processes, as far as ptrace and perf would let one; and no others, whatever
//! they execute.

use std::{
    fs,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::Path,
    process::{Child, Command, Stdio},
};

use fault_tracer_uapi::{session_flag, Config};
use rustix::thread::CapabilitySet;
use sandbox_tests::{
    device::{self, Session, Setup},
    guest::{self, NOBODY},
    module, program, tool,
};

/// The sysctl `kernel.perf_event_paranoid` is 1, and everybody may open the device; put back when dropped.
struct Open {
    before: String,
}

const PARANOID: &str = "/proc/sys/kernel/perf_event_paranoid";

impl Open {
    fn to_everybody() -> Self {
        let before = fs::read_to_string(PARANOID).unwrap();
        fs::write(PARANOID, "1").unwrap();
        fs::set_permissions(device::path(), fs::Permissions::from_mode(0o666)).unwrap();
        Self { before }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let _ = fs::write(PARANOID, self.before.trim());
    }
}

/// A folder in which nobody may write.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    folder
}

/// Runs the tool as nobody, to its end of this status; returns what it wrote.
#[track_caller]
fn run(arguments: &[&str], status: i32) -> String {
    let output = tool::command(arguments)
        .uid(NOBODY)
        .gid(NOBODY)
        .output()
        .unwrap();
    let text =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert_eq!(
        output.status.code(),
        Some(status),
        "{arguments:?} wrote:\n{text:?}"
    );
    text.concat()
}

/// Records a command as nobody, which must balance. Returns what the recorder said.
fn record(file: &str, command: &[&str]) -> String {
    let options = ["record", "--ring-kib", "1024", "-o", file, "--"];
    let said = run(&[&options[..], command].concat(), 0);
    let verdict = tool::run(&["verify", file], 0);
    assert!(verdict.contains("difference 0"), "{verdict}");
    said
}

/// Runs the tool as nobody, which must fail; returns what it wrote.
#[track_caller]
fn refused(arguments: &[&str]) -> String {
    let output = tool::command(arguments)
        .uid(NOBODY)
        .gid(NOBODY)
        .output()
        .unwrap();
    assert!(!output.status.success(), "{arguments:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The first process, which is root's.
const INIT: i32 = 1;

/// A process of nobody that has executed a program and waits.
struct Sleeper(Child);

impl Sleeper {
    fn new() -> Self {
        let child = Command::new("sleep")
            .arg("1000000")
            .uid(NOBODY)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self(child)
    }

    fn pid(&self) -> i32 {
        self.0.id() as i32
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A session whose rings a user may lock in memory beside others.
fn small() -> Setup {
    Setup {
        ring_bytes: guest::page_size() as u64,
        ..Setup::default()
    }
}

/// The error of a call, if it failed.
fn errno(result: std::io::Result<()>) -> Option<i32> {
    result.err().and_then(|error| error.raw_os_error())
}

#[test]
fn one_traces_ones_own_processes_without_rights() {
    guest::test(|_| {
        let _module = module::load_idle();
        let open = Open::to_everybody();
        let folder = folder();
        let file = folder.path().join("faults");
        let file = file.to_str().unwrap();
        record(
            file,
            &["ft-workload", "touch", "--pages", "700", "--threads", "3"],
        );
        let faults = tool::columns(file, ["pid"], &[]).len();
        assert!(faults >= 2100, "{faults}");
        // Its children are one's own, too.
        let before = [
            "sh",
            "-c",
            "ft-workload touch --pages 300; ft-workload touch --pages 400",
        ];
        record(file, &before);
        assert!(tool::columns(file, ["pid"], &[]).len() >= 700);
        // One that is there already.
        let sleeper = Sleeper::new();
        let pid = sleeper.pid().to_string();
        let status = tool::command(&[
            "record",
            "--ring-kib",
            "64",
            "--duration",
            "0.1",
            "-o",
            file,
        ])
        .args(["--pid", &pid])
        .uid(NOBODY)
        .status()
        .unwrap();
        assert!(status.success());
        // Without the sysctl there is no such right.
        drop(open);
        fs::write(PARANOID, "2").unwrap();
        let said = run(&["record", "-o", file, "--", "true"], 125);
        assert!(said.contains("kernel.perf_event_paranoid=1"), "{said}");
    });
}

#[test]
fn what_is_not_ones_own_is_refused() {
    guest::test(|_| {
        let _module = module::load(&format!("pid={}", guest::own_pid())).unwrap();
        let _open = Open::to_everybody();
        let folder = folder();
        let file = folder.path().join("faults");
        let file = file.to_str().unwrap();
        for options in [
            &["--pid", "1"][..],
            &["-a"],
            &["--user", "nobody"],
            &["--name", "sleep"],
        ] {
            let arguments = [&["record", "--duration", "0.1", "-o", file][..], options].concat();
            let said = refused(&arguments);
            assert!(said.contains("of their own alone"), "{options:?}: {said}");
            assert!(!Path::new(file).exists(), "{options:?}");
        }
        // The session of the module's parameters is root's.
        let said = refused(&["drain", "--duration", "0.1", "-o", file]);
        assert!(!Path::new(file).exists(), "{said}");
        let root = Session::open().unwrap();
        assert_eq!(root.overviews().len(), 1, "it goes on");
    });
}

/// Has nobody record a shell that executes a copy of the workload with this mode, root's own, in its place. That program's faults
/// must not be in the trace.
fn leaves(mode: u32) {
    guest::test(|_| {
        let _module = module::load_idle();
        let _open = Open::to_everybody();
        let folder = folder();
        let copy = folder.path().join("other");
        fs::copy(program::find("ft-workload"), &copy).unwrap();
        fs::set_permissions(&copy, fs::Permissions::from_mode(mode)).unwrap();
        let file = folder.path().join("faults");
        let file = file.to_str().unwrap();
        let other = copy.to_str().unwrap();
        let script = format!("ft-workload touch --pages 200; exec {other} touch --pages 300");
        let said = record(file, &["sh", "-c", &script]);
        assert!(said.contains("1 process left the recording"), "{said}");
        let rows = tool::columns(file, ["event", "time_ns", "tid", "program"], &["--events"]);
        let left: Vec<_> = rows.iter().filter(|row| row[0] == "left").collect();
        let [left] = &left[..] else {
            panic!("it leaves once: {left:?}");
        };
        let time = |row: &[String; 4]| row[1].parse::<i64>().unwrap();
        let later = rows
            .iter()
            .filter(|row| row[2] == left[2] && time(row) > time(left));
        let later: Vec<_> = later.filter(|row| row[0] == "fault").collect();
        assert_eq!(later.len(), 0, "{later:?}");
        let of_other = rows.iter().filter(|row| row[3].contains(other)).count();
        assert_eq!(of_other, 0, "nothing is said of the program");
        // Of others that are recorded at the same time, root sees all.
        let of_own = rows.iter().filter(|row| row[0] == "fault").count();
        assert!((200..2000).contains(&of_own), "{of_own}");
    });
}

#[test]
fn a_program_with_rights_of_its_own_leaves_the_recording() {
    leaves(0o4755);
}

#[test]
fn a_program_that_may_not_be_read_leaves_the_recording() {
    leaves(0o711);
}

#[test]
fn a_device_that_was_handed_on_gives_no_more() {
    guest::test(|_| {
        let _module = module::load_idle();
        let _open = Open::to_everybody();
        let (sleeper, of_root) = (Sleeper::new(), Session::running(small()));
        let idle = Session::idle(small());
        let named = Session::idle(small());
        named.add(INIT).unwrap();
        let all = Session::idle(small());
        let mut everybody = Config {
            flags: session_flag::ALL,
            ring_bytes: guest::page_size() as u64,
            ..Config::default()
        };
        all.with(fault_tracer_uapi::FT_IOC_CONFIGURE, &mut everybody)
            .unwrap();
        let (root, own) = (INIT, sleeper.pid());
        let errors = guest::as_nobody(CapabilitySet::empty(), || {
            [
                idle.with(fault_tracer_uapi::FT_IOC_CONFIGURE, &mut everybody.clone()),
                idle.add(root),
                of_root.add(root),
                of_root.add(own),
                named.start(),
                all.start(),
                idle.adopt(),
            ]
            .map(errno)
        });
        assert_eq!(errors, [Some(libc::EACCES); 7]);
        assert_eq!(of_root.info().live_targets, 0);
        // One's own is traced, and root names no others there, either.
        guest::as_nobody(CapabilitySet::empty(), || {
            idle.add(own)?;
            idle.start()
        })
        .unwrap();
        assert_eq!(idle.info().live_targets, 1);
        assert_eq!(errno(idle.add(root)), Some(libc::EACCES));
        assert_eq!(idle.info().live_targets, 1);
        drop(sleeper);
        while idle.info().live_targets != 0 {
            std::thread::yield_now();
        }
    });
}
