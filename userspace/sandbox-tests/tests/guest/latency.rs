// SPDX-License-Identifier: GPL-2.0-only

//! The durations of faults: that each has one, that it is true, and that those which have none are counted.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs::File,
    path::{Path, PathBuf},
    thread,
};

use fault_tracer_uapi::{self as uapi, fault_flag, record_type, session_flag, FaultRecord};
use sandbox_tests::{
    device::{Session, Setup},
    guest, module,
    program::{self, Program},
    tool,
};
use serde_json::Value;

/// Faults whose return can be awaited at the same time: `INSTANCES` of `fault_tracer/latency.rs`.
const INSTANCES: usize = 4096;

/// A `RETURN` record.
#[derive(Clone, Copy, Debug)]
struct Return {
    time_ns: u64,
    result: u32,
}

/// What a session with durations has recorded.
struct Timed {
    /// By thread and time: the fault, and its return.
    faults: BTreeMap<(u32, u64), (FaultRecord, Option<Return>)>,
    missed: u64,
}

/// The kprobe and the ftrace hook, as flags of a session.
const ALL_HOOKS: [u32; 2] = [0, session_flag::FTRACE];

/// Those by which durations are measured on this processor.
const HOOKS: &[u32] = if module::RETURNS_AFTER_FTRACE {
    &ALL_HOOKS
} else {
    &[0]
};

fn config(hook: u32) -> uapi::Config {
    uapi::Config {
        ring_bytes: 16 << 20,
        flags: session_flag::FOLLOW | session_flag::LATENCY | hook,
        ..uapi::Config::default()
    }
}

/// A running session with durations and this target.
fn session(program: &Program, hook: u32) -> Session {
    let session = Session::configured(config(hook));
    session.add(program.pid()).unwrap();
    session
}

/// Stops a session and takes out what it has recorded. Each return must be that of a fault, and its only
/// one; in each ring, times do not go back.
fn finish(session: &Session) -> Timed {
    session.stop().unwrap();
    let mut faults = BTreeMap::new();
    let mut returns = Vec::new();
    for cpu in 0..session.info().cpus {
        let words = session.drain_words(cpu);
        let mut rest = &words[..];
        let mut last_ns = 0;
        while let Some(&header) = rest.first() {
            let length = uapi::header_slots(header) as usize * uapi::SLOT_BYTES / 8;
            let (record, behind) = rest.split_at(length);
            rest = behind;
            assert!(record[1] >= last_ns, "CPU {cpu}: time goes back");
            last_ns = record[1];
            let tid = (header & uapi::PID_MASK) as u32;
            match uapi::header_type(header) {
                record_type::FAULT => {
                    let fault = FaultRecord::from_words(record.try_into().unwrap());
                    let before = faults.insert((tid, fault.time_ns), (fault, None));
                    assert!(before.is_none(), "two faults of {tid} at the same time");
                }
                record_type::RETURN => {
                    let end = Return {
                        time_ns: record[1],
                        result: record[3] as u32 & uapi::RESULT_MASK,
                    };
                    let pid = (header >> uapi::HEADER_TGID_SHIFT & uapi::PID_MASK) as u32;
                    returns.push((tid, pid, record[2], end));
                }
                other => panic!("a record of type {other}"),
            }
        }
    }
    for (tid, pid, entry_ns, end) in returns {
        let (fault, place) = faults
            .get_mut(&(tid, entry_ns))
            .unwrap_or_else(|| panic!("{tid} returns from no fault at {entry_ns}"));
        assert_eq!(fault.pid(), pid);
        assert!(place.replace(end).is_none(), "{tid} returns twice");
    }
    let totals = session.totals();
    assert_eq!(totals.hits, totals.recorded, "faults were lost");
    assert_eq!(totals.recorded, faults.len() as u64);
    Timed {
        faults,
        missed: session.info().missed_returns,
    }
}

impl Timed {
    fn without(&self) -> usize {
        self.faults
            .values()
            .filter(|fault| fault.1.is_none())
            .count()
    }

    /// Checks that a thread's faults and returns take turns; returns the sum of durations and the time from
    /// its first fault to its last return, by thread.
    fn times_by_thread(&self) -> HashMap<u32, (u64, u64)> {
        let mut threads: HashMap<u32, (u64, u64, u64)> = HashMap::new();
        for (&(tid, entry_ns), (_, end)) in &self.faults {
            let end = end.expect("a fault without a return").time_ns;
            assert!(end > entry_ns, "a fault that takes no time");
            let (sum, first, last) = threads.entry(tid).or_insert((0, entry_ns, 0));
            assert!(entry_ns >= *last, "{tid} faults inside of a fault");
            *sum += end - entry_ns;
            *last = end;
            assert!(*sum <= *last - *first);
        }
        threads
            .into_iter()
            .map(|(tid, (sum, first, last))| (tid, (sum, last - first)))
            .collect()
    }

    /// Checks that all faults that have no return are counted as such.
    fn assert_balanced(&self) {
        assert_eq!(self.without() as u64, self.missed, "those without a return");
    }
}

/// `ft-workload asleep`, and the files that it is steered by.
struct Asleep {
    program: Program,
    folder: tempfile::TempDir,
}

impl Asleep {
    fn new(arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        let (ready, until) = (file("ready"), file("until"));
        let own = ["asleep", "--ready", &ready, "--until", &until];
        Self {
            program: Program::workload(&[&own, arguments].concat(), None, None),
            folder,
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Starts it, and waits until all its faults sleep.
    fn fall_asleep(&mut self) {
        self.program.go();
        while !self.file("ready").exists() {
            thread::yield_now();
        }
    }

    /// Lets the faults end, and waits for its own.
    fn wake_up(self) {
        File::create(self.file("until")).unwrap();
        self.program.wait().assert_success();
    }
}

#[test]
fn every_fault_has_a_duration() {
    guest::test(|_| {
        let _module = module::load_idle();
        for &hook in HOOKS {
            for clock in [
                uapi::clock::MONOTONIC,
                uapi::clock::BOOTTIME,
                uapi::clock::RAW,
            ] {
                let arguments = ["touch", "--pages", "300", "--threads", "4"];
                let mut program = Program::workload(&arguments, None, None);
                let session = Session::configured(uapi::Config {
                    clock,
                    ..config(hook)
                });
                session.add(program.pid()).unwrap();
                program.go();
                program.wait().assert_success();
                let timed = finish(&session);
                assert_eq!((timed.missed, timed.without()), (0, 0));
                assert!(timed.times_by_thread().len() >= 4);
                assert!(timed.faults.len() >= 1200);
            }
        }
    });
}

#[test]
fn both_hooks_record_the_same_returns() {
    /// All but the times: address and flags of a fault, and what it returned.
    fn by_thread(timed: &Timed) -> BTreeMap<u32, Vec<(u64, u64, u32)>> {
        let mut found: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for ((tid, _), (fault, end)) in &timed.faults {
            let result = end.expect("no return is missed").result;
            let seen = (fault.address(), fault.flags(), result);
            found.entry(*tid).or_default().push(seen);
        }
        found
    }

    guest::test(|_| {
        let _module = module::load_idle();
        let arguments = ["touch", "--pages", "3000", "--threads", "4"];
        let mut program = Program::workload(&arguments, None, None);
        // Two of each: a fault has as many returns hooked, and as many sessions in one. And one of each that asks for none.
        let timed: Vec<Session> = [HOOKS, HOOKS]
            .concat()
            .into_iter()
            .map(|hook| session(&program, hook))
            .collect();
        let plain: Vec<Session> = ALL_HOOKS
            .map(|hook| {
                Session::configured(uapi::Config {
                    flags: hook,
                    ..config(0)
                })
            })
            .into();
        for session in &plain {
            session.add(program.pid()).unwrap();
        }
        program.go();
        program.wait().assert_success();
        let timed: Vec<Timed> = timed.iter().map(finish).collect();
        let first = by_thread(&timed[0]);
        for other in &timed {
            assert_eq!((other.missed, other.without()), (0, 0));
            assert_eq!(by_thread(other), first);
        }
        assert!(timed[0].faults.len() >= 3000);
        for session in plain {
            // A return among these would be one record of an unknown type.
            let recording = session.finish();
            recording.assert_complete();
            assert_eq!(recording.len(), timed[0].faults.len());
        }
    });
}

#[cfg(not(target_arch = "x86_64"))]
#[test]
fn durations_are_refused_where_the_hook_has_none() {
    guest::test(|_| {
        let _module = module::load_idle();
        let session = Session::open().unwrap();
        let mut config = config(session_flag::FTRACE);
        session.with(uapi::FT_IOC_CONFIGURE, &mut config).unwrap();
        let error = session.start().expect_err("there is no such hook");
        assert_eq!(error.raw_os_error(), Some(libc::EOPNOTSUPP));
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("faults.arrows");
        let ours = file.to_str().unwrap();
        let options = ["record", "--latency", "--hook", "ftrace", "-o", ours];
        let said = tool::run(&[&options[..], &["--", "true"]].concat(), 125);
        assert!(said.contains("--hook kprobe"), "{said}");
        assert!(!file.exists());
        // Who names no hook gets the other.
        record(&file, &[], &["true"]);
        for fault in exported(ours) {
            assert!(fault["duration_ns"].parse::<u64>().is_ok(), "{fault:?}");
        }
    });
}

#[test]
fn processes_that_fork_and_execute_have_all_durations() {
    guest::test(|_| {
        let _module = module::load_idle();
        let arguments = ["turmoil", "--threads", "4", "--seed", "5"];
        for &hook in HOOKS {
            let mut program = Program::workload(&arguments, None, None);
            let session = session(&program, hook);
            program.go();
            // Threads are killed: how the first ends is no matter.
            program.wait();
            while session.info().live_targets != 0 {
                thread::yield_now();
            }
            let timed = finish(&session);
            timed.assert_balanced();
            assert_eq!(timed.missed, 0);
            assert!(timed.faults.len() > 500, "{} faults", timed.faults.len());
        }
    });
}

#[test]
fn a_fault_that_sleeps_takes_as_long() {
    const DELAY_MS: u64 = 200;
    guest::test(|_| {
        let _module = module::load_idle();
        let delay = DELAY_MS.to_string();
        for &hook in HOOKS {
            let mut asleep = Asleep::new(&["--threads", "3", "--delay", &delay]);
            let session = session(&asleep.program, hook);
            asleep.fall_asleep();
            asleep.wake_up();
            let timed = finish(&session);
            timed.assert_balanced();
            assert_eq!(timed.missed, 0);
            timed.times_by_thread();
            let long: Vec<_> = timed
                .faults
                .iter()
                .filter(|((_, entry_ns), (fault, end))| {
                    // A file's page that is read in may take as long on a busy machine.
                    fault.flags() & fault_flag::FILE == 0
                        && end.is_some_and(|end| end.time_ns - entry_ns >= DELAY_MS * 1_000_000)
                })
                .collect();
            assert_eq!(long.len(), 3, "one for each thread that slept: {long:?}");
            for ((tid, entry_ns), (fault, end)) in long {
                // It slept in an attempt, and was tried again.
                let result = end.unwrap().result;
                assert_ne!(result & uapi::fault_result::RETRY, 0, "{result:#x}");
                let next = timed.faults.range((*tid, entry_ns + 1)..).next();
                let ((_, next_ns), (next, end)) = next.expect("a further attempt");
                assert_eq!(next.address(), fault.address());
                let tried = next.flags() & fault_flag::TRIED != 0;
                assert!(tried || fault.flags() & fault_flag::VMA_LOCK != 0);
                assert!(end.is_some(), "attempts have durations, too: {next_ns}");
            }
        }
    });
}

#[test]
fn faults_beyond_the_hooks_instances_are_recorded_and_counted() {
    const BEYOND: usize = 100;
    guest::test(|_| {
        let _module = module::load_idle();
        let threads = (INSTANCES + BEYOND).to_string();
        let mut asleep = Asleep::new(&["--threads", &threads]);
        let session = session(&asleep.program, *HOOKS.last().unwrap());
        asleep.fall_asleep();
        assert!(session.info().missed_returns >= BEYOND as u64);
        asleep.wake_up();
        let timed = finish(&session);
        assert!(timed.missed >= BEYOND as u64, "{} missed", timed.missed);
        timed.assert_balanced();
        let with = timed.faults.len() - timed.without();
        assert!(with >= INSTANCES, "{with} have a return");
    });
}

#[test]
fn returns_that_find_the_ring_full_are_counted() {
    guest::test(|_| {
        let _module = module::load_idle();
        for &hook in HOOKS {
            let mut program = Program::workload(&["touch", "--pages", "500"], None, None);
            let session = Session::configured(uapi::Config {
                ring_bytes: guest::page_size() as u64,
                ..config(hook)
            });
            session.add(program.pid()).unwrap();
            program.go();
            program.wait().assert_success();
            session.stop().unwrap();
            let (totals, info) = (session.totals(), session.info());
            assert_eq!(totals.hits, totals.recorded + totals.dropped);
            let mut returns = 0;
            for cpu in 0..info.cpus {
                let words = session.drain_words(cpu);
                let slots = words.chunks_exact(uapi::SLOT_BYTES / 8);
                returns += slots
                    .filter(|slot| uapi::header_type(slot[0]) == record_type::RETURN)
                    .count() as u64;
            }
            // All have ended: what is recorded and has no return was missed.
            assert_eq!(totals.recorded, returns + info.missed_returns);
            assert!(totals.dropped > 0 && returns > 0);
        }
    });
}

#[test]
fn only_sessions_that_ask_get_returns_and_only_while_they_run() {
    const HOOK: &str = "fixup_user_fault";
    guest::test(|_| {
        let _module = module::load_idle();
        let hooked = || module::kprobes().iter().any(|line| line.contains(HOOK));
        let arguments = ["touch", "--pages", "100"];
        for &hook in HOOKS {
            let mut first = Program::workload(&arguments, None, None);
            let plain = Session::running(Setup::default());
            plain.add(first.pid()).unwrap();
            assert!(!hooked(), "{:?}", module::kprobes());
            let timed = session(&first, hook);
            assert!(hooked(), "{:?}", module::kprobes());
            assert_ne!(timed.info().flags & session_flag::LATENCY, 0);
            first.go();
            first.wait().assert_success();
            let timed = finish(&timed);
            assert!(!hooked(), "{:?}", module::kprobes());
            timed.assert_balanced();
            let mut second = Program::workload(&arguments, None, None);
            plain.add(second.pid()).unwrap();
            second.go();
            second.wait().assert_success();
            // A return among these would be one record of an unknown type.
            let plain = plain.finish();
            plain.assert_complete();
            assert!(plain.len() > timed.faults.len());
            // Each hook takes its own time.
            let tids: BTreeSet<u32> = timed.faults.keys().map(|(tid, _)| *tid).collect();
            let mut of_both: Vec<(u32, u64)> = plain
                .in_time_order()
                .iter()
                .filter(|fault| tids.contains(&fault.tid()))
                .map(|fault| (fault.tid(), fault.address()))
                .collect();
            of_both.sort_by_key(|(tid, _)| *tid);
            let timed: Vec<(u32, u64)> = timed
                .faults
                .iter()
                .map(|((tid, _), (fault, _))| (*tid, fault.address()))
                .collect();
            assert_eq!(of_both, timed, "both saw the same faults");
        }
    });
}

#[test]
fn sleeping_faults_outlive_their_session_and_the_module() {
    guest::test(|_| {
        for &hook in HOOKS {
            let module = module::load_idle();
            let mut asleep = Asleep::new(&["--threads", "20"]);
            let first = session(&asleep.program, hook);
            asleep.fall_asleep();
            // Another takes its place, and is not emitted returns from before its time.
            drop(first);
            let second = session(&asleep.program, hook);
            asleep.wake_up();
            let timed = finish(&second);
            timed.assert_balanced();
            drop(second);

            let mut asleep = Asleep::new(&["--threads", "20"]);
            let first = session(&asleep.program, hook);
            asleep.fall_asleep();
            drop(first);
            module.unload().unwrap();
            asleep.wake_up();
            let module = module::load_idle();
            let mut again = Asleep::new(&["--threads", "20"]);
            let second = session(&again.program, hook);
            again.fall_asleep();
            // What still sleeps when a session stops has no duration, and was not missed.
            second.stop().unwrap();
            assert_eq!(second.info().missed_returns, 0);
            again.wake_up();
            drop(second);
            module.unload().unwrap();
        }
    });
}

/// What is emitted each fault of a trace, by name.
fn exported(file: &str) -> Vec<HashMap<String, String>> {
    let text = |(name, value): (String, Value)| match value {
        Value::String(text) => (name, text),
        other => (name, other.to_string()),
    };
    tool::export(file, "jsonl", &[])
        .lines()
        .map(|line| serde_json::from_str::<HashMap<String, Value>>(line).expect("JSON"))
        .map(|row| row.into_iter().map(text).collect())
        .collect()
}

fn record(file: &Path, options: &[&str], command: &[&str]) -> String {
    let file = file.to_str().unwrap();
    tool::run(
        &[
            &["record", "--latency", "-o", file],
            options,
            &["--"],
            command,
        ]
        .concat(),
        0,
    )
}

#[test]
fn record_with_durations_balances_and_tells_of_them() {
    guest::test(|_| {
        let _module = module::load_idle();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("faults.arrows");
        let turmoil = program::find(program::WORKLOAD);
        let turmoil = turmoil.to_str().unwrap();
        let text = record(
            &file,
            &["--ring-kib", "16384"],
            &[turmoil, "turmoil", "--threads", "4", "--seed", "1"],
        );
        assert!(
            text.contains("zero-fill") && text.contains(" median "),
            "{text}"
        );
        assert!(text.contains("; 0 without (0 returns missed)"), "{text}");
        let file = file.to_str().unwrap();
        let text = tool::run(&["verify", file], 0);
        assert!(text.contains("difference 0"), "{text}");
        assert!(text.contains("0 have none; 0 returns missed\n"), "{text}");
        for fault in exported(file) {
            let duration: u64 = fault["duration_ns"].parse().expect("a duration");
            assert!(duration > 0, "{fault:?}");
        }
    });
}

#[test]
fn faults_that_wait_for_the_disk_take_longer() {
    guest::test(|_| {
        let _module = module::load_idle();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("faults.arrows");
        // SAFETY: A call without arguments.
        unsafe { libc::sync() };
        std::fs::write("/proc/sys/vm/drop_caches", "3").unwrap();
        record(&file, &[], &["perl", "-e", "use POSIX; print 1"]);
        // The waiting lies in the attempts before the last: the row of a fault has the time of all.
        let (mut minor, mut major) = (Vec::new(), Vec::new());
        for fault in exported(file.to_str().unwrap()) {
            let duration = fault["duration_ns"].parse::<u64>().expect("a duration");
            match fault["fate"].as_str() {
                "minor" => minor.push(duration),
                "major" => major.push(duration),
                other => assert_ne!(other, "retried"),
            }
        }
        let median = |times: &mut Vec<u64>| {
            times.sort_unstable();
            times[times.len() / 2]
        };
        assert!(minor.len() >= 10 && major.len() >= 3, "{minor:?} {major:?}");
        let (minor, major) = (median(&mut minor), median(&mut major));
        assert!(major > 2 * minor, "major {major} ns, minor {minor} ns");
    });
}
