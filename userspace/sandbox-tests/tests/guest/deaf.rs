// SPDX-License-Identifier: GPL-2.0-only

//! The kernel's probes can be switched off: nothing fires then, and nothing counts that. It is found, at the
//! beginning and while a recording runs, and nobody waits for an end that cannot be seen.

use std::{
    fs,
    time::{Duration, Instant},
};

use sandbox_tests::{
    device::{Session, Setup},
    guest, module,
    program::Program,
    tool,
};

/// Whatever hook other tests are run by: kprobes are what is switched off.
fn by_kprobe() -> Setup {
    Setup {
        hook: 0,
        ..Setup::default()
    }
}

const ENABLED: &str = "/sys/kernel/debug/kprobes/enabled";

/// Kprobes that are switched off as long as it lives.
struct Off(());

impl Off {
    fn switch() -> Self {
        fs::write(ENABLED, "0").expect("cannot switch kprobes off");
        Self(())
    }
}

impl Drop for Off {
    fn drop(&mut self) {
        fs::write(ENABLED, "1").expect("cannot switch kprobes on");
    }
}

/// Waits until a session has no targets any more.
fn wait_for_the_end(session: &Session) {
    let started = Instant::now();
    while session.info().live_targets != 0 {
        assert!(
            started.elapsed() < guest::NEVER,
            "the end of the target is not seen"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_session_does_not_start_while_the_probe_does_not_hear() {
    guest::test(|log| {
        let _module = module::load_idle();
        let off = Off::switch();
        let session = Session::idle(by_kprobe());
        let error = session.start().expect_err("it started");
        assert_eq!(error.raw_os_error(), Some(libc::EIO));
        let said = log.news().join("\n");
        assert!(said.contains("kprobes are switched off"), "{said}");
        // 125 stands for the tool's own failure where the command's status would be given.
        let commands: [(&[&str], i32); 3] = [
            (
                &[
                    "record",
                    "--hook",
                    "kprobe",
                    "-o",
                    "/tmp/deaf.arrow",
                    "--",
                    "true",
                ],
                125,
            ),
            (&["drain", "-o", "/tmp/deaf.csv", "--", "true"], 125),
            (
                &[
                    "record",
                    "--hook",
                    "kprobe",
                    "-a",
                    "-o",
                    "/tmp/deaf-all.arrow",
                ],
                1,
            ),
        ];
        for (command, status) in commands {
            let text = tool::run(command, status);
            assert!(text.contains("kprobes/enabled"), "{command:?}: {text}");
        }
        // The other hook hears nevertheless.
        let file = "/tmp/heard.arrows";
        let by_ftrace = ["record", "--hook", "ftrace", "-o", file, "--", "ls", "/"];
        tool::run(&by_ftrace, 0);
        let text = tool::run(&["verify", file], 0);
        assert!(text.contains("difference 0"), "{text}");
        drop(off);
        // As it was: it can start now.
        session.start().expect("it does not start");
        assert_eq!(session.info().deaf, 0);
    });
}

/// The module cannot be loaded to trace a process, and nothing stays behind.
#[test]
fn the_module_s_own_session_does_not_start_either() {
    guest::test(|log| {
        let off = Off::switch();
        let error = module::load(&format!("pid={}", std::process::id()))
            .map(|_| ())
            .unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EIO));
        let said = log.news().join("\n");
        assert!(said.contains("kprobes are switched off"), "{said}");
        drop(off);
    });
}

#[test]
fn a_session_says_that_the_probe_went_deaf_and_sees_its_targets_end() {
    guest::test(|_| {
        let _module = module::load_idle();
        let mut program = Program::workload(&["touch"], None, None);
        program.wait_at_gate();
        let session = Session::running(by_kprobe());
        session.add(program.pid()).unwrap();
        assert_eq!(session.info().deaf, 0);
        let off = Off::switch();
        program.go();
        program.wait().assert_success();
        wait_for_the_end(&session);
        let info = session.info();
        assert!(info.deaf > 0 && info.heard_ns > 0, "{info:?}");
        drop(off);
        session.stop().unwrap();
        assert!(session.info().deaf > 0, "forgotten when it was stopped");
    });
}

/// Switched off and on again before anybody asked: the end that happened meanwhile is seen all the same, also
/// of a process whose parent does not ask for its status.
#[test]
fn an_end_while_the_probe_was_deaf_is_seen_later() {
    guest::test(|_| {
        let _module = module::load_idle();
        let mut program = Program::workload(&["touch"], None, None);
        program.wait_at_gate();
        let session = Session::running(by_kprobe());
        session.add(program.pid()).unwrap();
        assert_eq!(session.info().live_targets, 1);
        let off = Off::switch();
        program.go();
        while program.is_running() {
            std::thread::yield_now();
        }
        drop(off);
        wait_for_the_end(&session);
        program.wait().assert_success();
    });
}

#[test]
fn a_recording_during_which_the_probe_went_deaf_is_not_complete() {
    guest::test(|_| {
        let _module = module::load_idle();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("faults.arrow");
        let file = file.to_str().unwrap();
        let script = format!("echo 0 >{ENABLED}; sleep 1.5; ls / >/dev/null; echo 1 >{ENABLED}");
        let command = [
            "record", "--hook", "kprobe", "-o", file, "--", "sh", "-c", &script,
        ];
        let output = tool::command(&command).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{said}");
        assert!(
            said.contains("was switched off during the recording"),
            "{said}"
        );
        let text = tool::run(&["verify", file], 1);
        assert!(text.contains("the probe was switched off"), "{text}");
        assert!(text.contains("NOT COMPLETE"), "{text}");
    });
}
